package dispatcher_test

import (
	"slices"
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// What an owner had in memory for a slow endpoint, or under way, is older than all
// that it put into held: the next owner sends it first, and not behind a backlog of
// hours.
func TestOldestFirst(t *testing.T) {
	for _, how := range []string{"kill", "stop", "move", "kills"} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { oldestFirst(w, how) })
		})
	}
}

func oldestFirst(w *world, how string) {
	const room = 64 // what is under way at once, before and after, comes in any order
	t := w.t
	ep := w.endpoint("http://a")
	w.set(func(request) delivery.Outcome {
		o := ok
		o.Took = 300 * time.Millisecond
		return o
	})
	all := w.publish(3000)
	m := w.unkillable(w.log)
	w.startOn(m, true)
	sleep(5 * time.Second)
	for range 3 {
		before := w.of(ep.URL)
		if how != "stop" && how != "move" {
			m.kill()
		}
		w.stop()
		w.forget()
		if held := w.deliveries(delivery.HeldTopic, ep.ID); len(held) == 0 || held[0].Event.ID <= slices.Max(ids(before)) {
			t.Fatal("nothing is behind what is in memory: this tests nothing")
		}
		if how == "move" {
			w.move()
		}
		m = w.unkillable(w.log)
		w.startOn(m, true)
		sleep(2 * time.Second)
		next := slices.Index(all, slices.Max(ids(before))) + 1
		after := ids(w.of(ep.URL))
		if len(after) < 2*room {
			t.Fatalf("only %d requests after it", len(after))
		}
		for i, id := range after {
			if at := slices.Index(all, id); at < next-room || at > next+i+room {
				t.Errorf("request %d after it is of %s, and %d came before", i, id, next)
			}
		}
		if how != "kills" {
			break
		}
	}
	sleep(time.Minute)
	if last := all[len(all)-1]; !slices.Contains(ids(w.of(ep.URL)), last) {
		t.Errorf("%s never came", last)
	}
}
