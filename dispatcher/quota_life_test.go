package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// A start of another owner of the lanes, in the middle, sends nothing twice and
// nothing early, and all of it when the month turns: whether the one before stopped
// in order, or stood still with deliveries under way and wakes up later.
func TestQuotaOwners(t *testing.T) {
	for _, stands := range []bool{false, true} {
		t.Run(fmt.Sprintf("stands still %v", stands), func(t *testing.T) {
			inQuota(t, func(t *testing.T, w *world, c *counting) {
				w.keeps = true
				ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
				f := w.frozen(w.log, 1)
				f.honest = true
				_, stop := w.run(f, frozenSender{f})
				w.onFree(freeQuota - 5)
				owed := w.publish(30)
				sleep(time.Second)
				w.wantGot(ep.URL, owed[:5])
				if stands {
					f.freeze()
					sleep(10 * time.Second)
				} else {
					stop()
				}
				next := w.counts()
				defer next.stop()
				w.start()
				defer w.stop()
				sleep(time.Minute)
				if stands {
					f.wake()
					sleep(10 * time.Second)
					stop()
				}
				owed = append(owed, w.publish(5)...)
				sleep(time.Hour)
				w.wantGot(ep.URL, owed[:5])
				sleep(time.Until(turn.Add(time.Minute)))
				w.wantGot(ep.URL, owed)
			})
		})
	}
}

// inTwoLanes has two endpoints share the one delivery that is left. What one has under way
// the other, which comes second, doesn't get.
func inTwoLanes(t *testing.T, first delivery.Outcome, fn func(w *world, one, two *endpoint.Endpoint, owed []string)) {
	t.Helper()
	inQuota(t, func(t *testing.T, w *world, c *counting) {
		one := w.inLane(3, func() *endpoint.Endpoint { return w.metered("org", "http://one", endpoint.OptionsPatch{}) })
		two := w.inLane(4, func() *endpoint.Endpoint { return w.metered("org", "http://two", endpoint.OptionsPatch{}) })
		w.answers(one.URL, first, ok)
		w.start()
		w.onFree(freeQuota - 1)
		w.setStatus(two, endpoint.Paused)
		owed := w.publish(1)
		sleep(time.Second)
		w.setStatus(two, endpoint.Active)
		sleep(time.Second)
		w.wantGot(one.URL, owed)
		w.wantGot(two.URL, nil)
		fn(w, one, two, owed)
		sleep(time.Second)
		if n := c.used(t, "org", time.January); n != freeQuota {
			t.Errorf("%d are counted", n)
		}
	})
}

// What can't be attempted gives back what it took: another goes in its stead, in
// another lane within a minute. What was attempted doesn't, whatever became of its
// endpoint.
func TestQuotaGivenBack(t *testing.T) {
	inTwoLanes(t, notMade, func(w *world, one, two *endpoint.Endpoint, owed []string) { // for half a minute at a time
		w.setStatus(one, endpoint.Paused)
		sleep(2 * time.Minute)
		w.wantGot(two.URL, owed)
	})
	slow := delivery.Outcome{Class: delivery.Delivered, Status: 200, Took: 10 * time.Minute}
	inTwoLanes(t, slow, func(w *world, one, two *endpoint.Endpoint, _ []string) {
		w.do(&control.DeleteEndpoint{Endpoint: one.ID})
		sleep(15 * time.Minute)
		w.wantGot(two.URL, nil)
	})
}

// One that couldn't be attempted, by when its org's quota was used up, doesn't wait in
// memory: the tier that it is from would be read no further.
func TestQuotaUnmadeIsHeld(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, _ *counting) {
		metered := func(url string) *endpoint.Endpoint {
			return w.inLane(3, func() *endpoint.Endpoint { return w.metered("org", url, endpoint.OptionsPatch{}) })
		}
		one, two := metered("http://one"), metered("http://two")
		w.answers(one.URL, notMade, notMade)
		w.start()
		w.onFree(freeQuota - 1)
		w.publish(1)
		if n := held(w, one, two); n != 1 {
			t.Fatalf("%d are held where one is under way", n)
		}
		sleep(30 * time.Second)
		if n := held(w, one, two); n != 2 {
			t.Errorf("%d are held where nobody could be attempted", n)
		}
		w.set(nil)
		sleep(time.Minute)
		if n := len(w.of(one.URL)) + len(w.of(two.URL)); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

// A lane whose life ends gives back what it took for attempts whose end it doesn't
// see: another lane has it within a minute.
func TestQuotaOfLaneThatEnds(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, _ *counting) {
		w.keeps = true
		ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
		w.set(func(r request) delivery.Outcome {
			o := ok
			if r.from != nil {
				o.Took = time.Hour
			}
			return o
		})
		f := w.frozen(w.log, 1)
		f.honest = true
		_, stop := w.run(f, frozenSender{f})
		w.onFree(freeQuota - 1)
		owed := w.publish(1)
		sleep(time.Second)
		f.freeze()
		sleep(10 * time.Second)
		w.start() // in the same process: it has the same account
		defer func() { w.stop() }()
		sleep(time.Minute)
		w.wantGot(ep.URL, owed)
		f.wake()
		sleep(10 * time.Second)
		stop()
		sleep(time.Minute)
		w.wantGot(ep.URL, append(owed, owed...))
	})
}

// An org whose endpoints were deleted while it was spent, and something was under way, is
// looked at for those that are made meanwhile.
func TestQuotaOfEndpointMadeAnew(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, _ *counting) {
		metered := func(url string) *endpoint.Endpoint {
			return w.inLane(3, func() *endpoint.Endpoint { return w.metered("org", url, endpoint.OptionsPatch{}) })
		}
		one, two := metered("http://one"), metered("http://two")
		slow := ok
		slow.Took = 10 * time.Minute
		w.set(func(r request) delivery.Outcome {
			if r.url == "http://three" {
				return ok
			}
			return slow
		})
		w.start()
		w.onFree(freeQuota - 1)
		w.publish(1) // one is under way, and the other spent
		sleep(time.Second)
		w.do(&control.DeleteEndpoint{Endpoint: one.ID})
		w.do(&control.DeleteEndpoint{Endpoint: two.ID})
		sleep(2 * time.Minute)
		three := metered("http://three")
		owed := w.publish(1)
		sleep(time.Second)
		w.wantGot(three.URL, nil)
		w.plan("org", control.Pro)
		sleep(time.Second)
		w.wantGot(three.URL, owed)
	})
}

func (w *world) setStatus(ep *endpoint.Endpoint, status endpoint.Status) {
	w.t.Helper()
	w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &status})
}

// Dispatchers are killed at any append while the month is used up. What is past the
// quota before it turns is what was under way at a kill; nothing is lost, and each
// endpoint has its events in order.
func TestQuotaKills(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inQuota(t, func(t *testing.T, w *world, c *counting) {
				rnd := rand.New(rand.NewPCG(seed, 5))
				w.keeps = seed%2 == 1
				eps := []*endpoint.Endpoint{w.metered("org", "http://one", endpoint.OptionsPatch{}), w.metered("org", "http://two", endpoint.OptionsPatch{})}
				const left, kills = 20, 8
				w.onFree(freeQuota - left)
				var owed []string
				for range kills {
					m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 3))}
					m.left.Store(int64(40 + rnd.IntN(60))) // some fifty are the claims of its lanes
					life := w.counts()
					w.startOn(m, false)
					for range 5 {
						owed = append(owed, w.publish(rnd.IntN(4))...)
						sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
					}
					m.kill()
					w.stop()
					life.stop()
				}
				began := make(map[string]bool)
				for _, ep := range eps {
					for _, r := range w.of(ep.URL) {
						began[ep.URL+r.event] = true
					}
				}
				if n := len(began); n < left || n > left+len(eps)*kills {
					t.Errorf("%d went out where %d are left", n, left)
				}
				life := w.counts()
				defer life.stop()
				w.start()
				defer func() { w.stop() }()
				sleep(time.Until(turn.Add(time.Minute)))
				for _, ep := range eps {
					var first []string
					for _, r := range w.of(ep.URL) {
						if !slices.Contains(first, r.event) {
							first = append(first, r.event)
						}
					}
					if !slices.Equal(first, owed) {
						t.Errorf("%s got %v, not %v", ep.URL, first, owed)
					}
				}
			})
		})
	}
}
