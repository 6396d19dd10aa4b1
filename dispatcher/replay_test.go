package dispatcher_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// replay asks for what was logged within the last day.
func (w *world) replay(ep *endpoint.Endpoint, more ...func(*control.StartReplay)) *control.Replay {
	w.t.Helper()
	cmd := &control.StartReplay{Endpoint: ep.ID, Since: time.Now().Add(-24 * time.Hour)}
	for _, set := range more {
		set(cmd)
	}
	return w.do(cmd).Replay
}

func failedOnly(cmd *control.StartReplay) { cmd.FailedOnly = true }

func of(patterns ...string) func(*control.StartReplay) {
	return func(cmd *control.StartReplay) { cmd.Patterns = patterns }
}

// ended gives a replay as control has it, and fails the test if it hasn't ended.
func (w *world) ended(r *control.Replay) *control.Replay {
	w.t.Helper()
	now := w.control.Replay(r.Endpoint, r.ID)
	if now == nil || !now.Ended() {
		w.t.Fatalf("replay hasn't ended: %+v", now)
	}
	return now
}

// sentFor are the requests whose deliveries are the replay's.
func (w *world) sentFor(url string, r *control.Replay) (sent []request) {
	ours := make(map[string]bool)
	for _, rec := range w.records("attempts", r.Endpoint) {
		if a, err := delivery.DecodeAttempt(rec.Value); err == nil && a.Replay == r.ID {
			ours[a.Delivery] = true
		}
	}
	for _, req := range w.of(url) {
		if ours[req.delivery] {
			sent = append(sent, req)
		}
	}
	return sent
}

// A replay sends what was asked for once more, in the order of the log, under new
// delivery ids. Only what fails gets a record in a tier, and is retried as any.
func TestReplay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.keeps = true
		early := w.publish(3) // nobody's, but the org's to see
		ep := w.endpoint("http://a")
		w.start()
		owed := append(w.publish(300), w.publishAs("test.large", 5, 10_000)...)
		other := append(w.publishAs("other.event", 4, 0), w.publishTo("another", "k", 4)...)
		sleep(time.Minute)
		first := make(map[string]string)
		for _, r := range w.of("http://a") {
			first[r.event] = r.delivery
		}
		w.forget()
		w.set(func(r request) delivery.Outcome {
			o := ok
			if r.event == "e00007" && r.attempt == 1 {
				o = broken
			}
			o.Took = 10 * time.Millisecond
			return o
		})
		r := w.replay(ep, of("test.*"))
		sleep(time.Minute)
		if r = w.ended(r); r.Delivered != 307 || r.Failed != 1 || r.Done != r.Total || r.Total != 316 || r.Expired != 0 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		got := w.of("http://a")
		want := slices.Concat(early, owed)
		for _, req := range got {
			if req.delivery == first[req.event] || slices.Contains(other, req.event) {
				t.Errorf("%s was sent as %s, before as %s", req.event, req.delivery, first[req.event])
			}
		}
		if n := len(w.sentFor("http://a", r)); n != len(got) || n != len(want)+1 {
			t.Errorf("%d requests are known to be of the replay, of %d", n, len(got))
		}
		last := got[len(got)-1]
		if last.event != "e00007" || last.attempt != 2 || last.delivery != w.replayed(r, last.event) {
			t.Errorf("the retry is %+v", last)
		}
		// What is begun at the same moment arrives in any order.
		for i, event := range ids(got[:len(got)-1]) {
			if at := slices.Index(want, event); at < i-32 || at > i+32 {
				t.Errorf("%s came as number %d, not %d", event, i, at)
			}
		}
		if n := len(w.records("tier.0s", ep.ID)); n != 309 {
			t.Errorf("%d records on the first tier", n)
		}
		if n := len(w.records("tier.5s", ep.ID)); n != 1 {
			t.Errorf("%d records on the second", n)
		}
		if n := len(w.records("held", ep.ID)); n != 0 {
			t.Errorf("%d records are held", n)
		}
	})
}

// A replay sends what an endpoint's filter lets through, of whichever types.
func TestReplayFiltered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.publishAs("test.event", 3, 1)
		w.publishAs("other.event", 4, 2)
		w.publishAs("other.event", 5, 1)
		only := `{"a":"x"}`
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Patterns: &[]string{"test.*"}, Options: endpoint.OptionsPatch{Filter: &only}})
		w.start()
		for types, want := range map[string]int{"": 3, "*": 8, "other.*": 5, "none.*": 0} {
			w.forget()
			more := of(types)
			if types == "" {
				more = func(*control.StartReplay) {}
			}
			r := w.replay(ep, more)
			sleep(time.Minute)
			if r = w.ended(r); r.Delivered != int64(want) || len(w.of("http://a")) != want {
				t.Errorf("of %q %d came: %+v", types, len(w.of("http://a")), r.Progress)
			}
		}
	})
}

// What an endpoint's owner asks for holds for replays: a rate, and an order.
func TestReplayAtItsPace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		slow, ordered := w.endpoint("http://slow"), w.endpoint("http://ordered")
		w.start()
		want := w.publish(50)
		sleep(time.Minute)
		rate, yes := 10.0, true
		w.do(&control.UpdateEndpoint{Endpoint: slow.ID, Options: endpoint.OptionsPatch{RatePerSecond: &rate}})
		w.do(&control.UpdateEndpoint{Endpoint: ordered.ID, Options: endpoint.OptionsPatch{Ordered: &yes}})
		w.forget()
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = 10 * time.Millisecond
			return o
		})
		first, second := w.replay(slow), w.replay(ordered)
		sleep(time.Minute)
		w.ended(first)
		w.ended(second)
		got := w.of("http://slow")
		if took := got[len(got)-1].at.Sub(got[0].at); len(got) != 50 || took < 4800*time.Millisecond || took > 6*time.Second {
			t.Errorf("%d came in %v", len(got), took)
		}
		if got := ids(w.of("http://ordered")); !slices.Equal(got, want) {
			t.Errorf("the order was %v", got)
		}
	})
}

// others has some events go to their endpoints until what fails is dead: with a
// success now and then none is disabled. It publishes 35.
func (w *world) others() {
	w.t.Helper()
	for range 15 {
		sleep(3 * time.Second)
		w.publish(1)
	}
	for range 20 {
		sleep(4 * time.Minute)
		w.publish(1)
	}
	sleep(time.Minute)
}

// A replay of what failed sends each event that died once, whether it died once or
// more often.
func TestReplayOfFailed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.start()
		dies := func(r request) bool { return r.event >= "e00003" && r.event <= "e00005" }
		w.set(func(r request) delivery.Outcome {
			if dies(r) {
				return broken
			}
			return ok
		})
		w.publish(10)
		w.others()
		if n := len(w.deliveries("dead", ep.ID)); n != 3 {
			t.Fatalf("%d dead letters", n)
		}
		all := w.replay(ep, failedOnly)
		w.others()
		if all = w.ended(all); all.Failed != 3 || all.Delivered != 0 {
			t.Errorf("the first ended with %+v", all.Progress)
		}
		if n := len(w.deliveries("dead", ep.ID)); n != 6 {
			t.Fatalf("%d dead letters", n)
		}
		w.forget()
		w.set(nil)
		r := w.replay(ep, failedOnly)
		sleep(time.Minute)
		if r = w.ended(r); r.Delivered != 3 || r.Failed != 0 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		if got := ids(w.of("http://a")); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"e00003", "e00004", "e00005"}) {
			t.Errorf("sent %v", got)
		}
		narrow := w.replay(ep, failedOnly, of("other.*"))
		sleep(time.Minute)
		if narrow = w.ended(narrow); narrow.Delivered != 0 {
			t.Errorf("of other types: %+v", narrow.Progress)
		}
	})
}

// What was asked for to be sent again is behind what is owed: neither the endpoint's
// own new events nor a neighbour's wait for it, though it takes a while.
func TestReplayBehindLive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.endpoint("http://b")
		w.start()
		w.publish(3000)
		sleep(time.Minute)
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = 500 * time.Millisecond
			return o
		})
		w.forget()
		r := w.replay(ep)
		published := make(map[string]time.Time)
		for range 30 {
			sleep(time.Second)
			for _, id := range w.publish(10) {
				published[id] = time.Now()
			}
		}
		if now := w.control.Replay(ep.ID, r.ID); now.Ended() || now.Delivered < 500 || now.Done < 500 || now.Total != 3000 {
			t.Errorf("meanwhile it is %+v", now.Progress)
		}
		sleep(10 * time.Minute)
		if r = w.ended(r); r.Delivered != 3000 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		for _, url := range []string{"http://a", "http://b"} {
			for _, req := range w.of(url) {
				if at, live := published[req.event]; live && req.at.Sub(at) > 0 {
					t.Errorf("%s had to wait %v for %s", url, req.at.Sub(at), req.event)
				}
			}
		}
		if r = w.control.Replay(ep.ID, r.ID); r.EndedAt.Sub(r.CreatedAt) > 3*time.Minute {
			t.Errorf("it took %v", r.EndedAt.Sub(r.CreatedAt))
		}
	})
}

// A replay waits while its endpoint can't take anything, and goes on from where it
// was; cancelled, it sends nothing more, retries included; with its endpoint it is
// gone.
func TestReplayWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.start()
		w.publish(400)
		sleep(time.Minute)
		w.forget()
		slow := ok
		slow.Took = time.Second
		w.set(func(request) delivery.Outcome { return slow })
		paused, active := endpoint.Paused, endpoint.Active
		r := w.replay(ep)
		sleep(5500 * time.Millisecond)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		sleep(time.Minute)
		if n := len(w.of("http://a")); n < 80 || n > 120 {
			t.Fatalf("%d requests until it was paused", n)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(5500 * time.Millisecond)
		w.do(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: "of the test"})
		sleep(time.Hour)
		if n := len(w.of("http://a")); n < 170 || n > 220 {
			t.Fatalf("%d requests until it was disabled", n)
		}
		w.do(&control.EnableEndpoint{Endpoint: ep.ID, Skip: 1 << 40}) // wants nothing of what it missed
		sleep(time.Minute)
		if r = w.ended(r); r.Delivered != 400 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		if n := len(w.of("http://a")); n != 400 {
			t.Errorf("%d requests for 400 events", n)
		}
	})
}

func TestReplayCancelled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep, calm := w.endpoint("http://a"), w.endpoint("http://calm")
		w.start()
		w.publish(400)
		sleep(time.Minute)
		w.forget()
		w.set(func(r request) delivery.Outcome {
			o := ok
			if r.event < "e00003" && r.url == "http://a" {
				o = broken
			}
			o.Took = time.Second
			return o
		})
		r, next := w.replay(ep), w.replay(ep, of("other.*"))
		waiting := w.replay(calm)
		w.do(&control.CancelReplay{Endpoint: calm.ID, Replay: waiting.ID})
		sleep(4500 * time.Millisecond)
		w.do(&control.CancelReplay{Endpoint: ep.ID, Replay: r.ID})
		sleep(10 * time.Second)
		n := len(w.of("http://a"))
		if n < 60 || n > 100 {
			t.Errorf("%d requests until it was cancelled", n)
		}
		if r = w.ended(r); !r.Cancelled || r.Delivered != int64(n)-2 || r.Failed != 2 {
			t.Errorf("of %d requests it knows %+v", n, r.Progress)
		}
		if next = w.ended(next); next.Cancelled { // it waited for its turn
			t.Errorf("the next one is %+v", next)
		}
		sleep(2 * time.Hour)
		if len(w.of("http://a")) != n {
			t.Errorf("%d requests, and there were %d", len(w.of("http://a")), n)
		}
		if n := len(w.deliveries("dead", ep.ID)); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		w.replay(ep)
		sleep(time.Second)
		w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
		sleep(time.Minute)
		w.stop()
		if len(w.control.Replaying()) > 0 {
			t.Errorf("%v go on without their endpoint", w.control.Replaying())
		}
		w.start()
		sleep(time.Minute)
	})
}

// aged is a log whose events were appended longer ago than they were: what was an
// hour ago is too old to be shown.
type aged struct{ eventlog.Log }

func (l aged) OffsetAt(ctx context.Context, p eventlog.Partition, t time.Time) (int64, error) {
	if p.Topic == event.Live.Topic() {
		t = t.Add(event.Shown - time.Hour)
	}
	return l.Log.OffsetAt(ctx, p, t)
}

func (w *world) age() {
	w.t.Helper()
	w.control.Close()
	w.log = aged{w.log}
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.control, err = control.Open(w.t.Context(), control.Config{Log: w.log, Sealer: sealer, Lanes: delivery.Lanes}); err != nil {
		w.t.Fatal(err)
	}
}

// sinceEver asks for all that an aged log has.
func sinceEver(cmd *control.StartReplay) { cmd.Since = time.Now().Add(-event.Kept) }

// Events that are too old to be shown aren't sent, and said; a replay that waits
// meanwhile passes over what grows too old.
func TestReplayOfOld(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.age()
		ep := w.endpoint("http://a")
		w.start()
		w.publish(3)
		sleep(30 * time.Minute)
		w.publish(4)
		sleep(40 * time.Minute)
		w.publish(5)
		sleep(time.Minute)
		w.forget()
		r := w.replay(ep, sinceEver)
		sleep(time.Minute)
		if r = w.ended(r); r.Expired != 3 || r.Delivered != 9 || r.Total != 9 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		r = w.replay(ep, sinceEver)
		sleep(30 * time.Minute)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(time.Minute)
		if r = w.ended(r); r.Expired != 7 || r.Delivered != 5 || r.Done != 9 {
			t.Errorf("the one that waited ended with %+v", r.Progress)
		}
	})
}
