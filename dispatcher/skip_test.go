package dispatcher_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/dispatcher"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// A lane whose place is gone stops and names the remedy; it goes on at an
// operator's word and not before, counts what it gave up, and loses nothing that
// the log still has.
func TestSkip(t *testing.T) {
	trim := func(w *world, topic string, number int32, before int64) {
		w.t.Helper()
		if err := w.log.Trim(context.Background(), eventlog.Partition{Topic: topic, Number: number}, before); err != nil {
			w.t.Fatal(err)
		}
	}
	end := func(w *world, topic string, number int32) int64 {
		w.t.Helper()
		_, end, err := w.log.Bounds(context.Background(), eventlog.Partition{Topic: topic, Number: number})
		if err != nil {
			w.t.Fatal(err)
		}
		return end
	}
	for name, c := range map[string]struct {
		held    bool // the endpoint is paused while ten events are published
		harm    func(w *world, lane int32)
		fanOut  bool
		skipped float64 // -1: it isn't known
		left    int     // of the ten, that still come
		missed  int64   // counted on the endpoint
		blank   bool    // no snapshot says where the lane stood
	}{
		"tier": {harm: func(w *world, lane int32) {
			trim(w, "tier.0s", lane, end(w, "tier.0s", lane))
		}, skipped: 10},
		"tier and snapshots": {harm: func(w *world, lane int32) {
			trim(w, "tier.0s", lane, end(w, "tier.0s", lane))
			trim(w, "lanes", lane, end(w, "lanes", lane))
		}, skipped: -1, blank: true},
		"snapshot": {harm: func(w *world, lane int32) {
			generation := end(w, "lanes", lane) // the highest that can be
			b := append(binary.AppendUvarint([]byte{1, 'S'}, uint64(generation)), 0, 1, 7)
			if _, err := w.log.Append(context.Background(), []eventlog.Record{{Partition: eventlog.Partition{Topic: "lanes", Number: lane}, Value: append(b, "this is none"...)}}); err != nil {
				w.t.Fatal(err)
			}
		}, skipped: 0, left: 10},
		"events": {harm: func(w *world, _ int32) {
			w.publish(7)
			trim(w, event.Live.Topic(), 0, end(w, event.Live.Topic(), 0))
		}, fanOut: true, skipped: 7, left: 10},
		"held": {held: true, harm: func(w *world, lane int32) {
			trim(w, "held", lane, end(w, "held", lane)-4)
		}, skipped: 6, left: 4, missed: 6},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.keeps = true
				ep := w.endpoint("http://a")
				for delivery.Lane(ep.ID) < 2 { // lanes of a fan-out
					w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
					ep = w.endpoint("http://a")
				}
				number := delivery.Lane(ep.ID)
				never := ok
				never.Took = time.Hour
				w.set(func(request) delivery.Outcome { return never })
				m := w.unkillable(w.log)
				if c.held {
					w.set(nil)
					paused := endpoint.Paused
					w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
				}
				w.startOn(m, true)
				ten := w.publish(10)
				sleep(time.Minute)
				m.kill()
				w.stop()
				w.forget()
				w.set(nil)
				c.harm(w, number)

				registry := prometheus.NewRegistry()
				w.metrics = registry
				w.startOn(w.log, false)
				sleep(10 * time.Minute)
				if c.fanOut {
					number = 1
				}
				want := fmt.Sprintf("`sluice lane skip %d`", number)
				if err := w.healthy(); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("it goes on without a word, or doesn't name the remedy: %v", err)
				} else if none := strings.Contains(err.Error(), "no snapshot"); none != c.blank {
					t.Errorf("that there is no snapshot is said: %v: %v", none, err)
				}
				if err := dispatcher.Skip(context.Background(), w.log, number); err != nil {
					t.Fatal(err)
				}
				sleep(time.Minute)
				if err := w.healthy(); err != nil {
					t.Fatal(err)
				}
				if c.held {
					active := endpoint.Active
					w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
				}
				new := w.publish(5)
				sleep(10 * time.Minute)
				if got := metric(t, registry, "sluice_lane_skipped_total") + metric(t, registry, "sluice_fanout_skipped_total"); c.skipped >= 0 && got != c.skipped {
					t.Errorf("%v were counted, want %v", got, c.skipped)
				}
				if missed := w.control.Endpoint(ep.ID).Missed; missed != c.missed {
					t.Errorf("the endpoint missed %d, want %d", missed, c.missed)
				}
				w.stop()
				w.metrics = nil
				w.start() // it stands somewhere again
				new = append(new, w.publish(5)...)
				sleep(10 * time.Minute)
				w.stop()
				got := ids(w.of("http://a"))
				slices.Sort(got)
				if want := append(slices.Clone(ten[10-c.left:]), new...); !slices.Equal(got, want) {
					t.Errorf("%v came, want %v", got, want)
				}
			})
		})
	}
}

func metric(t *testing.T, from *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}
