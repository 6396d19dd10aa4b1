package dispatcher_test

import (
	"context"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// An ordered endpoint that is paused gets nothing more, whatever waits for its turn.
func TestOrderedPaused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		yes, paused, active := true, endpoint.Paused, endpoint.Active
		ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{Ordered: &yes})
		w.set(func(request) delivery.Outcome { return takes(10 * time.Second) })
		w.start()
		owed := w.publish(20)
		sleep(15 * time.Second)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(time.Hour)
		if n := len(w.of("http://a")); n != 2 {
			t.Errorf("%d requests, and two had begun when it was paused", n)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(10 * time.Minute)
		if left := missing(ids(w.of("http://a")), owed); len(left) > 0 || len(w.of("http://a")) != 20 {
			t.Errorf("%d requests for 20 events, %d never came", len(w.of("http://a")), len(left))
		}
	})
}

// slowHeld is a log that is slow to read what is held.
type slowHeld struct{ eventlog.Log }

func (l slowHeld) Read(ctx context.Context, p eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	if p.Topic == "held" {
		time.Sleep(2 * time.Second)
	}
	return l.Log.Read(ctx, p, from, most)
}

// What was being read for an ordered endpoint when it was paused isn't sent either.
func TestOrderedPausedAtRead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		yes, paused, active := true, endpoint.Paused, endpoint.Active
		ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{Ordered: &yes})
		w.set(func(r request) delivery.Outcome {
			if r.attempt == 1 && r.event == "e00001" {
				return broken
			}
			return ok
		})
		w.startOn(slowHeld{w.log}, true)
		owed := w.publish(3)
		sleep(9 * time.Second) // its retry is due, and being read
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(time.Hour)
		if n := len(w.of("http://a")); n != 1 {
			t.Errorf("%d requests, and one was made when it was paused", n)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(time.Minute)
		if left := missing(ids(w.of("http://a")), owed); len(left) > 0 || len(w.of("http://a")) != 4 {
			t.Errorf("%d requests for 3 events, %d never came", len(w.of("http://a")), len(left))
		}
	})
}

// An endpoint whose owner changes his mind about order, and pauses it, gets all it is
// owed, once.
func TestOrderedNowAndThen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		yes, no, paused, active := true, false, endpoint.Paused, endpoint.Active
		ep := w.endpoint("http://a")
		refused := false
		w.set(func(r request) delivery.Outcome {
			o := takes(2 * time.Second)
			if r.event == "e00003" && !refused {
				refused = true
				o = broken
			}
			return o
		})
		w.start()
		update := func(cmd control.UpdateEndpoint) {
			cmd.Endpoint = ep.ID
			w.do(&cmd)
		}
		pause := func() {
			update(control.UpdateEndpoint{Status: &paused})
			sleep(10 * time.Second)
			update(control.UpdateEndpoint{Status: &active})
		}
		pause() // what comes lies in held
		var owed []string
		keyOf := make(map[string]string)
		batch := func(keys ...string) {
			for _, key := range keys {
				for _, id := range w.publishTo("org", key, 20) {
					owed, keyOf[id] = append(owed, id), key
				}
			}
		}
		update(control.UpdateEndpoint{Status: &paused})
		batch("a", "b", "c")
		sleep(time.Second)
		update(control.UpdateEndpoint{Status: &active})
		sleep(time.Second)
		update(control.UpdateEndpoint{Options: endpoint.OptionsPatch{Ordered: &yes}})
		on := time.Now()
		batch("a", "b", "c")
		sleep(time.Second)
		pause()
		sleep(3 * time.Second)
		update(control.UpdateEndpoint{Options: endpoint.OptionsPatch{Ordered: &no}})
		off := time.Now()
		batch("d", "a", "b", "c")
		sleep(time.Second)
		pause()
		sleep(time.Hour)
		got := w.of("http://a")
		if left := missing(ids(got), owed); len(left) > 0 || len(got) != len(owed)+1 {
			t.Errorf("%d requests for %d events, one of them refused; %d never came: %v", len(got), len(owed), len(left), left)
		}
		last := make(map[string]request) // by key
		for _, r := range got {
			key := keyOf[r.event]
			if before := last[key]; r.at.After(on) && r.at.Before(off) {
				if r.event < before.event || r.at.Before(before.ended) && before.at.After(on) {
					t.Errorf("%s began at %v, %s before it at %v to %v", r.event, r.at, before.event, before.at, before.ended)
				}
				last[key] = r
			}
		}
	})
}

// What an ordered endpoint is owed expires while it is paused, although its turn was
// near, and nothing stays behind that a later owner would look for in vain.
func TestOrderedExpires(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		yes, paused, active := true, endpoint.Paused, endpoint.Active
		ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{Ordered: &yes})
		w.set(func(request) delivery.Outcome { return takes(10 * time.Second) })
		w.heldFor = time.Hour
		w.start()
		w.publish(20)
		sleep(5 * time.Second)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(70 * time.Minute)
		if n := w.control.Endpoint(ep.ID).Missed; n != 19 {
			t.Errorf("it missed %d, want 19", n)
		}
		w.stop()
		p := eventlog.Partition{Topic: "held", Number: delivery.Lane(ep.ID)}
		_, end, err := w.log.Bounds(t.Context(), p)
		if err == nil {
			err = w.log.Trim(t.Context(), p, end)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		w.forget()
		owed := w.publish(2)
		sleep(time.Minute)
		if left := missing(ids(w.of("http://a")), owed); len(left) > 0 {
			t.Errorf("%v never came", left)
		}
	})
}
