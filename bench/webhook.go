package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const webhookBytes = 500 // of a body

// The webhook rows: the floor is a bare client that signs the same bodies and POSTs
// them over kept connections; the product's CPU includes taking the events over
// HTTP, the log, fan-out, the journal and the list of deliveries. The rate is that
// of this machine with publisher and receiver on it.
var (
	webhookRow = webhook{name: "webhook", endpoints: 1, events: 30_000, perRequest: 250, ahead: 750}.asRow()
	spreadRow  = webhook{name: "spread", endpoints: 100, events: 600, perRequest: 5, ahead: 40}.asRow()
)

// webhook is a row in which every event goes to all endpoints, as fast as it goes.
type webhook struct {
	name               string
	endpoints          int
	events, perRequest int
	ahead              int // events that haven't come to everybody, at most
}

func (w webhook) asRow() row {
	return row{
		name:    w.name,
		what:    fmt.Sprintf("%d deliveries of %d bytes, each event to %d endpoints, %d events a request", w.deliveries(), webhookBytes, w.endpoints, w.perRequest),
		unit:    "CPU-s per thousand",
		floor:   w.runFloor,
		product: w.runProduct,
	}
}

func (w webhook) deliveries() int { return w.events * w.endpoints }

func (w webhook) runFloor(ctx context.Context, cfg *Config) (sample, error) {
	r, err := startReceiver(nil)
	if err != nil {
		return sample{}, err
	}
	defer r.stop()
	n := w.deliveries()
	begun := time.Now()
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "post", r.address, strconv.Itoa(n), strconv.Itoa(webhookBytes))
	if err != nil {
		return sample{}, err
	}
	if err := r.await(int64(n)); err != nil {
		p.stop()
		return sample{}, err
	}
	took := time.Since(begun)
	rss := p.rssMB()
	// The child has done its work and ends by itself; the kernel tells what it used.
	if err := p.cmd.Wait(); err != nil {
		return sample{}, fmt.Errorf("floor ended: %w: %s", err, p.stderr.String())
	}
	used := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	return sample{cpu: used.Seconds() / float64(n) * 1000, rate: float64(n) / took.Seconds(), rssMB: rss}, nil
}

func (w webhook) runProduct(ctx context.Context, cfg *Config) (sample, error) {
	r, err := startReceiver(nil)
	if err != nil {
		return sample{}, err
	}
	defer r.stop()
	p, err := startProduct(ctx, cfg)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	for i := range w.endpoints {
		if err := p.register(fmt.Sprintf("http://%s/hook/%d", r.address, i)); err != nil {
			return sample{}, err
		}
	}
	if err := w.publish(p, r, w.events/10); err != nil {
		return sample{}, err
	}
	r.got.Store(0)
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	if err := w.publish(p, r, w.events); err != nil {
		return sample{}, err
	}
	took := time.Since(begun)
	after, err := p.cpu()
	n := float64(w.deliveries())
	return sample{cpu: (after - before) / n * 1000, rate: n / took.Seconds(), rssMB: p.rssMB()}, err
}

// publish publishes n events and waits for their deliveries. So many are on their
// way that the dispatcher never idles, and no more than it keeps in memory.
func (w webhook) publish(p *product, r *receiver, n int) error {
	for done := 0; done < n; done += w.perRequest {
		var body []byte
		for range w.perRequest {
			body = append(hook(body, time.Now()), '\n')
		}
		if err := p.publish(body, "application/x-ndjson"); err != nil {
			return err
		}
		if behind := done + w.perRequest - w.ahead; behind > 0 {
			if err := r.await(int64(behind * w.endpoints)); err != nil {
				return err
			}
		}
	}
	return r.await(int64(n) * int64(w.endpoints))
}

// register makes an endpoint that gets every bench event.
func (p *product) register(url string) error {
	return p.post("/v1/webhooks", []byte(`{"url":"`+url+`","events":["bench.*"]}`), "application/json", 201)
}

// What stands around the padding takes 132 bytes of a body.
var hookPad = strings.Repeat("x", webhookBytes-132)

// hook appends an event that comes as a body of webhookBytes.
func hook(dst []byte, sent time.Time) []byte { return eventTo(dst, "bench.tick", sent, nil) }

// eventTo is hook with another type, for other orgs than the publisher's own unless
// audience is nil.
func eventTo(dst []byte, kind string, sent time.Time, audience []byte) []byte {
	dst = append(append(append(dst, `{"type":"`...), kind...), '"')
	if audience != nil {
		dst = append(append(dst, `,"audience":`...), audience...)
	}
	dst = append(append(dst, `,"data":{`...), sentMark...)
	dst = appendSent(dst, sent)
	return append(append(append(dst, `","pad":"`...), hookPad...), `"}}`...)
}
