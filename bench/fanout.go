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
)

const (
	fanoutConnections = 1000
	fanoutRate        = 100 // events per second
	fanoutBytes       = 300 // of one message, without the frame's header
	fanoutWarm        = 2 * time.Second
	fanoutMeasure     = 6 * time.Second
)

// fanoutRow: the floor is one thread that writes each message to each socket
// with one write(); the product does the same work over WebSocket, and its CPU
// includes taking each event over HTTP and making it durable.
var fanoutRow = row{
	name:    "fanout",
	what:    fmt.Sprintf("%d WebSocket connections, %d events/s to all, %d bytes", fanoutConnections, fanoutRate, fanoutBytes),
	unit:    "CPU-s per million",
	floor:   fanoutFloor,
	product: fanoutProduct,
}

func fanoutFloor(ctx context.Context, cfg *Config) (sample, error) {
	address, err := freeAddress()
	if err != nil {
		return sample{}, err
	}
	const size = fanoutBytes + 4
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "write", address, strconv.Itoa(fanoutConnections), strconv.Itoa(size))
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	feed, err := dialRetrying(address)
	if err != nil {
		return sample{}, err
	}
	defer feed.Close()
	clients := newPopulation()
	defer clients.close()
	for range fanoutConnections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return sample{}, err
		}
		clients.add(conn, bufio.NewReaderSize(conn, 8<<10), nextFixed(size))
	}
	message := make([]byte, 0, size)
	return measureFanout(p, clients, func() error {
		message = append(append(message[:0], `{"`...), sentMark...)
		message = appendNow(message)
		message = append(message, bytes.Repeat([]byte("x"), size-len(message))...)
		_, err := feed.Write(message)
		return err
	})
}

func fanoutProduct(ctx context.Context, cfg *Config) (sample, error) {
	p, err := startProduct(ctx, cfg.Binary)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	clients := newPopulation()
	defer clients.close()
	for range fanoutConnections {
		conn, r, err := dialWebSocket(p.ws, p.key)
		if err != nil {
			return sample{}, err
		}
		clients.add(conn, r, nextFrame)
	}
	// The envelope around data takes 168 bytes; the padding fills the rest.
	pad := strings.Repeat("x", fanoutBytes-168)
	return measureFanout(p.process, clients, func() error {
		body := append([]byte(`{"type":"bench.tick","data":{`), sentMark...)
		body = appendNow(body)
		body = append(body, `","pad":"`+pad+`"}}`...)
		return p.publish(body, "application/json")
	})
}

// measureFanout publishes at the row's rate and reads the CPU clock around the
// time after the warm-up.
func measureFanout(p *process, clients *population, publish func() error) (sample, error) {
	sent, failed := 0, error(nil)
	run := func(d time.Duration) {
		tick := time.NewTicker(time.Second / fanoutRate)
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end) && failed == nil; sent++ {
			<-tick.C
			failed = publish()
		}
	}
	run(fanoutWarm)
	if failed == nil {
		failed = clients.await(int64(sent) * fanoutConnections)
	}
	if failed != nil {
		return sample{}, failed
	}
	clients.latencyM.Lock()
	clients.latency.Reset()
	clients.latencyM.Unlock()
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	begun, eventsBefore := time.Now(), clients.events.Load()
	run(fanoutMeasure)
	if failed == nil {
		failed = clients.await(int64(sent) * fanoutConnections)
	}
	if failed != nil {
		return sample{}, failed
	}
	after, err := p.cpu()
	events := float64(clients.events.Load() - eventsBefore)
	return sample{
		cpu:   (after - before) / events * 1e6,
		rate:  events / time.Since(begun).Seconds(),
		p50:   clients.quantile(50),
		p99:   clients.quantile(99),
		rssMB: p.rssMB(),
	}, err
}

func (p *product) publish(body []byte, contentType string) error {
	return p.post("/v1/events", body, contentType, http.StatusAccepted)
}

// post sends a request of the product's API, over a kept connection.
func (p *product) post(path string, body []byte, contentType string, want int) error {
	_, err := p.call(http.MethodPost, path, body, contentType, want)
	return err
}

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
	r, err := http.DefaultClient.Do(req)
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
