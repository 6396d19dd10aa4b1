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
)

func newEvent(i int) *event.Event {
	return &event.Event{ID: fmt.Sprintf("t%d", i), Type: "test.event", Environment: event.Live, Org: "org",
		Audience: event.Audience{Orgs: []string{"org"}}, Key: "org", Data: []byte("{}")}
}

// Dispatchers are killed at any append, of which a part may have been written.
// Nothing is lost, and what comes twice was under way, or its record wasn't
// durable, when its dispatcher died.
func TestKills(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { killing(w, seed) })
		})
	}
}

func killing(w *world, seed uint64) {
	t := w.t
	rnd := rand.New(rand.NewPCG(seed, 1))
	fails := rand.New(rand.NewPCG(seed, 2))
	var eps []*endpoint.Endpoint
	for i := range 6 {
		eps = append(eps, w.endpoint(fmt.Sprintf("http://%d", i)))
	}
	var calm atomic.Bool
	w.set(func(r request) delivery.Outcome {
		o := ok
		switch {
		case !calm.Load() && (fails.IntN(4) == 0 || r.url == "http://5"):
			o = broken
		}
		o.Took = time.Duration(fails.IntN(40)) * time.Millisecond
		return o
	})
	paused, active := endpoint.Paused, endpoint.Active
	var owed []string
	type life struct{ died, next time.Time } // when it was killed, and the next began
	var lives []life
	for range 12 {
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 3))}
		m.left.Store(int64(2 + rnd.IntN(120)))
		w.startOn(m, false)
		for range 10 {
			owed = append(owed, w.publish(1+rnd.IntN(20))...)
			if rnd.IntN(4) == 0 {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &paused})
			}
			sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			if w.status(eps[0].ID) == endpoint.Paused && rnd.IntN(2) == 0 {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &active})
			}
		}
		if rnd.IntN(5) > 0 {
			m.kill() // if it lives still
		}
		w.stop()
		if !m.died.IsZero() {
			lives = append(lives, life{m.died, time.Now()})
		}
	}
	calm.Store(true)
	if w.status(eps[0].ID) == endpoint.Paused {
		w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &active})
	}
	w.start()
	sleep(3 * time.Hour)
	for _, ep := range eps {
		if w.status(ep.ID) == endpoint.Disabled {
			w.do(&control.EnableEndpoint{Endpoint: ep.ID})
		}
	}
	sleep(3 * time.Hour)
	for _, ep := range eps {
		delivered := make(map[string]request)
		doubles := 0
		for _, r := range w.of(ep.URL) {
			if r.ended.IsZero() {
				continue
			}
			if before, twice := delivered[r.event]; twice {
				doubles++
				// Its first success was answered when its dispatcher was dead already.
				if !slices.ContainsFunc(lives, func(l life) bool {
					return !before.ended.Before(l.died) && !before.at.After(l.next)
				}) {
					t.Errorf("seed %d: %s got %s twice, answered at %v and %v", seed, ep.URL, r.event, before.ended, r.ended)
				}
			}
			delivered[r.event] = r
		}
		t.Logf("%s: %d owed, %d came twice over %d kills", ep.URL, len(owed), doubles, len(lives))
		dead := make(map[string]bool)
		for _, d := range w.deliveries("dead", ep.ID) {
			dead[d.Event.ID] = true
		}
		lost := 0
		for _, id := range owed {
			if _, came := delivered[id]; !came && !dead[id] {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("seed %d: %s lost %d of %d", seed, ep.URL, lost, len(owed))
		}
	}
}

// A kill repeats what was under way, all of it, and nothing that was finished
// above a slow head, although no checkpoint says so.
func TestTakeOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		var slow []string
		w.set(func(r request) delivery.Outcome {
			o := ok
			if slices.Contains(slow, r.event) {
				o.Took = time.Hour
			}
			return o
		})
		m := &mortal{Log: w.log}
		m.left.Store(1 << 40)
		w.startOn(m, true)
		sleep(time.Minute)
		slow = []string{"e00001", "e00003", "e00005", "e00100"}
		w.publish(200)
		sleep(time.Second)
		m.kill()
		w.stop()
		if n := len(w.of(ep.URL)); n != 200 {
			t.Fatalf("%d requests before the kill", n)
		}
		w.forget()
		was := slow
		slow = nil
		w.start()
		sleep(time.Minute)
		got := ids(w.of(ep.URL))
		slices.Sort(got)
		if !slices.Equal(got, was) {
			t.Errorf("after the kill %v were sent, want %v", got, was)
		}
	})
}
