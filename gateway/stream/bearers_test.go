package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/tetrafi"
)

// TestBearers has connections come, renew their keys and go at random, and keys be taken
// away: whose it is ends, and nobody else.
func TestBearers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	h := New(Config{Streams: []*dialect.Stream{tetrafi.Dialect.Stream}, Shards: 1, Metrics: prometheus.NewRegistry()})
	s := h.shards[0]
	holds := make(map[*conn]string)
	var live []*conn
	anyKey := func() string { return fmt.Sprint("key_", rnd.IntN(8)) }
	for round := range 3000 {
		switch n := rnd.IntN(8); {
		case n < 3 && len(live) < 60 || len(live) == 0:
			c := newConn(h, s, round, 0)
			c.carrier = nowhere{}
			s.add(c)
			live, holds[c] = append(live, c), ""
		case n < 5:
			i := rnd.IntN(len(live))
			s.remove(live[i])
			delete(holds, live[i])
			live = slices.Delete(live, i, i+1)
		case n < 7:
			c := live[rnd.IntN(len(live))]
			holds[c] = anyKey()
			s.bear(c, holds[c])
		default:
			id := anyKey()
			h.watch(control.Change{KeyBefore: &control.Key{ID: id}})
			s.turn()
			for _, c := range slices.Clone(live) {
				if gone := c.ended() == &endRevoked; gone != (holds[c] == id) {
					t.Fatalf("round %d: one with %q ended when %s was taken away: %v", round, holds[c], id, gone)
				}
				if holds[c] == id {
					s.remove(c)
					delete(holds, c)
					live = slices.DeleteFunc(live, func(other *conn) bool { return other == c })
				}
			}
		}
	}
	for _, c := range live {
		s.remove(c)
	}
	if len(s.bearers) != 0 {
		t.Errorf("%d keys are left of nobody", len(s.bearers))
	}
}
