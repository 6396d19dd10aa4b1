package dispatcher_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// byHand appends what the api does when a person asks for a delivery once more.
func (w *world) byHand(ep *endpoint.Endpoint, d *delivery.Delivery) {
	w.t.Helper()
	hand := delivery.NewByHand(d.ID, ep.ID, &d.Event, d.Attempts, w.control.Applied())
	record := eventlog.Record{Partition: eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)}, Key: []byte(ep.ID), Value: hand.AppendRecord(nil)}
	if _, err := w.log.Append(context.Background(), []eventlog.Record{record}); err != nil {
		w.t.Fatal(err)
	}
}

// attempts reads the journal of an endpoint's attempts.
func (w *world) attempts(id string) []*delivery.Attempt {
	w.t.Helper()
	var all []*delivery.Attempt
	for _, r := range w.records(delivery.AttemptsTopic, id) {
		a, err := delivery.DecodeAttempt(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		if a.Endpoint == id {
			all = append(all, a)
		}
	}
	return all
}

// TestByHand: what a person asks for goes out at once, to an endpoint that fails
// too, once, and changes nothing but what comes of it; and each attempt's record
// says where the delivery went.
func TestByHand(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return broken })
		first := w.publish(1)[0]
		sleep(40 * time.Second) // 0 s, 5 s and 35 s: the next is 5 minutes later
		w.publish(1)            // waits: the endpoint fails
		sleep(time.Second)
		all := w.attempts(ep.ID)
		if len(all) != 3 {
			t.Fatalf("%d attempts", len(all))
		}
		for i, topic := range []string{"tier.5s", "tier.30s", "tier.5m"} {
			a := all[i]
			if a.Next.Topic != topic || a.Next.Due.IsZero() || a.Type != "test.event" || a.Environment != event.Live || a.EventOffset != 0 || a.ByHand {
				t.Errorf("attempt %d: %+v", i+1, a)
			}
		}
		waiting := w.deliveries("tier.5m", ep.ID)
		w.byHand(ep, waiting[0])
		sleep(time.Second)
		all = w.attempts(ep.ID)
		if got := w.of("http://a"); len(got) != 4 || got[3].event != first || got[3].attempt != 4 || got[3].delivery != waiting[0].ID {
			t.Fatalf("sent: %+v", got)
		}
		if last := all[3]; !last.ByHand || last.Number != 4 || !reflect.DeepEqual(last.Next, delivery.Next{}) {
			t.Errorf("its record: %+v", last)
		}
		if d := w.deliveries("tier.5m", ep.ID); len(d) != 1 {
			t.Errorf("%d wait for 5 minutes, not 1", len(d))
		}
		// Read again by a new owner it is over, whatever came of it.
		w.stop()
		w.forget()
		w.start()
		sleep(time.Second)
		if got := w.of("http://a"); len(got) != 0 {
			t.Errorf("after a restart: %+v", got)
		}
		// A paused endpoint gets nothing, and is owed no more by it.
		paused := endpoint.Paused
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(time.Second)
		held := len(w.deliveries(delivery.HeldTopic, ep.ID))
		w.byHand(ep, waiting[0])
		sleep(time.Second)
		if got := w.of("http://a"); len(got) != 0 || len(w.deliveries(delivery.HeldTopic, ep.ID)) != held {
			t.Errorf("paused: %+v, %d held", got, len(w.deliveries(delivery.HeldTopic, ep.ID))-held)
		}
	})
}
