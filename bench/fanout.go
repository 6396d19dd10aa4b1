package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/pkg/freeport"
)

const (
	fanoutBytes   = 300 // of one message, without the frame's header
	fanoutWarm    = time.Second
	fanoutMeasure = 4 * time.Second
)

// The fan-out rows: the floor is one thread that writes each message to each
// socket with one write(); the product does the same work over WebSocket, and its
// CPU includes taking each event over HTTP and making it durable. What that alone
// costs is measured first, with nobody to get the events, and told apart.
var (
	fanoutRow  = fanout{name: "fanout", connections: 1000, rate: 100}.asRow()
	wideRow    = fanout{name: "wide", connections: 10_000, rate: 10, unasked: "it holds 10,000 connections"}.asRow()
	fewRow     = fanout{name: "few", connections: 10, rate: 1000}.asRow()
	deflateRow = fanout{name: "deflate", connections: 1000, rate: 100, deflate: true, unasked: "it is fanout with --ws-compression"}.asRow()
)

// fanout is a row in which every event goes to all connections, at a pace.
type fanout struct {
	name, unasked     string
	connections, rate int  // rate is events per second
	events            bool // the product sends them as server-sent events
	deflate           bool // every client inflates
}

func (f fanout) asRow() row {
	what := fmt.Sprintf("%d %s, %d events/s to all, %d bytes", f.connections, f.kind(), f.rate, fanoutBytes)
	if f.deflate {
		what += ", which sluice compresses and the floor doesn't"
	}
	return row{
		name:    f.name,
		what:    what,
		unit:    "CPU-s per million",
		unasked: f.unasked,
		floor:   f.runFloor,
		product: f.runProduct,
	}
}

func (f fanout) kind() string {
	if f.events {
		return "streams of server-sent events"
	}
	return "WebSocket connections"
}

// writeFloor is a floor that writes each message to n sockets.
type writeFloor struct {
	*process
	feed    net.Conn
	clients *population
}

const floorBytes = fanoutBytes + 4 // as much as a frame of a message has

// startWriting starts such a floor, which writes so many messages at a time.
func startWriting(ctx context.Context, cfg *Config, n, together int) (*writeFloor, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "write", address, strconv.Itoa(n), strconv.Itoa(floorBytes), strconv.Itoa(together))
	if err != nil {
		return nil, err
	}
	w := &writeFloor{process: p, clients: newPopulation()}
	if w.feed, err = dialRetrying(address); err != nil {
		w.stop()
		return nil, err
	}
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			w.stop()
			return nil, err
		}
		w.clients.add(conn, bufio.NewReaderSize(conn, 8<<10), nextFixed(floorBytes))
	}
	return w, nil
}

func (w *writeFloor) stop() {
	if w.feed != nil {
		w.feed.Close()
	}
	w.clients.close()
	w.process.stop()
}

// publish has the floor write k messages.
func (w *writeFloor) publish(k int) error {
	messages := make([]byte, 0, k*floorBytes)
	for i := range k {
		messages = append(append(messages, `{"`...), sentMark...)
		messages = appendNow(messages)
		messages = append(messages, bytes.Repeat([]byte("x"), (i+1)*floorBytes-len(messages))...)
	}
	_, err := w.feed.Write(messages)
	return err
}

func (f fanout) runFloor(ctx context.Context, cfg *Config) (sample, error) {
	w, err := startWriting(ctx, cfg, f.connections, 1)
	if err != nil {
		return sample{}, err
	}
	defer w.stop()
	s, _, err := f.measure(w.process, w.clients, func() error { return w.publish(1) })
	return s, err
}

func (f fanout) runProduct(ctx context.Context, cfg *Config) (sample, error) {
	var args []string
	if f.deflate {
		args = []string{"--ws-compression"}
	}
	p, err := startProduct(ctx, cfg, args...)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	pad := fanoutPad
	if f.events {
		pad = ssePad
	}
	publish := func() error { return p.publish(tick(nil, pad), "application/json") }
	_, unheard, err := f.measure(p.process, newPopulation(), publish)
	if err != nil {
		return sample{}, err
	}
	clients, err := f.connect(p)
	defer clients.close()
	if err != nil {
		return sample{}, err
	}
	s, all, err := f.measure(p.process, clients, publish)
	s.apart = s.cpu * (all - unheard) / all
	return s, err
}

// connect connects those who are to have the events.
func (f fanout) connect(p *product) (*population, error) {
	if f.events {
		return p.listen(f.connections)
	}
	return p.subscribeTo("*", f.connections, f.deflate)
}

// subscribe connects n clients, subscribed to everything.
func (p *product) subscribe(n int) (*population, error) { return p.subscribeTo("*", n, false) }

// subscribeTo connects n clients, subscribed to events of these types. Those that
// deflate get compressed what sluice compresses.
func (p *product) subscribeTo(types string, n int, deflate bool) (*population, error) {
	clients := newPopulation()
	for i := range n {
		var offers []string
		next := nextFrame
		if deflate {
			offers, next = []string{offerDeflate}, nextDeflated(i == 0)
		}
		conn, r, err := dialSubscribe(p.ws, p.key, `{"type":"subscribe","channels":["`+types+`"]}`, offers...)
		if err != nil {
			return clients, err
		}
		clients.add(conn, r, next)
	}
	return clients, nil
}

// The envelope around data takes 168 bytes; the padding fills the rest.
var fanoutPad = strings.Repeat("x", fanoutBytes-168)

// tick appends an event as it is published, with a padding.
func tick(dst []byte, pad string) []byte {
	dst = append(append(dst, `{"type":"bench.tick","data":{`...), sentMark...)
	dst = appendNow(dst)
	return append(append(append(dst, `","pad":"`...), pad...), `"}}`...)
}

// published bounds how many events are on their way to the log at once.
const published = 64

// measure publishes at the row's rate and reads the CPU clock around the time
// after the warm-up; all is the CPU time that this took, in seconds.
func (f fanout) measure(p *process, clients *population, publish func() error) (s sample, all float64, err error) {
	run := func(d time.Duration) error { return clients.hear(f.rate, d, publish) }
	if err := run(fanoutWarm); err != nil {
		return sample{}, 0, err
	}
	clients.latency.reset()
	before, err := p.cpu()
	if err != nil {
		return sample{}, 0, err
	}
	begun, eventsBefore := time.Now(), clients.events.Load()
	if err := run(fanoutMeasure); err != nil {
		return sample{}, 0, err
	}
	after, err := p.cpu()
	events := float64(clients.events.Load() - eventsBefore)
	return sample{
		cpu:   (after - before) / events * 1e6,
		rate:  events / time.Since(begun).Seconds(),
		p50:   clients.latency.quantile(50),
		p99:   clients.latency.quantile(99),
		rssMB: p.rssMB(),
	}, after - before, err
}

// hear publishes so many events a second, and waits until everybody has them.
func (p *population) hear(rate int, d time.Duration, publish func() error) error {
	var under errgroup.Group
	under.SetLimit(published)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); p.owed += int64(len(p.conns)) {
		<-tick.C
		under.Go(publish)
	}
	if err := under.Wait(); err != nil {
		return err
	}
	return p.await(p.owed)
}

func (p *product) publish(body []byte, contentType string) error {
	return p.post("/v1/events", body, contentType, http.StatusAccepted)
}

// post sends a request of the product's API, over a kept connection.
func (p *product) post(path string, body []byte, contentType string, want int) error {
	_, err := p.call(http.MethodPost, path, body, contentType, want)
	return err
}

// publisher keeps as many connections as it has requests under way: a new one would
// have to wait behind whoever else comes.
var publisher = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: published}}

// call is post with any method, for whom the answer matters.
func (p *product) call(method, path string, body []byte, contentType string, want int) (answer []byte, err error) {
	req, err := http.NewRequest(method, p.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	r, err := publisher.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if answer, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	if r.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, r.Status, answer)
	}
	return answer, nil
}

func dialRetrying(address string) (net.Conn, error) {
	var err error
	for range 100 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}
