package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Dispatchers are killed at any append, of which a part may have been written, or
// hand over in order. What a replay sends is sent, or with the dead letters; what
// comes twice was under way when its dispatcher was killed; and the counts are right.
func TestReplayKills(t *testing.T) {
	inWorlds(t, 4, 1, killingReplays)
}

func killingReplays(w *world, seed uint64) {
	t := w.t
	rnd := rand.New(rand.NewPCG(seed, 1))
	fails := rand.New(rand.NewPCG(seed, 2))
	eps := []*endpoint.Endpoint{w.endpoint("http://0"), w.endpoint("http://1"), w.endpoint("http://2")}
	var calm atomic.Bool
	w.set(func(r request) delivery.Outcome {
		o := ok
		if !calm.Load() && fails.IntN(20) == 0 {
			o = broken
		}
		o.Took = time.Duration(fails.IntN(2000)) * time.Millisecond
		if fails.IntN(10) == 0 {
			o.Took = 8 * time.Second // over more than one snapshot
		}
		return o
	})
	w.start()
	owed := append(w.publish(500), w.publishAs("test.large", 20, 10_000)...)
	sleep(10 * time.Minute)
	w.stop()
	w.forget()
	var replays []*control.Replay
	for i, ep := range eps {
		replays = append(replays, w.replay(ep))
		if i == 2 { // one behind the other
			replays = append(replays, w.replay(ep, of("test.large")))
		}
	}
	type life struct{ died, next time.Time }
	var lives []life
	for range 10 {
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 3))}
		m.left.Store(int64(2 + rnd.IntN(300)))
		w.startOn(m, false)
		for range 4 {
			w.publish(1)
			sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
		}
		if rnd.IntN(3) > 0 {
			m.kill()
		}
		w.stop()
		if !m.died.IsZero() {
			lives = append(lives, life{m.died, time.Now()})
		}
	}
	calm.Store(true)
	w.start()
	sleep(3 * time.Hour)
	for _, r := range replays {
		url, want := w.control.Endpoint(r.Endpoint).URL, owed
		if r.Patterns != nil {
			want = owed[500:]
		}
		now := w.ended(r)
		if now.Delivered+now.Failed != int64(len(want)) || now.Done != now.Total {
			t.Errorf("seed %d: %s: of %d events it counts %+v", seed, url, len(want), now.Progress)
		}
		delivered := make(map[string]request)
		doubles := 0
		for _, req := range w.of(url) {
			if req.ended.IsZero() || req.delivery != w.replayed(r, req.event) {
				continue
			}
			if before, twice := delivered[req.event]; twice {
				doubles++
				if !slices.ContainsFunc(lives, func(l life) bool {
					return !before.ended.Before(l.died) && !before.at.After(l.next)
				}) {
					t.Errorf("seed %d: %s got %s twice, answered at %v and %v", seed, url, req.event, before.ended, req.ended)
				}
			}
			delivered[req.event] = req
		}
		t.Logf("%s: %d of %d, %d came twice over %d kills", url, len(delivered), len(want), doubles, len(lives))
		for _, id := range want {
			if _, came := delivered[id]; !came {
				t.Errorf("seed %d: %s lost %s", seed, url, id)
			}
		}
	}
}

// replayed gives the id of the delivery that the replay makes of an event.
func (w *world) replayed(r *control.Replay, id string) string {
	var at int64
	fmt.Sscanf(id, "e%d", &at)
	return delivery.ID(&event.Event{Environment: event.Live, ID: id, Offset: at - 1}, r.Endpoint, r.ID)
}

// Dispatchers that hand over in order send nothing twice.
func TestReplayHandover(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.start()
		w.publish(500)
		sleep(time.Minute)
		w.forget()
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = 300 * time.Millisecond
			return o
		})
		r := w.replay(ep)
		for range 6 {
			sleep(700 * time.Millisecond)
			w.stop()
			w.start()
		}
		sleep(time.Minute)
		if r = w.ended(r); r.Delivered != 500 {
			t.Errorf("it ended with %+v", r.Progress)
		}
		if n := len(w.of("http://a")); n != 500 {
			t.Errorf("%d requests for 500 events", n)
		}
	})
}

// A replay goes on in another log, where all offsets are others.
func TestReplayMoves(t *testing.T) {
	for name, more := range map[string]func(*control.StartReplay){"events": of("*"), "failed": failedOnly} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.keeps = true
				ep := w.endpoint("http://a")
				w.start()
				w.publish(20)
				sleep(time.Minute)
				w.set(func(r request) delivery.Outcome {
					if r.event <= "e00100" && r.event[5]%2 == 1 {
						return broken
					}
					return ok
				})
				w.publish(80)
				w.others()
				w.forget()
				w.set(func(request) delivery.Outcome {
					o := ok
					o.Took = time.Second
					return o
				})
				r := w.replay(ep, more)
				sleep(2500 * time.Millisecond)
				w.stop()
				before := len(w.of("http://a"))
				if err := w.log.Trim(t.Context(), eventlog.Partition{Topic: "events.live"}, 15); err != nil {
					t.Fatal(err)
				}
				var n int64
				for _, m := range w.move() {
					n += m.Replays
				}
				w.start()
				sleep(10 * time.Minute)
				want := 135
				if r.FailedOnly {
					want = 40
				}
				if got := len(w.of("http://a")); n != 1 || before < 20 || before > 60 || got != want {
					t.Errorf("%d replays were moved, with %d requests made before; there are %d, want %d", n, before, got, want)
				}
				if r = w.ended(r); r.Delivered != int64(want) || r.Done != r.Total {
					t.Errorf("it ended with %+v", r.Progress)
				}
			})
		})
	}
}
