package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sluice/pkg/freeport"
)

// Start says how much there is when the row start begins.
type Start struct {
	Endpoints int    // in orgs of 500
	Events    int    // logged before; a bench.tick for each org in turn
	Dir       string // where it is filled, and kept for the next time; empty: a directory that is removed at the end
}

const (
	startOrgSize = 500             // endpoints of one org
	startTraffic = 50_000          // events published before the process is killed
	startIdle    = 4 * time.Minute // without work; for most of it the log is read through, as after every start
	startWithin  = 2 * time.Minute // until it is ready; the first start on a log finds ten million events new
)

// startRow: the floor opens the same directory and reads the bytes of the same
// snapshot; the product must know every endpoint and its place in everything.
// Each round starts it twice, after an orderly stop and after kill -9.
var startRow = row{
	name:    "start",
	what:    "exec to ready over a log that has events and endpoints; p50 is the time to ready",
	unit:    "CPU-s per start",
	unasked: "a round takes minutes, and filling its log some more",
	prepare: fillStart,
	floor:   startFloor,
	product: startProductRow,
}

func startFloor(ctx context.Context, cfg *Config) (sample, error) {
	address, err := freeport.Address()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "open", address, "0", "0", filepath.Join(cfg.Start.Dir, "data"))
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	if err := p.awaitReady(ctx, address, startWithin); err != nil {
		return sample{}, err
	}
	ready := time.Since(begun)
	cpu, err := p.cpu()
	return sample{cpu: cpu, rate: 1 / ready.Seconds(), p50: ready, rssMB: p.rssMB(), more: []figure{{"MB read", p.readMB()}}}, err
}

func startProductRow(ctx context.Context, cfg *Config) (s sample, err error) {
	data := filepath.Join(cfg.Start.Dir, "data")
	token, err := os.ReadFile(filepath.Join(cfg.Start.Dir, keyFile))
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	p, err := serve(ctx, cfg, data, string(token), startWithin)
	if err != nil {
		return sample{}, err
	}
	defer func() { p.stop() }()
	ready := time.Since(begun)
	cpu, err := p.cpu()
	s = sample{cpu: cpu, rate: 1 / ready.Seconds(), p50: ready, rssMB: p.rssMB()}
	note := func(name string, value float64) { s.more = append(s.more, figure{name, value}) }
	note("MB read", p.readMB())
	note("events fanned out again", p.metric("sluice_fanout_events_total"))
	if err != nil {
		return s, err
	}
	frame, delivery, err := p.firstEvent()
	if err != nil {
		return s, err
	}
	note("ms to the first frame", float64(frame.Microseconds())/1000)
	note("ms to the first delivery", float64(delivery.Microseconds())/1000)

	if err := p.idle(ctx, startIdle-time.Minute, note); err != nil {
		return s, err
	}
	if err := p.idle(ctx, time.Minute, note); err != nil {
		return s, err
	}
	traffic := ingest{events: startTraffic, perRequest: 1}
	if _, _, err := traffic.publish(p.url+"/v1/events", p.key, startTraffic); err != nil {
		return s, err
	}
	note("RSS MB after traffic", p.rssMB())

	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
	begun = time.Now()
	again, err := serve(ctx, cfg, data, string(token), startWithin)
	if err != nil {
		return s, err
	}
	p = again // the deferred stop is its
	note("s to ready after kill -9", time.Since(begun).Seconds())
	note("events fanned out again then", p.metric("sluice_fanout_events_total"))
	return s, nil
}

// idle waits, and notes the memory that is held then and the CPU time that it took.
func (p *product) idle(ctx context.Context, long time.Duration, note func(string, float64)) error {
	before, err := p.cpu()
	if err != nil {
		return err
	}
	select {
	case <-time.After(long):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := p.cpu()
	note(fmt.Sprintf("CPU-s in %s without work", long), after-before)
	note("RSS MB after it", p.rssMB())
	return err
}

// firstEvent publishes one event to a stream and to an endpoint, which it makes
// and takes away, and says when each has it; 30 s stand for never.
func (p *product) firstEvent() (frame, delivery time.Duration, err error) {
	r, err := startReceiver(nil)
	if err != nil {
		return 0, 0, err
	}
	defer r.stop()
	conn, in, err := dialWebSocket(p.ws, p.key)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	made, err := p.call(http.MethodPost, "/v1/webhooks", []byte(`{"url":"http://`+r.address+`/hook","events":["bench.first"]}`), "application/json", 201)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	framed := make(chan error, 1)
	go func() {
		err := awaitFrame(conn, in, `"bench.first"`)
		frame = time.Since(begun)
		framed <- err
	}()
	if err := p.publish([]byte(`{"type":"bench.first","data":{}}`), "application/json"); err != nil {
		return 0, 0, err
	}
	for r.got.Load() == 0 && time.Since(begun) < 30*time.Second {
		time.Sleep(100 * time.Microsecond)
	}
	delivery = time.Since(begun)
	if err := <-framed; err != nil {
		return 0, 0, err
	}
	_, id, _ := bytes.Cut(made, []byte(`"id":"`))
	id, _, _ = bytes.Cut(id, []byte(`"`))
	_, err = p.call(http.MethodDelete, "/v1/webhooks/"+string(id), nil, "", 204)
	return frame, delivery, err
}

// awaitFrame reads frames until one has the text.
func awaitFrame(conn net.Conn, in *bufio.Reader, text string) error {
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		frame, err := nextFrame(in)
		if err != nil {
			return err
		}
		if bytes.Contains(frame, []byte(text)) {
			return nil
		}
	}
}
