package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// keys gives an ordered endpoint's events to it, and what became of them.
type keys struct {
	mu    sync.Mutex
	w     *world
	of    map[string]string // key by event
	order map[string][]string
}

func (k *keys) publish(key string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range k.w.publishTo("org", key, n) {
		k.of[id] = key
		k.order[key] = append(k.order[key], id)
	}
}

// inOrder checks that a delivery was begun only when all before it of its key were
// delivered or dead, and that all have come to one of these ends.
func (k *keys) inOrder(url string) {
	k.w.t.Helper()
	ended := make(map[string]time.Time) // when it was delivered, or its last attempt made
	place := make(map[string]int)       // of the first of a key that hasn't ended
	for _, r := range k.w.of(url) {
		all := k.order[k.of[r.event]]
		n := slices.Index(all, r.event)
		for p := place[k.of[r.event]]; p < n; p++ {
			if at, over := ended[all[p]]; !over || at.After(r.at) {
				k.w.t.Fatalf("%s: attempt %d of %s (%s) began at %v, before the end of %s", url, r.attempt, r.event, k.of[r.event], r.at, all[p])
			}
		}
		if n < place[k.of[r.event]] {
			k.w.t.Fatalf("%s: %s (%s) came again at %v, when later ones had", url, r.event, k.of[r.event], r.at)
		}
		place[k.of[r.event]] = n
		if _, over := ended[r.event]; !over && (!r.ended.IsZero() || r.attempt == len(schedule)) {
			ended[r.event] = r.at
			if !r.ended.IsZero() {
				ended[r.event] = r.ended
			}
		}
	}
	for id := range k.of {
		if _, over := ended[id]; !over {
			k.w.t.Errorf("%s never got %s", url, id)
		}
	}
}

// Ordered endpoints stay in order over kills at any append, hand-overs, failures,
// pauses, and bursts that don't fit into memory.
func TestOrdered(t *testing.T) {
	inWorlds(t, 3, 1, orderedly)
}

func orderedly(w *world, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 21))
	fails := rand.New(rand.NewPCG(seed, 22))
	yes := true
	var eps []*endpoint.Endpoint
	for i := range 3 {
		eps = append(eps, w.endpointOf("org", fmt.Sprintf("http://%d", i), endpoint.OptionsPatch{Ordered: &yes}))
	}
	k := &keys{w: w, of: make(map[string]string), order: make(map[string][]string)}
	var calm atomic.Bool
	var dies atomic.Value // an event that nobody ever takes
	dies.Store("")
	w.set(func(r request) delivery.Outcome {
		o := ok
		poison := r.event == dies.Load()
		if poison { // others are taken meanwhile, so that nobody is disabled
			time.AfterFunc(time.Second, func() { k.publish("steady", 1) })
		}
		if poison || !calm.Load() && fails.IntN(6) == 0 {
			o = broken
		}
		o.Took = time.Duration(fails.IntN(40)) * time.Millisecond
		return o
	})
	paused, active := endpoint.Paused, endpoint.Active
	kills := 0
	for range 12 {
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 3))}
		m.left.Store(int64(2 + rnd.IntN(200)))
		w.startOn(m, false)
		for range 8 {
			k.publish(fmt.Sprint("k", rnd.IntN(5)), 1+rnd.IntN(12))
			if rnd.IntN(8) == 0 {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &paused})
			}
			sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
			if w.status(eps[0].ID) == endpoint.Paused {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &active})
			}
		}
		if rnd.IntN(3) > 0 {
			m.kill()
		}
		w.stop()
		if !m.died.IsZero() {
			kills++
		}
	}
	calm.Store(true)
	w.start()
	sleep(3 * time.Hour)
	dies.Store(fmt.Sprintf("e%05d", w.events+5))
	k.publish("k0", 20)
	sleep(6 * time.Hour)
	for _, ep := range eps {
		if w.status(ep.ID) != endpoint.Active {
			w.t.Fatalf("%s is %s", ep.URL, w.status(ep.ID))
		}
		k.inOrder(ep.URL)
		if n := len(w.deliveries("dead", ep.ID)); n != 1 {
			w.t.Errorf("%s has %d dead letters, want 1", ep.URL, n)
		}
	}
	w.t.Logf("%d events, %d kills", len(k.of), kills)
}

// How often a delivery was tried, and when it is next, outlives kills, whether a
// snapshot says so or the journal alone.
func TestOrderedTriesOverKills(t *testing.T) {
	for _, after := range []time.Duration{100 * time.Millisecond, 20 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				yes := true
				ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{Ordered: &yes})
				w.set(func(r request) delivery.Outcome {
					o := delivery.Outcome{Class: delivery.HTTPError, Status: 503}
					if r.attempt == 1 {
						o.RetryAt = time.Now().Add(4 * time.Minute) // the schedule goes on behind 5 min
					}
					return o
				})
				want := []time.Duration{0, 300 * time.Second, 3900 * time.Second}
				began := time.Now()
				w.publishTo("org", "k", 2)
				for i := range want {
					m := w.unkillable(w.log)
					w.startOn(m, true)
					for len(w.of(ep.URL)) <= i {
						sleep(time.Second)
					}
					sleep(min(after, 3*time.Second*time.Duration(i*i+1)))
					m.kill()
					w.stop()
				}
				w.start()
				sleep(2 * time.Hour)
				got := w.of(ep.URL)
				if len(got) < len(want) {
					t.Fatalf("%d attempts", len(got))
				}
				for i, d := range want {
					if late := got[i].at.Sub(began) - d; got[i].attempt != i+1 || got[i].event != "e00001" || late < 0 || late > 5*time.Second {
						t.Errorf("attempt %d is number %d of %s after %v, want %v", i+1, got[i].attempt, got[i].event, got[i].at.Sub(began), d)
					}
				}
			})
		})
	}
}

// The failures of one that is tried again from where it lies each count for the next
// owner, too, where the journal alone knows of them.
func TestOrderedFailuresOverKills(t *testing.T) {
	webhook := *testDialect.Webhook
	webhook.Schedule = []time.Duration{0, time.Second, time.Second, time.Second, time.Second}
	inWorld(t, func(t *testing.T, w *world) {
		yes := true
		ep := w.do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: "hasty", URL: "http://a",
			Patterns: []string{"*"}, Secret: endpoint.Secret("12345678"), Options: endpoint.OptionsPatch{Ordered: &yes}}).Endpoint
		w.set(func(request) delivery.Outcome { return broken })
		m := w.unkillable(w.log)
		w.startOn(m, true)
		sleep(10 * time.Second)
		w.publish(1) // a snapshot follows the first attempt, and the next 5 s later
		sleep(3500 * time.Millisecond)
		m.kill()
		w.stop()
		if n := len(w.of(ep.URL)); n != 4 {
			t.Fatalf("%d attempts before the kill", n)
		}
		w.start()
		sleep(time.Minute)
		if n := len(w.of(ep.URL)); n != 5 || w.status(ep.ID) != endpoint.Disabled {
			t.Errorf("after %d attempts that failed, without a success, it is %s", n, w.status(ep.ID))
		}
	}, &dialect.Dialect{Name: "hasty", Webhook: &webhook})
}
