package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	hangOrgs      = 10 // an org may have only so much under way
	hangEach      = 10 // endpoints of an org that hang
	hangRequests  = 2000
	hangPublished = 22 // events that they hang on: some more than make as many requests
	hangHealthy   = 2  // endpoints of each org that answer
	hangRate      = 20 // events a second, each to all that answer
	hangFor       = 15 * time.Second
)

// hangRow: 2,000 requests hang while endpoints that answer get events: such of the
// orgs whose others hang, and those of one that has none that does. One process,
// first without and then with.
var hangRow = row{
	name: "hang",
	what: fmt.Sprintf("%d requests hang over %d endpoints of %d orgs; %d others, and %d of another org, get %d events/s: publish to receipt",
		hangRequests, hangOrgs*hangEach, hangOrgs, hangOrgs*hangHealthy, hangHealthy, hangRate),
	unasked: "it holds 2,000 connections",
	figures: hang,
}

func hang(ctx context.Context, cfg *Config) ([]figure, error) {
	same, other := newLatencies(), newLatencies()
	r, err := startReceiver(map[string]*latencies{"/same": same, "/other": other})
	if err != nil {
		return nil, err
	}
	defer r.stop()
	p, err := startSown(ctx, cfg, nil, func(s *seed) error { return s.hanging(ctx, "http://"+r.address) })
	if err != nil {
		return nil, err
	}
	defer p.stop()

	// All answer once, so that they are known to be quick: of those that aren't fewer
	// requests are made at once.
	if err := p.publishTo(hangOrgs, "hang.tick", 1, 1); err != nil {
		return nil, err
	}
	if err := r.await(hangOrgs * hangEach); err != nil {
		return nil, err
	}
	r.hangs.Store(true)
	measure := func() (ofSame, ofOther [2]float64, err error) {
		r.got.Store(0)
		same.reset()
		other.reset()
		n := int(hangFor.Seconds()) * hangRate
		if err := p.publishTo(hangOrgs+1, "bench.tick", n, hangRate); err != nil {
			return ofSame, ofOther, err
		}
		err = r.await(int64(n * (hangOrgs + 1) * hangHealthy))
		return [2]float64{ms(same.quantile(50)), ms(same.quantile(99))}, [2]float64{ms(other.quantile(50)), ms(other.quantile(99))}, err
	}
	if _, _, err := measure(); err != nil { // warm
		return nil, err
	}
	sameBefore, otherBefore, err := measure()
	if err != nil {
		return nil, err
	}
	before := p.rssMB()
	if err := p.publishTo(hangOrgs, "hang.tick", hangPublished, 1000); err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); r.hanging.Load() < hangRequests; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("%d requests hang, not %d", r.hanging.Load(), hangRequests)
		}
	}
	began := time.Now()
	sameThen, otherThen, err := measure()
	if err != nil {
		return nil, err
	}
	if took := time.Since(began); took > hangTimeout {
		return nil, fmt.Errorf("it took %s, and requests hang for %s only", took, hangTimeout)
	}
	return []figure{
		{"ms, p50 of those orgs, nothing hangs", sameBefore[0]}, {"ms, p99", sameBefore[1]},
		{"ms, p50 of another org, nothing hangs", otherBefore[0]}, {"ms, p99", otherBefore[1]},
		{"requests hang", float64(r.hanging.Load())},
		{"ms, p50 of those orgs, while they do", sameThen[0]}, {"ms, p99", sameThen[1]}, {"times that without", sameThen[1] / sameBefore[1]},
		{"ms, p50 of another org, while they do", otherThen[0]}, {"ms, p99", otherThen[1]}, {"times that without", otherThen[1] / otherBefore[1]},
		{"RSS MB before", before}, {"RSS MB after", p.rssMB()},
	}, nil
}

// hangTimeout is how long the product waits for an answer.
const hangTimeout = 30 * time.Second

// hanging makes orgs of which some endpoints can hang, and one of which none does.
func (s *seed) hanging(ctx context.Context, url string) error {
	if err := s.orgs(ctx, hangOrgs+1); err != nil {
		return err
	}
	for org := range hangOrgs + 1 {
		path, n := "/same", hangEach
		if org == hangOrgs {
			path, n = "/other", 0
		}
		for range n {
			if _, err := s.endpoint(ctx, org, url+hangPath, "hang.*"); err != nil {
				return err
			}
		}
		for range hangHealthy {
			if _, err := s.endpoint(ctx, org, url+path, "bench.*"); err != nil {
				return err
			}
		}
	}
	return nil
}

// publishTo publishes n events to the first so many orgs, rate a second.
func (p *product) publishTo(orgs int, kind string, n, rate int) error {
	audience := allOrgs(orgs)
	_, err := atPace(rate, times(n), func(due time.Time) error {
		return p.publish(eventTo(nil, kind, due, audience), "application/json")
	})
	return err
}
