package dispatcher_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Records that can be read and that no owner wrote: whatever they say of times,
// places and generations, the lane goes on, and so does its next owner.
func TestImplausibleRecords(t *testing.T) {
	snapshot := func(generation uint64) []byte {
		b := binary.AppendUvarint([]byte{1, 'S'}, generation)
		return append(b, 0, 1, 7, 0) // index 0, the last one, id 7, no parts
	}
	hop := func(change func(d *delivery.Delivery)) func(*endpoint.Endpoint) []byte {
		return func(ep *endpoint.Endpoint) []byte {
			d := &delivery.Delivery{ID: "dlv_x", Endpoint: ep.ID, Event: event.Event{Environment: event.Live, ID: "x", Type: "test.event",
				Timestamp: time.Now(), Org: "org", Data: []byte(`{}`)}}
			change(d)
			return d.AppendRecord(nil)
		}
	}
	for name, c := range map[string]struct {
		topic string
		value func(*endpoint.Endpoint) []byte
		sent  int // how often it is sent for all that
	}{
		"due in a thousand years":   {"tier.5s", hop(func(d *delivery.Delivery) { d.Due = time.Now().AddDate(100, 0, 0) }), 1},
		"a control state to come":   {"tier.0s", hop(func(d *delivery.Delivery) { d.Control = 1 << 60 }), 1},
		"a generation to come":      {"tier.0s", hop(func(d *delivery.Delivery) { d.Generation = 1 << 60 }), 0},
		"a marker to come":          {"tier.0s", func(*endpoint.Endpoint) []byte { return delivery.AppendMarker(nil, 1<<60) }, 0},
		"a marker before retries":   {"tier.5s", func(*endpoint.Endpoint) []byte { return delivery.AppendMarker(nil, 1<<60) }, 0},
		"a marker in the journal":   {"attempts", func(*endpoint.Endpoint) []byte { return delivery.AppendMarker(nil, 1<<60) }, 0},
		"a place far off":           {"tier.5s", hop(func(d *delivery.Delivery) { d.Origin = delivery.Place{Topic: "tier.5s", Offset: 1 << 60} }), 1},
		"a place far off, dead":     {"dead", hop(func(d *delivery.Delivery) { d.Origin = delivery.Place{Topic: "tier.0s", Offset: 1 << 60} }), 0},
		"a place that comes soon":   {"dead", hop(func(d *delivery.Delivery) { d.Origin = delivery.Place{Topic: "tier.0s", Offset: 10} }), 0},
		"a snapshot to come":        {"lanes", func(*endpoint.Endpoint) []byte { return snapshot(1 << 60) }, 0},
		"a snapshot of nobody":      {"lanes", func(*endpoint.Endpoint) []byte { return snapshot(0) }, 0},
		"held, with nothing to say": {"held", hop(func(*delivery.Delivery) {}), 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				// Every event is retried: its hops are its lane's owner's.
				w.set(func(r request) delivery.Outcome {
					if r.event != "x" && r.attempt == 1 {
						return broken
					}
					return ok
				})
				w.start()
				ep := w.endpoint("http://a")
				want := w.publish(2)
				sleep(time.Minute)
				w.add(c.topic, ep, c.value(ep))
				want = append(want, w.publish(5)...)
				sleep(10 * time.Minute)
				for range 2 {
					w.stop()
					w.start()
					want = append(want, w.publish(5)...)
					sleep(10 * time.Minute)
				}
				w.stop()
				var got []string
				for _, r := range w.of("http://a") {
					if !r.ended.IsZero() {
						got = append(got, r.event)
					}
				}
				if sent := len(slices.DeleteFunc(slices.Clone(got), func(id string) bool { return id != "x" })); sent != c.sent {
					t.Errorf("it was sent %d times, not %d", sent, c.sent)
				}
				got = slices.DeleteFunc(got, func(id string) bool { return id == "x" })
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%v came, want %v", got, want)
				}
			})
		})
	}
}

func (w *world) add(topic string, ep *endpoint.Endpoint, value []byte) {
	w.t.Helper()
	p := eventlog.Partition{Topic: topic, Number: delivery.Lane(ep.ID)}
	if _, err := w.log.Append(w.t.Context(), []eventlog.Record{{Partition: p, Value: value}}); err != nil {
		w.t.Fatal(err)
	}
}

// A delivery of a release to come is kept as it is: this one can't know what it
// owes.
func TestDeadLetterKeepsRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		d := &delivery.Delivery{ID: "dlv_x", Endpoint: ep.ID, Event: event.Event{Environment: event.Live, Data: bytes.Repeat([]byte("x"), delivery.MaxInline)}}
		later := d.AppendRecord(nil)
		later[0]++
		w.add("tier.0s", ep, later)
		sleep(time.Second)
		w.stop()
		for _, r := range w.records("dead", ep.ID) {
			if d, err := delivery.DecodeDelivery(r.Value); err == nil && d.Origin.Topic == "tier.0s" {
				if !bytes.Equal(d.Kept(), later) || d.Next(delivery.Place{}).Kept() != nil {
					t.Errorf("kept were %d bytes of %d", len(d.Kept()), len(later))
				}
				return
			}
		}
		t.Error("there is no dead letter")
	})
}
