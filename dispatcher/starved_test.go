package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// While an endpoint fails its retries wait for the probe that is due, and that comes
// from held, however many retries wait.
func TestProbeBehindRetries(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return broken })
		owed := w.publishAs("test.event", 250, 3000)
		sleep(time.Second)
		rate := 1.0
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{RatePerSecond: &rate}})
		sleep(9 * time.Second)
		owed = append(owed, w.publish(5)...)
		sleep(time.Minute)
		if len(w.deliveries(delivery.HeldTopic, ep.ID)) == 0 {
			t.Fatal("nothing is held: this tests nothing")
		}
		w.set(nil)
		began := time.Now()
		w.forget()
		sleep(10 * time.Minute)
		if late := w.latest(ep.URL, began, owed); late > 6*time.Minute { // one a second
			t.Errorf("the last came %v after it had recovered", late)
		}
	})
}

// inLaneOf makes an endpoint that wants the type, in the same lane as another; no id: in
// any.
func (w *world) inLaneOf(id, url, typ string) *endpoint.Endpoint {
	w.t.Helper()
	one := func() *endpoint.Endpoint {
		return w.do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: "test", URL: url,
			Patterns: []string{typ}, Secret: endpoint.Secret("12345678")}).Endpoint
	}
	if id == "" {
		return one()
	}
	return w.inLane(delivery.Lane(id), one)
}

// Of an org's endpoints that wait for room many are deleted, and then the room comes
// free, all at once. Whoever waits behind them gets it, though nothing else happens.
func TestRoomBehindTheDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.perLane = 16
		w.start()
		w.answers("http://slow", takes(30*time.Second), ok)
		first := w.inLaneOf("", "http://slow", "test.slow")
		for range 3 {
			w.inLaneOf(first.ID, "http://slow", "test.slow")
		}
		var others []*endpoint.Endpoint
		for i := range 100 {
			others = append(others, w.inLaneOf(first.ID, fmt.Sprintf("http://other/%d", i), "test.other"))
		}
		w.inLaneOf(first.ID, "http://last", "test.last")
		w.publishAs("test.slow", 1, 0)
		sleep(time.Second)
		w.publishAs("test.other", 1, 0)
		sleep(time.Second)
		for _, ep := range others {
			if len(w.of(ep.URL)) > 0 {
				t.Fatal("there was room: this tests nothing")
			}
		}
		sleep(27500 * time.Millisecond)
		for _, ep := range others {
			w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
		}
		began := time.Now()
		owed := w.publishAs("test.last", 1, 0)
		sleep(time.Hour)
		if late := w.latest("http://last", began, owed); late > time.Second {
			t.Errorf("it came after %v", late)
		}
	})
}

// Room that comes free because requests couldn't be made, to endpoints that are deleted
// meanwhile, is had at once by who waits for it: nothing is appended that would tell.
func TestRoomOfTheUnmade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.perLane = 16
		w.start()
		w.answers("http://unmade", notMade, ok)
		first := w.inLaneOf("", "http://unmade", "test.unmade")
		unmade := []*endpoint.Endpoint{first}
		for range 11 {
			unmade = append(unmade, w.inLaneOf(first.ID, "http://unmade", "test.unmade"))
		}
		w.inLaneOf(first.ID, "http://last", "test.last")
		w.inLaneOf(first.ID, "http://quick", "test.quick")
		w.publishAs("test.quick", 1, 0)
		sleep(10 * time.Second)
		began := time.Now()
		w.publishAs("test.unmade", 1, 0)
		sleep(time.Second)
		owed := w.publishAs("test.last", 1, 0)
		sleep(time.Second)
		if len(w.of("http://last")) > 0 {
			t.Fatal("there was room: this tests nothing")
		}
		for _, ep := range unmade {
			w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
		}
		sleep(notMade.Took - 3*time.Second)
		w.publishAs("test.quick", 1, 0) // with a snapshot: the next is some seconds off
		sleep(time.Hour)
		if late := w.latest("http://last", began, owed) - notMade.Took; late > 100*time.Millisecond {
			t.Errorf("it came %v after there was room", late)
		}
	})
}

// What a failing endpoint has in held can be read along with another's. When none of
// it may go now, the retry that waited for it goes.
func TestRetryBehindNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		yes, no, active := true, endpoint.Paused, endpoint.Active
		ep := w.inLaneOf("", "http://ordered", "test.event")
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{Ordered: &yes}})
		other := w.inLaneOf(ep.ID, "http://other", "test.other")
		w.do(&control.UpdateEndpoint{Endpoint: other.ID, Status: &no})
		w.publishAs("test.other", 1, 0) // the first in held
		near, far := w.publishTo("org", "near", 1), w.publishTo("org", "far", 1)
		w.set(func(r request) delivery.Outcome {
			switch {
			case r.url == other.URL:
				return ok
			case r.event == far[0]:
				return delivery.Outcome{Class: delivery.HTTPError, Status: 503, RetryAt: time.Now().Add(time.Hour)}
			}
			return broken
		})
		sleep(6 * time.Second)
		if n := len(w.of(ep.URL)); n != 3 {
			t.Fatalf("%d requests: this tests nothing", n)
		}
		w.stop()
		w.do(&control.UpdateEndpoint{Endpoint: other.ID, Status: &active})
		sleep(time.Minute)
		w.forget()
		began := time.Now()
		w.start()
		sleep(10 * time.Minute)
		if late := w.latest(ep.URL, began, near); late > time.Minute {
			t.Errorf("the retry came %v after it was due", late)
		}
	})
}
