package dispatcher_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// letter puts an event that was logged at that place with an endpoint's dead letters.
func (w *world) letter(ep *endpoint.Endpoint, at int64) {
	w.t.Helper()
	d := delivery.New(&event.Event{Environment: event.Live, ID: fmt.Sprintf("e%05d", at+1), Type: "test.event", Org: ep.Org, Key: ep.Org,
		Timestamp: time.Now(), Data: []byte(`{}`), Offset: at}, ep.ID, 0)
	d.First, d.Reason = false, "out of attempts"
	w.add(delivery.DeadTopic, ep, d.AppendRecord(nil))
}

// What a replay passed over, because it had grown too old, is counted once, though
// its next owner looks at it again.
func TestReplayExpiresOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.age()
		ep := w.endpoint("http://a")
		w.start()
		w.publish(3)
		sleep(40 * time.Minute)
		w.publish(3)
		sleep(time.Minute)
		for _, at := range []int64{3, 0, 4, 1, 5, 2} {
			w.letter(ep, at)
		}
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		r := w.replay(ep, sinceEver, failedOnly)
		sleep(30 * time.Minute) // the first three are too old by now
		w.stop()
		w.forget()
		w.set(func(r request) delivery.Outcome {
			if r.event == "e00004" {
				return takes(time.Hour)
			}
			return ok
		})
		m := w.unkillable(w.log)
		w.startOn(m, true)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(time.Minute)
		if n := len(w.of(ep.URL)); n != 3 {
			t.Errorf("%d requests before the kill", n)
		}
		m.kill()
		w.stop()
		w.set(nil)
		w.start()
		sleep(time.Minute)
		if r = w.ended(r); r.Expired != 3 || r.Delivered != 3 || len(w.of(ep.URL)) != 4 {
			t.Errorf("it ended with %+v, after %d requests", r.Progress, len(w.of(ep.URL)))
		}
	})
}

// What a replay sent and is to be tried again waits with the held while its endpoint
// is paused. Cancelled, it doesn't go out, though it was read from there already.
func TestReplayCancelledWhileHeld(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.start()
		w.publish(400)
		sleep(time.Minute)
		w.set(func(r request) delivery.Outcome {
			o := takes(time.Second)
			if r.event < "e00009" {
				o.Class, o.Status = delivery.HTTPError, 500
			}
			return o
		})
		r := w.replay(ep)
		sleep(4 * time.Second)
		paused, active, one := endpoint.Paused, endpoint.Active, 1
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(10 * time.Second)
		if n := len(w.deliveries(delivery.HeldTopic, ep.ID)); n != 8 {
			t.Fatalf("%d are held", n)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{MaxInFlight: &one}, Status: &active})
		sleep(500 * time.Millisecond)
		w.do(&control.CancelReplay{Endpoint: ep.ID, Replay: r.ID})
		n := len(w.of(ep.URL))
		sleep(2 * time.Hour)
		if more := len(w.of(ep.URL)) - n; more != 0 {
			t.Errorf("%d requests after it was cancelled", more)
		}
		w.publish(1)
		sleep(time.Minute)
		if got := w.of(ep.URL); got[len(got)-1].event != "e00401" {
			t.Errorf("nothing goes out any more: the last was %s", got[len(got)-1].event)
		}
	})
}

// narrow is a log that has little room, or enough.
type narrow struct {
	eventlog.Log
	scarce atomic.Bool
}

func (n *narrow) Scarce() bool { return n.scarce.Load() }

// While the log has little room replays wait; what is owed goes out.
func TestReplayWaitsForRoomInTheLog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		log := &narrow{Log: w.log}
		w.startOn(log, true)
		w.publish(100)
		sleep(time.Minute)
		w.forget()
		w.set(func(request) delivery.Outcome { return takes(time.Second) })
		r := w.replay(ep)
		sleep(2500 * time.Millisecond)
		log.scarce.Store(true)
		sleep(2 * time.Second) // for what is under way
		n := len(w.of(ep.URL))
		w.publish(1)
		sleep(time.Minute)
		if more := len(w.of(ep.URL)) - n; n == 0 || n > 90 || more != 1 {
			t.Errorf("%d requests while there was room, and %d without", n, more)
		}
		log.scarce.Store(false)
		sleep(time.Minute)
		if r = w.ended(r); r.Delivered != 100 {
			t.Errorf("it ended with %+v", r.Progress)
		}
	})
}
