package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/pkg/freeport"
)

const (
	receiptRate   = 50 // events per second
	receiptEvents = 500
	receiptWarm   = 50
)

// receiptRow: from when an event was due to be published until its receiver has it.
// The floor answers for a body once it is synced, then signs and POSTs it.
var receiptRow = row{
	name: "receipt",
	what: fmt.Sprintf("%d events a second to one endpoint, %d bytes; latency from when each was due to be published until it came", receiptRate, webhookBytes),
	unit: "CPU-s per thousand",
	floor: func(ctx context.Context, cfg *Config) (sample, error) {
		return receipt(func(url string) (*process, func([]byte) error, error) {
			address, err := freeport.Address()
			if err != nil {
				return nil, nil, err
			}
			p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "relay", address, "0", strconv.Itoa(webhookBytes), url)
			if err != nil {
				return nil, nil, err
			}
			conn, err := dialRetrying(address)
			if err != nil {
				p.stop()
				return nil, nil, err
			}
			conn.Close()
			taker := &product{process: p, url: "http://" + address}
			return p, func(body []byte) error { return taker.publish(body, "application/json") }, nil
		})
	},
	product: func(ctx context.Context, cfg *Config) (sample, error) {
		return receipt(func(url string) (*process, func([]byte) error, error) {
			p, err := startProduct(ctx, cfg)
			if err != nil {
				return nil, nil, err
			}
			if err := p.register(url); err != nil {
				p.stop()
				return nil, nil, err
			}
			return p.process, func(body []byte) error { return p.publish(body, "application/json") }, nil
		})
	},
}

// receipt measures what begin starts, which sends to the URL what it is published.
func receipt(begin func(url string) (*process, func(body []byte) error, error)) (sample, error) {
	took := newLatencies()
	r, err := startReceiver(map[string]*latencies{"/hook": took})
	if err != nil {
		return sample{}, err
	}
	defer r.stop()
	p, publish, err := begin("http://" + r.address + "/hook")
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	run := func(n int) error {
		r.got.Store(0)
		took.reset()
		if _, err := atPace(receiptRate, times(n), func(due time.Time) error { return publish(hook(nil, due)) }); err != nil {
			return err
		}
		return r.await(int64(n))
	}
	if err := run(receiptWarm); err != nil {
		return sample{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	if err := run(receiptEvents); err != nil {
		return sample{}, err
	}
	after, err := p.cpu()
	return sample{
		cpu:   (after - before) / receiptEvents * 1000,
		rate:  receiptEvents / time.Since(begun).Seconds(),
		p50:   took.quantile(50),
		p99:   took.quantile(99),
		rssMB: p.rssMB(),
	}, err
}

// atPace calls publish rate times a second, each time when it is due, as long as
// there is more; whoever answers late doesn't have the next wait. It gives how often
// it did.
func atPace(rate int, more func(sent int) bool, publish func(due time.Time) error) (sent int, err error) {
	var under errgroup.Group
	under.SetLimit(published)
	for begun := time.Now(); more(sent); sent++ {
		due := begun.Add(time.Duration(sent) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		under.Go(func() error { return publish(due) })
	}
	return sent, under.Wait()
}

// times has atPace send so many.
func times(n int) func(sent int) bool { return func(sent int) bool { return sent < n } }
