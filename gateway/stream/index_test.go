package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/dialect"
	"sluice/pkg/dialect/tetrafi"
	"sluice/pkg/event"
	datafilter "sluice/pkg/filter"
)

// TestIndex has connections come, change and go at random, and holds who gets an
// event against asking everybody.
func TestIndex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	h := New(Config{Streams: []*dialect.Stream{tetrafi.Dialect.Stream}, Shards: 1, Metrics: prometheus.NewRegistry(), Limits: Limits{QueueEvents: 1 << 20, QueueBytes: 1 << 30}})
	s := h.shards[0]
	room := s.rooms[event.Sandbox]
	var words event.Patterns
	for _, w := range []string{"*", "a.*", "b.*", "a.one", "b.two", "*.two", "c.three"} {
		p, err := event.ParsePattern(w)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, p)
	}
	corridors := [][]string{nil, nil, {"x"}, {"x", "y"}}
	conditions := []*datafilter.Filter{nil, nil}
	for _, text := range []string{`{"n":0}`, `{"n":{"gt":0}}`} {
		f, err := datafilter.Of(text)
		if err != nil {
			t.Fatal(err)
		}
		conditions = append(conditions, f)
	}
	var live []*conn
	for round := range 3000 {
		switch n := rnd.IntN(4); {
		case n == 0 && len(live) < 60 || len(live) == 0:
			c := newConn(h, s, round, 0)
			c.org, c.environment = fmt.Sprint("org_", rnd.IntN(4)), event.Sandbox
			s.add(c)
			live = append(live, c)
		case n == 1:
			i := rnd.IntN(len(live))
			s.remove(live[i])
			live = slices.Delete(live, i, i+1)
		case n == 2:
			c := live[rnd.IntN(len(live))]
			var pairs []pair
			for range rnd.IntN(4) {
				p := pair{corridors: corridors[rnd.IntN(len(corridors))], data: conditions[rnd.IntN(len(conditions))]}
				for range 1 + rnd.IntN(3) {
					p.patterns = append(p.patterns, words[rnd.IntN(len(words))])
				}
				pairs = append(pairs, p)
			}
			room.place(c, pairs)
		default:
			ev := &event.Event{ID: "evt_1", Type: []string{"a.one", "a.two", "b.two", "c.three", "d.four"}[rnd.IntN(5)], Environment: event.Sandbox, Corridor: []string{"", "x", "y", "z"}[rnd.IntN(4)], Data: fmt.Appendf(nil, `{"n":%d}`, rnd.IntN(3)), Offset: int64(round)}
			if ev.Audience.All = rnd.IntN(2) == 0; !ev.Audience.All {
				ev.Audience.Orgs = []string{"org_1", "org_3"}
			}
			before := make(map[*conn]int)
			for _, c := range live {
				before[c] = c.queue.events
			}
			room.deliver(newEntry(h, ev))
			for _, c := range live {
				want := ev.Audience.Includes(c.org) && slices.ContainsFunc(c.pairs, func(p pair) bool { return p.match(ev) })
				if got := c.queue.events - before[c]; got > 1 || (got == 1) != want {
					t.Fatalf("round %d: %s of %s came %d times, wanted %v", round, ev.Type, c.org, got, want)
				}
			}
		}
	}
	for _, c := range live {
		s.remove(c)
	}
	if len(room.filters)+len(room.list)+len(room.orgs)+len(s.conns) != 0 {
		t.Error("something is left of nobody")
	}
}
