package dispatcher_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// The whole story of a delivery that nobody takes, to the fifth attempt.
func TestSchedule(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(r request) delivery.Outcome {
			if r.attempt == 5 {
				return broken
			}
			o := broken
			o.Took = time.Second // the next delay is counted from the end
			return o
		})
		began := time.Now()
		w.publish(1)
		sleep(2 * time.Hour)
		want := []time.Duration{0, 6 * time.Second, 37 * time.Second, 338 * time.Second, 3939 * time.Second}
		got := w.of("http://a")
		if len(got) != 5 {
			t.Fatalf("%d attempts, want 5", len(got))
		}
		for i, r := range got {
			if late := r.at.Sub(began) - want[i]; r.attempt != i+1 || late < 0 || late > 10*time.Millisecond {
				t.Errorf("attempt %d (numbered %d) after %v, want %v", i+1, r.attempt, r.at.Sub(began), want[i])
			}
			if r.delivery != got[0].delivery {
				t.Errorf("attempt %d has another delivery id", i+1)
			}
		}
		if w.status(ep.ID) != endpoint.Disabled {
			t.Errorf("the endpoint is %s after five counted failures", w.status(ep.ID))
		}
		if n := len(w.deliveries("held", ep.ID)); n != 1 {
			t.Errorf("%d deliveries held; the one whose failure disables is", n)
		}
	})
}

// One that fails while its endpoint answers others is a dead letter in the end.
func TestDeadLetter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		const bad = "e00001" // known beforehand: its first attempt is made at once
		w.set(func(r request) delivery.Outcome {
			if r.event == bad {
				return broken
			}
			return ok
		})
		w.publish(1)
		sleep(time.Second) // it failed before another came
		for range 75 {
			w.publish(1)
			sleep(time.Minute)
		}
		dead := w.deliveries("dead", ep.ID)
		if len(dead) != 1 || dead[0].Event.ID != bad || dead[0].Attempts != 5 || dead[0].Reason == "" {
			t.Fatalf("dead letters: %+v", dead)
		}
		if w.status(ep.ID) != endpoint.Active {
			t.Error("the endpoint is disabled although it answers")
		}
		if n := len(w.of("http://a")); n != 75+5 {
			t.Errorf("%d requests, want %d", n, 80)
		}
	})
}

// A dead endpoint with constant traffic is disabled after as long as one
// delivery would take, and what it is owed comes in order when it is enabled.
func TestDisableAndEnable(t *testing.T) {
	for _, replay := range []bool{true, false} {
		t.Run(map[bool]string{true: "replay", false: "skip"}[replay], func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.start()
				ep := w.endpoint("http://a")
				w.endpoint("http://b")
				var down atomic.Bool
				down.Store(true)
				w.set(func(r request) delivery.Outcome {
					if down.Load() && r.url == "http://a" {
						return broken
					}
					return ok
				})
				began := time.Now()
				var all []string
				for w.status(ep.ID) == endpoint.Active {
					all = append(all, w.publish(1)...)
					sleep(3 * time.Second)
				}
				took := time.Since(began)
				if want := time.Hour + 5*time.Minute + 35*time.Second; took < want || took > want+5*time.Second {
					t.Errorf("disabled after %v, want %v", took, want)
				}
				if got := len(w.of("http://a")); got > 60 {
					t.Errorf("%d requests to a dead endpoint", got)
				}
				if b := ids(w.of("http://b")); !slices.Equal(b, all) {
					t.Errorf("the other endpoint got %d of %d", len(b), len(all))
				}
				all = append(all, w.publish(10)...)
				sleep(2 * time.Hour)
				w.forget()
				down.Store(false)
				var skip int64
				if !replay {
					_, skip, _ = w.log.Bounds(t.Context(), eventlog.Partition{Topic: "events.live"})
				}
				w.do(&control.EnableEndpoint{Endpoint: ep.ID, Skip: skip})
				sleep(time.Second)
				more := w.publish(10)
				sleep(2 * time.Hour)
				got := ids(w.of("http://a"))
				if !replay {
					slices.Sort(got)
					if !slices.Equal(got, more) {
						t.Errorf("after skipping, %d came, want the %d new ones: %v", len(got), len(more), got)
					}
					if m := w.control.Endpoint(ep.ID).Missed; m < int64(len(all))-10 {
						t.Errorf("%d of %d counted as missed", m, len(all))
					}
					return
				}
				want := append(slices.Clone(all), more...)
				slices.Sort(got)
				if !slices.Equal(slices.Compact(slices.Clone(got)), want) || len(got) != len(want) {
					t.Errorf("%d came, %d of them different, want %d; missing: %v", len(got), len(slices.Compact(got)), len(want), missing(got, want))
				}
			})
		})
	}
}

// Held deliveries go out in order, and new ones behind them.
func TestHeldInOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		want := w.publish(3000)
		sleep(time.Minute)
		if n := len(w.of("http://a")); n != 0 {
			t.Fatalf("%d requests to a paused endpoint", n)
		}
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = 10 * time.Millisecond
			return o
		})
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		want = append(want, w.publish(1000)...)
		sleep(time.Minute)
		got := ids(w.of("http://a"))
		if len(got) != len(want) {
			t.Fatalf("%d came, want %d", len(got), len(want))
		}
		for i, id := range got { // 32 go out at once, so they may swap within that
			if j := slices.Index(want[max(0, i-64):min(len(want), i+64)], id); j < 0 {
				t.Fatalf("%s came in place %d", id, i)
			}
		}
	})
}

// A hanging endpoint, however much it is owed, doesn't keep others waiting.
func TestHanging(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		for range 20 {
			w.endpoint("http://hangs")
		}
		w.endpoint("http://a")
		w.answers("http://hangs", delivery.Outcome{Class: delivery.Timeout, Took: 30 * time.Second}, ok)
		for range 20 {
			began := time.Now()
			w.publish(500)
			sleep(100 * time.Millisecond)
			got := w.of("http://a")
			if len(got) != 500 {
				t.Fatalf("%d of 500 came while others hang", len(got))
			}
			for _, r := range got {
				if late := r.at.Sub(began); late > 50*time.Millisecond {
					t.Fatalf("one came %v late", late)
				}
			}
			w.forget()
			sleep(time.Second)
		}
	})
}

// 410 disables at once; the delivery is kept for when it is enabled.
func TestGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return delivery.Outcome{Class: delivery.HTTPError, Status: 410} })
		w.publish(1)
		sleep(time.Second)
		if w.status(ep.ID) != endpoint.Disabled || len(w.of("http://a")) != 1 {
			t.Fatalf("%s after %d requests", w.status(ep.ID), len(w.of("http://a")))
		}
		w.set(nil)
		w.do(&control.EnableEndpoint{Endpoint: ep.ID})
		sleep(time.Second)
		if got := w.of("http://a"); len(got) != 2 || got[1].event != got[0].event {
			t.Fatalf("after enabling: %v", got)
		}
	})
}

// Enabling sends dead letters again that died since the first failure, also when
// the dispatcher wasn't there meanwhile; and once.
func TestDeadLettersSentAgain(t *testing.T) {
	for _, away := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			w.start()
			ep := w.endpoint("http://a")
			w.set(func(r request) delivery.Outcome {
				o := delivery.Outcome{Class: delivery.HTTPError, Status: 503, RetryAt: time.Now().Add(2 * time.Hour)}
				if r.event == "e00002" && r.attempt == 1 {
					o.Status = 410
				}
				return o
			})
			w.publish(1)
			sleep(90 * time.Minute)
			if n := len(w.deliveries("dead", ep.ID)); n != 1 || w.status(ep.ID) != endpoint.Active {
				t.Fatalf("%d dead letters, %s", n, w.status(ep.ID))
			}
			w.publish(1)
			sleep(time.Minute)
			if w.status(ep.ID) != endpoint.Disabled {
				t.Fatalf("%s after 410", w.status(ep.ID))
			}
			w.forget()
			w.set(nil)
			if away {
				w.stop()
			}
			w.do(&control.EnableEndpoint{Endpoint: ep.ID})
			for range 3 {
				if w.stop != nil {
					sleep(time.Minute)
					w.stop()
				}
				w.start()
			}
			sleep(time.Hour)
			got := ids(w.of("http://a"))
			slices.Sort(got)
			if want := []string{"e00001", "e00002"}; !slices.Equal(got, want) {
				t.Errorf("away %v: %v came after enabling, want %v", away, got, want)
			}
		})
	}
}

// Retry-After moves the next attempt to a tier; the schedule goes on from there.
func TestRetryAfter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		w.endpoint("http://a")
		w.set(func(r request) delivery.Outcome {
			o := delivery.Outcome{Class: delivery.HTTPError, Status: 503}
			if r.attempt == 1 {
				o.RetryAt = time.Now().Add(20 * time.Second)
			}
			if r.attempt == 3 {
				return ok
			}
			return o
		})
		began := time.Now()
		w.publish(1)
		sleep(time.Hour)
		var at []time.Duration
		for _, r := range w.of("http://a") {
			at = append(at, r.at.Sub(began).Round(time.Second))
		}
		if want := []time.Duration{0, 30 * time.Second, 330 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
	})
}

// A restart of a busy receiver is one failure; one that flaps isn't disabled.
func TestRestartOfReceiver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		var down atomic.Bool
		w.set(func(request) delivery.Outcome {
			if down.Load() {
				return broken
			}
			return ok
		})
		var all []string
		for minute := range 200 {
			down.Store(minute%2 == 1)
			all = append(all, w.publish(20)...)
			sleep(20 * time.Second)
			down.Store(false)
			sleep(40 * time.Second)
		}
		sleep(3 * time.Hour)
		if w.status(ep.ID) != endpoint.Active {
			t.Fatal("a flapping endpoint was disabled")
		}
		got := make(map[string]bool)
		for _, r := range w.of("http://a") {
			got[r.event] = true
		}
		if len(got) != len(all) {
			t.Fatalf("%d events came, want %d", len(got), len(all))
		}
		if n := len(w.deliveries("dead", ep.ID)); n != 0 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// A new address counts from the next attempt, and deleting drops.
func TestChangesBetweenAttempts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep, gone := w.endpoint("http://a"), w.endpoint("http://gone")
		w.answers("http://b", ok, broken)
		w.publish(1)
		sleep(time.Second)
		b := "http://b"
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, URL: &b})
		w.do(&control.DeleteEndpoint{Endpoint: gone.ID})
		sleep(3 * time.Hour)
		if a, b, g := len(w.of("http://a")), len(w.of("http://b")), len(w.of("http://gone")); a != 1 || b != 1 || g != 1 {
			t.Errorf("%d, %d and %d requests, want 1 each", a, b, g)
		}
	})
}

// What can't be read, or can't be sent, is a dead letter once, and in nobody's
// way, across restarts.
func TestPoison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		lane := delivery.Lane(ep.ID)
		for _, p := range []eventlog.Partition{{Topic: "events.live"}, {Topic: "tier.0s", Number: lane}, {Topic: "tier.5s", Number: lane}} {
			if _, err := w.log.Append(t.Context(), []eventlog.Record{{Partition: p, Value: []byte("poison")}}); err != nil {
				t.Fatal(err)
			}
		}
		w.publishAs("test.panic", 1, 0)
		good := w.publishAs("test.event", 2, 10000)
		sleep(time.Minute)
		w.stop()
		for _, topic := range []string{"held", "attempts"} {
			if _, err := w.log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: topic, Number: lane}, Value: []byte("poison")}}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			w.start()
			sleep(time.Minute)
			w.stop()
		}
		got := ids(w.of("http://a")) // two at once
		slices.Sort(got)
		if !slices.Equal(got, good) {
			t.Errorf("%v came, want %v", got, good)
		}
		var reasons []string
		for _, id := range []string{ep.ID, laneOne(t)} {
			for _, r := range w.records("dead", id) {
				d, err := delivery.DecodeDelivery(r.Value)
				if err != nil {
					t.Fatal(err)
				}
				reasons = append(reasons, d.Origin.Topic+": "+d.Reason)
			}
			if lane == 1 {
				break
			}
		}
		if len(reasons) != 6 {
			t.Errorf("%d dead letters, want 6: %q", len(reasons), reasons)
		}
	})
}

// laneOne gives an id whose lane takes the live events that can't be read.
func laneOne(t *testing.T) string {
	for i := range 1000 {
		if id := "x" + string(rune('a'+i)); delivery.Lane(id) == 1 {
			return id
		}
	}
	t.Fatal("no id in lane 1")
	return ""
}

// Tests go out whatever the status, once, and count for nothing.
func TestTestDelivery(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		paused := endpoint.Paused
		ch := w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		w.set(func(request) delivery.Outcome { return broken })
		for i := range 10 {
			d := delivery.NewTest(newEvent(i), ep.ID, ch.Offset)
			if _, err := w.log.Append(t.Context(), []eventlog.Record{{
				Partition: eventlog.Partition{Topic: "tier.0s", Number: delivery.Lane(ep.ID)}, Value: d.AppendRecord(nil)}}); err != nil {
				t.Fatal(err)
			}
			sleep(10 * time.Minute)
		}
		if n := len(w.of("http://a")); n != 10 || w.status(ep.ID) != endpoint.Paused {
			t.Errorf("%d requests, want 10; %s", n, w.status(ep.ID))
		}
		if n := len(w.records("attempts", ep.ID)); n != 10 {
			t.Errorf("%d attempts in the journal, want 10", n)
		}
	})
}

// What is held for longer than a week is counted, not sent.
func TestExpiry(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		w.publish(700)
		sleep(4 * 24 * time.Hour)
		late := w.publish(5)
		sleep(3*24*time.Hour + time.Hour)
		if m := w.control.Endpoint(ep.ID).Missed; m != 700 {
			t.Errorf("%d counted as missed, want 700", m)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(time.Minute)
		got := ids(w.of("http://a")) // all at once
		slices.Sort(got)
		if !slices.Equal(got, late) {
			t.Errorf("%v came, want %v", got, late)
		}
	})
}

// Fan-out's doubles are dropped; what others put on the first tier never is.
func TestDoubles(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.publish(3)
		sleep(time.Second)
		first := w.deliveries("tier.0s", ep.ID)
		if len(first) == 0 { // trimmed already
			first = nil
		}
		again := func(first bool) {
			for off := range int64(3) {
				ev := newEvent(int(off))
				ev.Offset = off
				d := delivery.New(ev, ep.ID, 0)
				d.First = first
				if _, err := w.log.Append(context.Background(), []eventlog.Record{{
					Partition: eventlog.Partition{Topic: "tier.0s", Number: delivery.Lane(ep.ID)}, Value: d.AppendRecord(nil)}}); err != nil {
					t.Fatal(err)
				}
			}
			sleep(time.Second)
		}
		again(true)
		if n := len(w.of("http://a")); n != 3 {
			t.Errorf("%d came, want 3", n)
		}
		w.stop()
		w.start()
		again(true)
		if n := len(w.of("http://a")); n != 3 {
			t.Errorf("%d came after a restart, want 3", n)
		}
		again(false)
		if n := len(w.of("http://a")); n != 6 {
			t.Errorf("%d came, want 6 with those sent again by hand", n)
		}
	})
}

func missing(got, want []string) (out []string) {
	for _, id := range want {
		if !slices.Contains(got, id) {
			out = append(out, id)
		}
	}
	return out
}
