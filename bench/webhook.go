package bench

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	webhookDeliveries = 30_000
	webhookBytes      = 500
	webhookBatch      = 500
	webhookBacklog    = 4000 // events published and not yet received, at most
)

// webhookRow: the floor is a bare client that signs the same bodies and POSTs
// them over kept connections; the product's CPU includes taking the events over
// HTTP, the log, fan-out and the journal.
var webhookRow = row{
	name:    "webhook",
	what:    fmt.Sprintf("%d deliveries to one endpoint, %d bytes", webhookDeliveries, webhookBytes),
	unit:    "CPU-s per thousand",
	floor:   webhookFloor,
	product: webhookProduct,
}

// receiver answers 200 at once and counts.
type receiver struct {
	server  fasthttp.Server
	address string
	got     atomic.Int64
}

func startReceiver() (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{address: ln.Addr().String()}
	r.server.Handler = func(*fasthttp.RequestCtx) { r.got.Add(1) }
	go r.server.Serve(ln)
	return r, nil
}

func (r *receiver) await(n int64) error {
	last, idle := int64(-1), 0
	for r.got.Load() < n {
		if got := r.got.Load(); got != last {
			last, idle = got, 0
		} else if idle++; idle > 3000 {
			return fmt.Errorf("%d of %d deliveries came", got, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func webhookFloor(ctx context.Context, cfg *Config) (sample, error) {
	r, err := startReceiver()
	if err != nil {
		return sample{}, err
	}
	defer r.server.Shutdown()
	begun := time.Now()
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "post", r.address, strconv.Itoa(webhookDeliveries), strconv.Itoa(webhookBytes))
	if err != nil {
		return sample{}, err
	}
	if err := r.await(webhookDeliveries); err != nil {
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
	return sample{cpu: used.Seconds() / webhookDeliveries * 1000, rate: webhookDeliveries / took.Seconds(), rssMB: rss}, nil
}

func webhookProduct(ctx context.Context, cfg *Config) (sample, error) {
	r, err := startReceiver()
	if err != nil {
		return sample{}, err
	}
	defer r.server.Shutdown()
	p, err := startProduct(ctx, cfg.Binary)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	if err := p.post("/v1/webhooks", []byte(`{"url":"http://`+r.address+`/hook","events":["bench.*"]}`), "application/json", 201); err != nil {
		return sample{}, err
	}
	// The envelope around data takes 107 bytes; the padding fills the rest.
	event := `{"type":"bench.tick","data":{"pad":"` + strings.Repeat("x", webhookBytes-107) + "\"}}\n"
	publish := func(n int) error {
		for done := 0; done < n; done += webhookBatch {
			var body []byte
			for range webhookBatch {
				body = append(body, event...)
			}
			if err := p.publish(body, "application/x-ndjson"); err != nil {
				return err
			}
			// Enough is waiting that the dispatcher never idles, and not more.
			if behind := int64(done+webhookBatch) - webhookBacklog; behind > 0 {
				if err := r.await(behind); err != nil {
					return err
				}
			}
		}
		return nil
	}
	const warm = webhookDeliveries / 10
	if err := publish(warm); err != nil {
		return sample{}, err
	}
	if err := r.await(warm); err != nil {
		return sample{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	r.got.Store(0)
	begun := time.Now()
	if err := publish(webhookDeliveries); err != nil {
		return sample{}, err
	}
	if err := r.await(webhookDeliveries); err != nil {
		return sample{}, err
	}
	took := time.Since(begun)
	after, err := p.cpu()
	return sample{cpu: (after - before) / webhookDeliveries * 1000, rate: webhookDeliveries / took.Seconds(), rssMB: p.rssMB()}, err
}
