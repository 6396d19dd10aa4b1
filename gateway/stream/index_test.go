package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

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
			e := newEntry(h, ev)
			room.deliver(e)
			for _, f := range room.list {
				if !ev.Audience.All && f.asked == room.turn && !slices.ContainsFunc(f.conns, func(c *conn) bool { return ev.Audience.Includes(c.org) }) {
					t.Fatalf("round %d: a filter was asked that nobody of %v has", round, ev.Audience.Orgs)
				}
			}
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
	if len(room.filters)+len(room.list)+len(room.orgs)+len(room.data)+len(s.conns) != 0 {
		t.Error("something is left of nobody")
	}
}

// crowded gives a shard on which 10,000 connections of 1,000 orgs have two patterns
// of their own each.
func crowded(b *testing.B) (*Hub, *shard, []*conn) {
	h := New(Config{Streams: []*dialect.Stream{tetrafi.Dialect.Stream}, Shards: 1})
	s := h.shards[0]
	var conns []*conn
	for i := range 10_000 {
		c := newConn(h, s, i, 0)
		c.carrier = nowhere{}
		c.org, c.environment = fmt.Sprint("org_", i%1000), event.Sandbox
		h.count(c, c.org, 0)
		s.add(c)
		patterns, wrong := parsePatterns([]string{fmt.Sprintf("a%d.*", i), "rfq.*"})
		if wrong != nil {
			b.Fatal(wrong)
		}
		s.rooms[event.Sandbox].place(c, []pair{{patterns: patterns}})
		conns = append(conns, c)
	}
	return h, s, conns
}

// nowhere carries nothing.
type nowhere struct{}

func (nowhere) wake()                {}
func (nowhere) hold(bool)            {}
func (nowhere) flush()               {}
func (nowhere) write([][]byte) error { return nil }
func (nowhere) cut()                 {}
func (nowhere) tick(time.Duration)   {}

// BenchmarkSubscribe times a subscribe of 100 patterns, from its text to its answer,
// and taking it back, on a shard that has 10,000 other connections.
func BenchmarkSubscribe(b *testing.B) {
	h, s, conns := crowded(b)
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf(`"settlement.of_corridor_%d.*"`, i))
	}
	text := []byte(`{"type":"subscribe","channels":[` + strings.Join(names, ",") + `]}`)
	c, room := conns[7], s.rooms[event.Sandbox]
	room.remove(c)
	b.ReportAllocs()
	for b.Loop() {
		cmd, wrong := h.cfg.Streams[0].Decode(text)
		if wrong != nil {
			b.Fatal(wrong)
		}
		patterns, wrong := parsePatterns(cmd.Channels)
		if wrong == nil {
			wrong = c.add(pair{patterns: patterns}, &cmd, -1, nil)
		}
		if wrong != nil {
			b.Fatal(wrong)
		}
		room.remove(c)
		h.hold(c, 0)
		c.queue = queue{}
	}
}

// BenchmarkOneOrg times an event for one org with ten connections: among 10,000 of
// others, and alone. Others cost nothing.
func BenchmarkOneOrg(b *testing.B) {
	for _, others := range []bool{true, false} {
		b.Run(fmt.Sprintf("others=%v", others), func(b *testing.B) {
			h, s, conns := crowded(b)
			if !others {
				for _, c := range conns {
					if c.org != "org_7" {
						s.remove(c)
					}
				}
			}
			room := s.rooms[event.Sandbox]
			ev := &event.Event{ID: "evt_1", Type: "rfq.created", Environment: event.Sandbox, Audience: event.Audience{Orgs: []string{"org_7"}}, Data: []byte(`{"n":1}`)}
			for b.Loop() {
				room.deliver(newEntry(h, ev))
				if len(s.dirty) != 10 {
					b.Fatalf("%d connections got it", len(s.dirty))
				}
				for i, c := range s.dirty {
					c.dirty, c.queue, s.dirty[i] = false, queue{}, nil
				}
				s.dirty = s.dirty[:0]
			}
		})
	}
}

// BenchmarkFilter times an event for everybody among 1,000 connections that all have the
// same filter, which it doesn't meet: with the same patterns too, and each with one more
// of its own.
func BenchmarkFilter(b *testing.B) {
	data, wrong := parseFilter(`{"quote.price":{"gte":1.5},"pair":{"in":["ETH/USDC","BTC/USDC"]}}`)
	if wrong != nil {
		b.Fatal(wrong)
	}
	for _, alike := range []bool{true, false} {
		b.Run(fmt.Sprintf("alike=%v", alike), func(b *testing.B) {
			h, s, conns := crowded(b)
			for i, c := range conns {
				s.remove(c)
				if i >= 1000 {
					continue
				}
				s.add(c)
				channels := []string{"rfq.*"}
				if !alike {
					channels = append(channels, fmt.Sprintf("a%d.*", i))
				}
				patterns, wrong := parsePatterns(channels)
				if wrong != nil {
					b.Fatal(wrong)
				}
				s.rooms[event.Sandbox].place(c, []pair{{patterns: patterns, data: data}})
			}
			ev := &event.Event{ID: "evt_1", Type: "rfq.created", Environment: event.Sandbox, Audience: event.Audience{All: true}, Data: []byte(`{"rfq":"rfq_1","pair":"ETH/USDC","amount":"1000","quote":{"price":1.25,"solver":"a"}}`)}
			for b.Loop() {
				s.rooms[event.Sandbox].deliver(newEntry(h, ev))
			}
		})
	}
}

// TestConnSize holds what an idle connection costs to a size that the runtime has
// memory of: one byte more takes 32.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 448 {
		t.Errorf("a conn has %d bytes", size)
	}
	if size := unsafe.Sizeof(taken{}); size > 80 {
		t.Errorf("a taken has %d bytes", size)
	}
}
