package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	saturateConnections = 1000
	saturateBatch       = 64 // events published together
	saturateAhead       = 2  // such batches on their way: less than a client's queue holds, so that nothing is lost
	saturateTogether    = 16 // messages that the floor writes at a time
	saturateWarm        = 20 // batches
	saturateBatches     = 150
)

// saturateRow: as many events as get through to everybody. The floor is one
// thread that writes 16 messages with one write().
var saturateRow = row{
	name: "saturate",
	what: fmt.Sprintf("%d WebSocket connections, events of %d bytes to all as fast as they arrive, %d at most under way; the floor writes %d at a time",
		saturateConnections, fanoutBytes, saturateAhead*saturateBatch, saturateTogether),
	unit: "CPU-s per million",
	floor: func(ctx context.Context, cfg *Config) (sample, error) {
		w, err := startWriting(ctx, cfg, saturateConnections, saturateTogether)
		if err != nil {
			return sample{}, err
		}
		defer w.stop()
		return saturate(w.process, w.clients, func() error { return w.publish(saturateBatch) })
	},
	product: func(ctx context.Context, cfg *Config) (sample, error) {
		p, err := startProduct(ctx, cfg)
		if err != nil {
			return sample{}, err
		}
		defer p.stop()
		clients, err := p.subscribe(saturateConnections)
		defer clients.close()
		if err != nil {
			return sample{}, err
		}
		return saturate(p.process, clients, func() error {
			var lines []byte
			for range saturateBatch {
				lines = append(tick(lines, fanoutPad), '\n')
			}
			return p.publish(lines, "application/x-ndjson")
		})
	},
}

// saturate publishes a batch whenever an earlier one has come to everybody.
func saturate(p *process, clients *population, publish func() error) (sample, error) {
	const all = saturateBatch * saturateConnections
	batches := 0
	run := func(n int) error {
		for range n {
			if err := clients.await(int64(batches-saturateAhead+1) * all); err != nil {
				return err
			}
			if err := publish(); err != nil {
				return err
			}
			batches++
		}
		return clients.await(int64(batches) * all)
	}
	if err := run(saturateWarm); err != nil {
		return sample{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	if err := run(saturateBatches); err != nil {
		return sample{}, err
	}
	after, err := p.cpu()
	const events = saturateBatches * all
	return sample{
		cpu:   (after - before) / events * 1e6,
		rate:  events / time.Since(begun).Seconds(),
		rssMB: p.rssMB(),
	}, err
}
