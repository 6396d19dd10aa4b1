package dispatcher_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// gauge gives the largest value of a metric, over its labels, and how many there
// are.
func gauge(t *testing.T, from *prometheus.Registry, name string) (largest float64, series int) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				largest = max(largest, m.GetGauge().GetValue())
				series++
			}
		}
	}
	return largest, series
}

// stuck is a log whose appends to a topic wait.
type stuck struct {
	eventlog.Log
	topic atomic.Value // string
}

func (s *stuck) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	for len(records) > 0 && records[0].Topic == s.topic.Load() {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Log.Append(ctx, records)
}

// Ages grow while something stands still that should move, wherever that is, and
// are 0 when nothing is owed; what is held for a dead endpoint is none of it.
func TestAges(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		registry := prometheus.NewRegistry()
		w.metrics = registry
		log := &stuck{Log: w.log}
		log.topic.Store("")
		w.endpoint("http://well")
		hanging := w.endpoint("http://hanging")
		w.answers(hanging.URL, delivery.Outcome{Class: delivery.Timeout, Took: 30 * time.Second}, ok)
		w.startOn(log, true)
		// What the age of that name lies between.
		between := func(when, name string, low, high float64) {
			t.Helper()
			if got, n := gauge(t, registry, name); got < low || got > high || n == 0 {
				t.Errorf("%s: %s is %v of %d, not from %v to %v", when, name, got, n, low, high)
			}
		}
		if _, n := gauge(t, registry, "sluice_lane_lag_seconds"); n != delivery.Lanes {
			t.Errorf("%d lanes are shown", n)
		}
		w.publish(1)
		sleep(20 * time.Second)
		between("while an endpoint hangs", "sluice_lane_oldest_seconds", 15, 20)
		between("while an endpoint hangs", "sluice_lane_lag_seconds", 0, 0)
		sleep(10 * time.Minute)
		w.publish(5)
		sleep(time.Minute)
		between("when it is held for", "sluice_lane_oldest_seconds", 0, 0)
		between("when it is held for", "sluice_lane_held", 4, 5)
		between("when it is held for", "sluice_held", 4, 5)
		between("when it is held for", "sluice_held_orgs", 1, 1)

		log.topic.Store("tier.0s")
		w.publish(1)
		sleep(time.Minute)
		between("while fan-out can't append", "sluice_fanout_oldest_seconds", 55, 60)
		log.topic.Store("")
		sleep(time.Minute)
		between("when it can", "sluice_fanout_oldest_seconds", 0, 0)

		log.topic.Store("attempts")
		w.publish(1)
		sleep(time.Minute)
		between("while outcomes can't be appended", "sluice_lane_oldest_seconds", 50, 60)
		log.topic.Store("")
		sleep(time.Minute)
		between("when they can", "sluice_lane_oldest_seconds", 0, 0)

		w.stop()
		for _, name := range []string{"sluice_lane_lag_seconds", "sluice_fanout_oldest_seconds"} {
			if _, n := gauge(t, registry, name); n != 0 {
				t.Errorf("%d of %s are shown when no lane runs", n, name)
			}
		}
	})
}

// The orgs that are shown by name are bounded; all are counted.
func TestHeldByOrg(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		registry := prometheus.NewRegistry()
		w.metrics = registry
		const orgs = 15
		var audience []string
		paused := endpoint.Paused
		for i := range orgs {
			org := fmt.Sprintf("org%02d", i)
			audience = append(audience, org)
			w.do(&control.CreateOrg{ID: org, Name: org, Plan: control.Enterprise})
			for range i + 1 { // in several lanes
				ep := w.do(&control.CreateEndpoint{Org: org, Environment: event.Live, Dialect: "test", URL: "http://" + org,
					Patterns: []string{"*"}, Secret: endpoint.Secret("12345678")}).Endpoint
				w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
			}
		}
		w.start()
		ev := event.Event{ID: "e", Type: "test.event", Timestamp: time.Now(), Environment: event.Live, Org: audience[0],
			Audience: event.Audience{Orgs: audience}, Key: "k", Data: []byte("{}")}
		record := eventlog.Record{Partition: eventlog.Partition{Topic: "events.live"}, Value: ev.AppendRecord(nil)}
		if _, err := w.log.Append(t.Context(), []eventlog.Record{record}); err != nil {
			t.Fatal(err)
		}
		sleep(time.Minute)
		if most, n := gauge(t, registry, "sluice_held"); most != orgs || n != 10 {
			t.Errorf("the most is %v, of %d orgs that are shown", most, n)
		}
		if n, _ := gauge(t, registry, "sluice_held_orgs"); n != orgs {
			t.Errorf("%v orgs", n)
		}
	})
}
