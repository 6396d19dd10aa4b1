package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

const (
	retriesDue    = 1_000_000
	retriesOrgs   = 10
	retriesEach   = 10 // endpoints of an org
	retriesBatch  = 5000
	retriesDelay  = 5 * time.Minute  // of the tier in which they lie
	retriesAfter  = 90 * time.Second // from when they are logged until they are due
	retriesRate   = 20               // events a second, to the endpoints of another org
	retriesOther  = 10               // endpoints of that
	retriesWithin = 20 * time.Minute // until all have come
)

// retriesRow: a million deliveries failed once and are due again at one instant,
// while first attempts of another org's events go out. The tier they wait in is in
// the log in --data.
var retriesRow = row{
	name: "retries",
	what: fmt.Sprintf("%d retries to %d endpoints are due at one instant; %d endpoints of another org get %d events/s: publish to receipt",
		retriesDue, retriesOrgs*retriesEach, retriesOther, retriesRate),
	unasked: "a round takes minutes",
	figures: retries,
}

func retries(ctx context.Context, cfg *Config) ([]figure, error) {
	first := newLatencies()
	r, err := startReceiver(map[string]*latencies{"/first": first})
	if err != nil {
		return nil, err
	}
	defer r.stop()
	var due time.Time
	tier := eventlog.Topic{Name: delivery.Tier(retriesDelay), Partitions: delivery.Lanes}
	p, err := startSown(ctx, cfg, []eventlog.Topic{tier}, func(s *seed) (err error) {
		due, err = s.retries(ctx, tier.Name, "http://"+r.address)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if left := time.Until(due); left < 10*time.Second {
		return nil, fmt.Errorf("it was ready %s before the retries are due: the machine is too slow for this row", left)
	}
	ready := p.rssMB()
	audience := []byte(`["` + orgID(retriesOrgs) + `"]`)
	publish := func(more func(sent int) bool) (came int64, err error) {
		r.got.Store(0)
		first.reset()
		sent, err := atPace(retriesRate, more, func(due time.Time) error {
			return p.publish(eventTo(nil, "bench.tick", due, audience), "application/json")
		})
		return int64(sent) * retriesOther, err
	}
	alone, err := publish(func(int) bool { return time.Until(due) > time.Second })
	if err != nil {
		return nil, err
	}
	if err := r.await(alone); err != nil {
		return nil, err
	}
	p50, p99 := ms(first.quantile(50)), ms(first.quantile(99))
	time.Sleep(time.Until(due))
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	peak := p.watchMemory()
	beside, err := publish(func(int) bool {
		return r.got.Load()-first.count() < retriesDue && time.Since(due) < retriesWithin
	})
	took := time.Since(due)
	most := peak()
	if err != nil {
		return nil, err
	}
	if err := r.await(retriesDue + beside); err != nil {
		return nil, err
	}
	after, err := p.cpu()
	return []figure{
		{"ms, p50 of first attempts, no retries are due", p50}, {"ms, p99", p99},
		{"ms, p50 while they are", ms(first.quantile(50))}, {"ms, p99", ms(first.quantile(99))},
		{"s until all retries were made", took.Seconds()},
		{"CPU-s per thousand requests", (after - before) / float64(retriesDue+beside) * 1000},
		{"RSS MB when it is ready", ready}, {"RSS MB at most", most}, {"RSS MB after it", p.rssMB()},
	}, err
}

// retries makes the endpoints and logs what failed once.
func (s *seed) retries(ctx context.Context, topic, url string) (due time.Time, err error) {
	if err := s.orgs(ctx, retriesOrgs+1); err != nil {
		return due, err
	}
	var ids []string
	for org := range retriesOrgs {
		for range retriesEach {
			id, err := s.endpoint(ctx, org, url+"/again", "again.*")
			if err != nil {
				return due, err
			}
			ids = append(ids, id)
		}
	}
	for range retriesOther {
		if _, err := s.endpoint(ctx, retriesOrgs, url+"/first", "bench.*"); err != nil {
			return due, err
		}
	}
	began := time.Now()
	due = began.Add(retriesAfter)
	data := []byte(`{"pad":"` + strings.Repeat("x", webhookBytes-107) + `"}`)
	return due, inParallel(ctx, s.out, "retries", retriesDue, 2, retriesBatch, func(from, to int) error {
		records := make([]eventlog.Record, 0, to-from)
		for i := from; i < to; i++ {
			n := i % len(ids)
			ev := event.Event{ID: event.NewID(began), Type: "again.tick", Timestamp: began.UTC(), Environment: s.env, Org: orgID(n / retriesEach), Offset: int64(i), Data: data}
			d := delivery.New(&ev, ids[n], 0)
			d.First, d.Attempts, d.Due, d.FirstFail = false, 1, due, began
			records = append(records, eventlog.Record{
				Partition: eventlog.Partition{Topic: topic, Number: delivery.Lane(ids[n])}, Key: []byte(ids[n]), Value: d.AppendRecord(nil)})
		}
		_, err := s.log.Append(ctx, records)
		return err
	})
}
