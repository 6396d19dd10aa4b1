package bench

import (
	"context"
	"fmt"
	"time"
)

const manyOrgSize = 500 // endpoints of one org

// manyRow: each of many endpoints gets an event of its own, and then all of them get
// one and the same.
var manyRow = row{
	name:    "many",
	what:    fmt.Sprintf("endpoints, in orgs of %d: an event to each, and then one event to all", manyOrgSize),
	unasked: "it makes 100,000 endpoints",
	figures: many,
}

func many(ctx context.Context, cfg *Config) ([]figure, error) {
	r, err := startReceiver(nil)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	n := cfg.Start.Endpoints
	orgs := (n + manyOrgSize - 1) / manyOrgSize
	p, err := startSown(ctx, cfg, nil, func(s *seed) error {
		if err := s.orgs(ctx, orgs); err != nil {
			return err
		}
		return inParallel(ctx, s.out, "endpoints", n, 128, 1, func(from, _ int) error {
			_, err := s.endpoint(ctx, from/manyOrgSize, fmt.Sprintf("http://%s/%d", r.address, from),
				fmt.Sprintf("kind%d.tick", from%manyOrgSize), "bench.tick")
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	defer p.stop()
	figures := []figure{{"RSS MB when it is ready", p.rssMB()}}
	for _, step := range []struct {
		what    string
		publish func() error
	}{
		{"an event to each", func() error { return p.publishEach(n, orgs) }},
		{"one event to all", func() error { return p.publishTo(orgs, "bench.tick", 1, 1) }},
	} {
		r.got.Store(0)
		before, err := p.cpu()
		if err != nil {
			return nil, err
		}
		begun, peak := time.Now(), p.watchMemory()
		if err := step.publish(); err != nil {
			return nil, err
		}
		if err := r.await(int64(n)); err != nil {
			return nil, err
		}
		took, most := time.Since(begun), peak()
		after, err := p.cpu()
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{"s until all had " + step.what, took.Seconds()}, figure{"RSS MB at most", most},
			figure{"CPU-s per thousand", (after - before) / float64(n) * 1000})
	}
	return figures, nil
}

// publishEach publishes an event for each endpoint, those of an org together.
func (p *product) publishEach(n, orgs int) error {
	for org := range orgs {
		var body []byte
		audience := []byte(`["` + orgID(org) + `"]`)
		for i := range min(manyOrgSize, n-org*manyOrgSize) {
			body = append(eventTo(body, fmt.Sprintf("kind%d.tick", i), time.Now(), audience), '\n')
		}
		if err := p.publish(body, "application/x-ndjson"); err != nil {
			return err
		}
	}
	return nil
}

// watchMemory looks at the process's memory ten times a second, until peak is
// called, which gives the most that it saw.
func (p *process) watchMemory() (peak func() float64) {
	end, seen := make(chan struct{}), make(chan float64)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for most := p.rssMB(); ; {
			select {
			case <-tick.C:
				most = max(most, p.rssMB())
			case <-end:
				seen <- max(most, p.rssMB())
				return
			}
		}
	}()
	return func() float64 { close(end); return <-seen }
}
