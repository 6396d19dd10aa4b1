package dispatcher_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// tireless is a dialect whose endpoints are disabled by a delivery that ran out of
// attempts, and by no number of failures.
var tireless = &dialect.Dialect{Name: "tireless", Webhook: &dialect.Webhook{
	Schedule:         []time.Duration{0, time.Second, 5 * time.Second, 25 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour},
	DisableExhausted: true,
	AppendBody:       testDialect.Webhook.AppendBody,
	AppendHeaders:    testDialect.Webhook.AppendHeaders,
}}

func (w *world) tirelessEndpoint(url string) *endpoint.Endpoint {
	return w.do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: tireless.Name, URL: url,
		Patterns: []string{"*"}, Secret: endpoint.Secret("12345678")}).Endpoint
}

// wholeSchedule is how long a delivery of tireless takes that nobody takes.
const wholeSchedule = 3600*time.Second + 600*time.Second + 120*time.Second + 31*time.Second

// A delivery is tried at each delay of its dialect's schedule; when the last has
// failed its endpoint is disabled, and enabling it brings all that it missed.
func TestExhaustedDisables(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.tirelessEndpoint("http://a")
		w.set(func(request) delivery.Outcome { return broken })
		began := time.Now()
		owed := w.publish(1)
		sleep(30 * time.Second)
		owed = append(owed, w.publish(2)...) // which wait while it fails
		sleep(wholeSchedule - 31*time.Second)
		if w.status(ep.ID) != endpoint.Active {
			t.Fatalf("it is %s before the last attempt", w.status(ep.ID))
		}
		sleep(time.Minute)
		var at []time.Duration
		for _, r := range w.of("http://a") {
			if r.event == owed[0] {
				at = append(at, r.at.Sub(began).Round(time.Second))
			}
		}
		for i, want := range []time.Duration{0, 1, 6, 31, 151, 751, 4351} {
			if i >= len(at) || at[i] != want*time.Second {
				t.Fatalf("attempts after %v, want one more after %v", at, want*time.Second)
			}
		}
		now := w.control.Endpoint(ep.ID)
		if len(at) != 7 || now.Status != endpoint.Disabled || !strings.Contains(now.Reason, "ran out of attempts") {
			t.Fatalf("%d attempts; it is %s: %s", len(at), now.Status, now.Reason)
		}
		w.forget()
		w.set(nil)
		w.do(&control.EnableEndpoint{Endpoint: ep.ID})
		sleep(time.Hour) // what was tried meanwhile waits for its delay
		came := make(map[string]bool)
		for _, id := range ids(w.of("http://a")) {
			came[id] = true
		}
		for _, id := range owed {
			if !came[id] {
				t.Errorf("%s didn't come after enabling: %v", id, came)
			}
		}
	}, tireless)
}

// One success since its first failure, and a delivery that nobody takes is a dead
// letter, no more. Neither do failures by their number disable.
func TestExhaustedBesideSuccess(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.tirelessEndpoint("http://a")
		const bad = "e00001" // known beforehand: its first attempt is made at once
		w.set(func(r request) delivery.Outcome {
			if r.event == bad {
				return broken
			}
			return ok
		})
		w.publish(1)
		sleep(time.Second / 2)
		w.publish(1)
		sleep(wholeSchedule + time.Minute)
		if n := len(w.deliveries("dead", ep.ID)); n != 1 || w.status(ep.ID) != endpoint.Active {
			t.Errorf("%d dead letters, and it is %s", n, w.status(ep.ID))
		}
	}, tireless)
}

// unsaid is a log in which nothing can be told to control for a while.
type unsaid struct {
	eventlog.Log
	now atomic.Bool
}

func (u *unsaid) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if u.now.Load() && records[0].Topic == control.Topic.Name {
		return nil, errKilled
	}
	return u.Log.Append(ctx, records)
}

// Whoever takes a lane over finishes what the last owner was about when it was
// killed: between the last failure and the word to control, whether or not there
// was a snapshot meanwhile.
func TestExhaustedOverKills(t *testing.T) {
	for name, wait := range map[string]time.Duration{"journal": time.Second / 2, "snapshot": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				told := &unsaid{Log: w.log}
				w.controlOn(told)
				ep := w.tirelessEndpoint("http://a")
				m := w.unkillable(w.log)
				w.startOn(m, false)
				w.set(func(request) delivery.Outcome { return broken })
				w.publish(1)
				sleep(wholeSchedule - time.Second)
				w.publish(1) // is held, and so there is a snapshot now, and none for 5 s
				sleep(time.Second * 3 / 4)
				told.now.Store(true)
				sleep(time.Second/4 + wait)
				m.kill()
				w.stop()
				if n := len(w.deliveries("dead", ep.ID)); n != 1 || w.status(ep.ID) != endpoint.Active {
					t.Fatalf("%d dead letters, and it is %s", n, w.status(ep.ID))
				}
				w.controlOn(w.log)
				w.start()
				sleep(5 * time.Second)
				if w.status(ep.ID) != endpoint.Disabled {
					t.Errorf("it is %s", w.status(ep.ID))
				}
			}, tireless)
		})
	}
}

// controlOn makes control's state anew from a log.
func (w *world) controlOn(log eventlog.Log) {
	w.t.Helper()
	w.control.Close()
	sealer, err := control.NewSealer(make([]byte, 32))
	if err == nil {
		w.control, err = control.Open(w.t.Context(), control.Config{Log: log, Sealer: sealer, Lanes: delivery.Lanes})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
