package dispatcher_test

import (
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// While this process can't make attempts, they wait for it: nobody's failure is
// counted, no attempt is used up, and no lane stops for it.
func TestNotMade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return notMade })
		w.publish(3)
		sleep(2 * time.Hour)
		if err := w.healthy(); err != nil {
			t.Errorf("a lane stopped: %v", err)
		}
		w.set(nil)
		sleep(time.Minute)
		got := w.of("http://a")
		if len(got) < 3*2*60*60/30 {
			t.Errorf("only %d tries in two hours", len(got))
		}
		delivered := make(map[string]bool)
		for _, r := range got {
			if r.attempt != 1 {
				t.Fatalf("%+v is another attempt", r)
			}
			if !r.ended.IsZero() {
				delivered[r.event] = true
			}
		}
		if len(delivered) != 3 || w.status(ep.ID) != endpoint.Active {
			t.Errorf("%v delivered, the endpoint is %s", delivered, w.status(ep.ID))
		}
	})
}

// What waited for this process goes where its endpoint is by then, signed as it is
// by then; and nowhere if the endpoint is paused or deleted, or its replay cancelled.
func TestNotMadeMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		moved, paused, deleted := w.endpoint("http://old"), w.endpoint("http://paused"), w.endpoint("http://deleted")
		w.set(func(request) delivery.Outcome { return notMade })
		w.publish(1)
		sleep(10 * time.Second)
		elsewhere, no, yes := "http://new", endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: moved.ID, URL: &elsewhere})
		w.do(&control.RotateSecret{Endpoint: moved.ID, NewSecret: control.NewSecret{Secret: endpoint.Secret("the second")}})
		w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &no})
		w.do(&control.DeleteEndpoint{Endpoint: deleted.ID})
		sleep(30 * time.Second) // the first tries have ended
		w.set(nil)
		sleep(time.Minute)
		for _, url := range []string{"http://old", "http://paused", "http://deleted"} {
			if got := w.of(url); len(got) != 1 || !got[0].ended.IsZero() {
				t.Errorf("%s got %+v", url, got)
			}
		}
		got := w.of("http://new")
		if len(got) == 0 || got[len(got)-1].ended.IsZero() {
			t.Fatalf("the new address got %+v", got)
		}
		for _, r := range got {
			if good := r.signedWith(t, "12345678", "the second"); len(good) != 1 || good[0] != "the second" || r.attempt != 1 {
				t.Errorf("attempt %d is signed with %q", r.attempt, good)
			}
		}
		w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &yes})
		sleep(time.Minute)
		if got := w.of("http://paused"); len(got) != 2 || got[1].attempt != 1 {
			t.Errorf("when it isn't paused any more it has got %+v", got)
		}

		w.set(func(request) delivery.Outcome { return notMade })
		gone, waits := w.replay(moved), w.replay(paused)
		sleep(10 * time.Second)
		w.forget()
		w.do(&control.CancelReplay{Endpoint: moved.ID, Replay: gone.ID})
		w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &no})
		w.set(nil)
		sleep(time.Minute)
		if a, b := w.of("http://new"), w.of("http://paused"); len(a)+len(b) > 0 {
			t.Errorf("of a replay that was cancelled %+v came, to an endpoint that is paused %+v", a, b)
		}
		w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &yes})
		sleep(time.Minute)
		if got := w.of("http://paused"); len(got) != 1 || w.ended(waits).Failed != 1 {
			t.Errorf("the other sent %+v, and is %+v", got, w.ended(waits).Progress)
		}
		w.ended(gone)
	})
}

// What was read from held and couldn't be made goes back there when its endpoint was
// paused meanwhile. What was read behind it and is under way isn't sent twice.
func TestNotMadeOfHeld(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		no, yes := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &no})
		all := w.publish(20)
		sleep(time.Second)
		w.set(func(r request) delivery.Outcome {
			if r.event == all[0] || r.event == all[2] {
				return notMade
			}
			o := ok
			o.Took = 2 * notMade.Took
			return o
		})
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &yes})
		sleep(10 * time.Second)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &no})
		sleep(2 * time.Minute)
		w.set(nil)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &yes})
		sleep(time.Minute)
		var delivered []string
		for _, r := range w.of(ep.URL) {
			if !r.ended.IsZero() {
				delivered = append(delivered, r.event)
			}
		}
		slices.Sort(delivered)
		if !slices.Equal(delivered, all) {
			t.Errorf("delivered were %v", delivered)
		}
	})
}
