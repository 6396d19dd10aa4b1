package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/pkg/delivery"
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
	inWorlds(t, 4, 1, killing)
}

func killing(w *world, seed uint64) {
	o := w.ordeal(6, seed, 1)
	type life struct{ died, next time.Time } // when it was killed, and the next began
	var lives []life
	for range 12 {
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(o.rnd.Uint64(), 3))}
		m.left.Store(int64(2 + o.rnd.IntN(120)))
		w.startOn(m, false)
		for range 10 {
			o.live()
		}
		if o.rnd.IntN(5) > 0 {
			m.kill() // if it lives still
		}
		w.stop()
		if !m.died.IsZero() {
			lives = append(lives, life{m.died, time.Now()})
		}
	}
	o.relent()
	o.recover()
	o.accounts(func(before, _ request) bool {
		// Its first success was answered when its dispatcher was dead already.
		return slices.ContainsFunc(lives, func(l life) bool {
			return !before.ended.Before(l.died) && !before.at.After(l.next)
		})
	}, 32*len(lives))
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
