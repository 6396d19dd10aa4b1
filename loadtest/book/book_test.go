package book

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/loadtest/ledger"
)

// twoOrgs has a publisher whose events are of two orgs in turn: even numbers are the
// first's. Each org's events have two keys.
func twoOrgs(n int) *Book {
	return New(2, []Publisher{{Count: n, Batch: 1, Keys: 2}, {Count: 10, Batch: 1, Keys: 1, Broadcast: true}}, func(n int) string { return fmt.Sprint(n) })
}

// sent has events of the book sent and acknowledged, a millisecond after one another.
func (b *Book) sent(numbers ...int) {
	for _, n := range numbers {
		b.events[n].due.Store(int64(n+1) * int64(time.Millisecond))
		b.events[n].acknowledged.Store(int64(n+1)*int64(time.Millisecond) + 1000)
	}
}

var both = []bool{true, true}

// saw has events of the first org come that lie in the log in the order of their
// numbers, from 10 on, as long as only even ones are sent.
func (s *Stream) saw(numbers ...int) {
	for _, n := range numbers {
		s.Frame(n, int64(10+n/2))
	}
}

// tried is an attempt that takes no time.
func (e *Endpoint) tried(number, attempt int, success bool) {
	e.Attempt(number, attempt, time.Now(), time.Now(), success)
}

// TestEveryAnomalyIsFound does one thing wrong at a time.
func TestEveryAnomalyIsFound(t *testing.T) {
	for _, c := range []struct {
		name string
		want ledger.Kind // empty: everything holds
		says string      // in the violation
		do   func(b *Book)
	}{
		{"nothing", "", "", func(b *Book) {}},
		{"all comes", "", "", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2, 4)
			s.saw(0, 2)
			s.Frame(4, 13)
		}},
		{"the first to see what follows others has begun there", "", "", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4)
			first, late := c.Begin("first", 0, true), c.Begin("late", 12, false)
			late.saw(4)
			first.saw(0, 2, 4)
		}},
		{"one misses the middle", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4)
			all, s := c.Begin("all", 0, true), c.Begin("s", 0, true)
			all.saw(0, 2, 4)
			s.saw(0, 4)
		}},
		{"the first misses it", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0, 4)
			all.saw(0, 2, 4)
		}},
		{"the first misses it, and later declares a gap", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4, 6, 8)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0, 4)
			s.Gap(1, false)
			s.saw(8)
			all.saw(0, 2, 4, 6, 8)
		}},
		{"one misses the end", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0)
			all.saw(0, 2)
		}},
		{"one that left doesn't miss the end", "", "", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2)
			s, all := c.Begin("s", 0, false), c.Begin("all", 0, true)
			s.saw(0)
			s.End()
			all.saw(0, 2)
		}},
		{"what is missing was declared", "", "", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0)
			s.Gap(1, false)
			s.saw(4)
			all.saw(0, 2, 4)
		}},
		{"what is missing was declared, and comes by another connection", "", "", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2)
			s.saw(0)
			s.Gap(1, false)
			s.Resumed()
			s.saw(2)
		}},
		{"more was declared", ledger.Miscounted, "none", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0)
			s.Gap(1, false)
			s.saw(2)
			all.saw(0, 2)
		}},
		{"less was declared", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2, 4, 6)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0)
			s.Gap(1, false)
			s.saw(6)
			all.saw(0, 2, 4, 6)
		}},
		{"a place was passed over", ledger.Hole, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			b.sent(0, 2)
			s, all := c.Begin("s", 0, true), c.Begin("all", 0, true)
			s.saw(0)
			s.At(12)
			all.saw(0, 2)
		}},
		{"nobody sees it", ledger.Lost, "event 2, s", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2, 4)
			s.saw(0, 4)
		}},
		{"nobody sees it, and it is declared", "", "", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2, 4)
			s.saw(0)
			s.Gap(1, false)
			s.saw(4)
		}},
		{"nobody who is always there could see it", "", "", func(b *Book) {
			b.Class("org 1", 0, both).Begin("s", 0, false).End()
			b.sent(0)
		}},
		{"what wasn't acknowledged needn't come", "", "", func(b *Book) {
			b.Class("org 1", 0, both).Begin("s", 0, true)
			b.Sent(0, time.Now())
		}},
		{"it comes twice", ledger.Backwards, "event 0, s", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0)
			s.saw(0, 0)
		}},
		{"two are swapped", ledger.Backwards, "event 0, s", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2)
			s.saw(2, 0)
		}},
		{"two are swapped in the log", ledger.Reordered, "event 0, org 1", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 4)
			s.Frame(4, 10)
			s.Frame(0, 11)
		}},
		{"two of different keys are swapped in the log", "", "", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0, 2)
			s.Frame(2, 10)
			s.Frame(0, 11)
		}},
		{"it is in the log twice", ledger.Twice, "event 0, org 1", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(0)
			s.saw(0)
			s.Frame(0, 11)
		}},
		{"two see different things at one place", ledger.Twice, "event 2, s", func(b *Book) {
			c := b.Class("org 1", 0, both)
			all, s := c.Begin("all", 0, false), c.Begin("s", 0, false)
			b.sent(0, 2)
			all.saw(0)
			s.Frame(2, 10)
		}},
		{"a stream gets another org's", ledger.Foreign, "event 1, s", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.Sent(1, time.Now())
			s.Frame(1, 10)
		}},
		{"everybody's event", "", "", func(b *Book) {
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(101)
			s.Frame(101, 10)
		}},
		{"everybody's event misses one", ledger.Lost, "event 101, s", func(b *Book) {
			b.Class("org 1", 0, both).Begin("s", 0, true)
			b.sent(101)
		}},
		{"a stream gets what it didn't ask for", ledger.Unwanted, "event 100, s", func(b *Book) {
			s := b.Class("org 1", 0, []bool{true, false}).Begin("s", 0, true)
			b.sent(100)
			s.Frame(100, 10)
		}},
		{"what comes wasn't sent", ledger.Invented, "event 0, s", func(b *Book) {
			b.Class("org 1", 0, both).Begin("s", 0, true).Frame(0, 10)
		}},
		{"a webhook is lost", ledger.Lost, "event 2, e", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0, 2)
			e.tried(0, 1, true)
		}},
		{"a webhook is refused", ledger.Lost, "event 0, e", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0)
			e.tried(0, 1, false)
		}},
		{"a webhook is refused, and owed", "", "", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0)
			e.tried(0, 1, false)
			e.Owes([]int{0})
		}},
		{"a webhook is owed no more", ledger.Lost, "event 0, e", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0)
			e.Owes([]int{0})
			e.Owes(nil)
		}},
		{"a webhook is refused, and comes again", "", "", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0)
			e.tried(0, 1, false)
			e.tried(0, 2, true)
		}},
		{"a webhook of another org's", ledger.Foreign, "event 1, e", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.Sent(1, time.Now())
			e.tried(1, 1, true)
		}},
		{"webhooks in any order", "", "", func(b *Book) {
			e := b.Endpoint("e", 0, both, false)
			b.sent(0, 4)
			e.tried(4, 1, true)
			e.tried(0, 1, true)
		}},
		{"webhooks of one key in order", "", "", func(b *Book) {
			e := b.Endpoint("e", 0, both, true)
			b.sent(0, 2, 4)
			e.tried(0, 1, true)
			e.tried(4, 1, true)
			e.tried(2, 1, true)
		}},
		{"webhooks of one key out of order", ledger.Reordered, "event 0, e", func(b *Book) {
			e := b.Endpoint("e", 0, both, true)
			b.sent(0, 4)
			e.tried(4, 1, true)
			e.tried(0, 1, true)
		}},
	} {
		synctest.Test(t, func(t *testing.T) { // the time is told, and stands still
			// What comes out of turn was missing, too, when its turn was.
			b := twoOrgs(100)
			c.do(b)
			r := b.Check()
			if again := b.Check(); r.String() != again.String() {
				t.Errorf("%s: a second look finds something else: %s", c.name, again)
			}
			switch kinds := slices.Collect(maps.Keys(r.Count)); {
			case c.want == "" && len(kinds) > 0, c.want != "" && !slices.Contains(kinds, c.want), len(kinds) > 1 && c.want != ledger.Backwards:
				t.Errorf("%s: %s\nwanted %q", c.name, r, c.want)
			case c.want != "" && !strings.Contains(r.Violations[0].String(), c.says):
				t.Errorf("%s: it doesn't say %q: %s", c.name, c.says, r.Violations[0])
			}
		})
	}
}

// TestRepeats counts what comes again, and forgives it.
func TestRepeats(t *testing.T) {
	b := twoOrgs(100)
	e := b.Endpoint("e", 0, both, false)
	b.sent(0, 2)
	e.tried(0, 1, true)
	e.tried(0, 1, true)
	e.tried(0, 2, true)
	e.tried(2, 1, false)
	e.tried(2, 2, true)
	if r := b.Check(); !r.OK() || r.Repeats != 2 || r.Attempts != 5 || r.Failed != 1 || r.Delivered != 2 {
		t.Errorf("%s", r)
	}
	if have, want := e.Tally(), (Tally{Attempts: 5, Failed: 1, Repeats: 2}); have != want {
		t.Errorf("%+v, not %+v", have, want)
	}
}

// TestRepeatsAreJudged holds what came again against what broke, where that is known.
func TestRepeatsAreJudged(t *testing.T) {
	const settle = 10 * time.Second
	second := func(b *Book, s float64) time.Time { return b.began.Add(time.Duration(s * float64(time.Second))) }
	for _, c := range []struct {
		name string
		want string // in the first violation; empty: everything holds
		do   func(b *Book, e *Endpoint, try func(n int, at float64))
	}{
		{"it was in flight when something broke", "", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 19)
			try(0, 24)
		}},
		{"it is taken up late", "", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 20)
			try(0, 29)
		}},
		{"it comes again twice, by two faults", "", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 20)
			try(0, 22)
			b.Broke(ledger.Fault{From: second(b, 22), Until: second(b, 23), Repeats: true})
			try(0, 24)
		}},
		{"nothing had broken yet", "repeated: event 0, e, at 6s", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 5)
			try(0, 6)
		}},
		{"it was over long before", "repeated: event 0, e, at 22s", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 5)
			try(0, 22)
		}},
		{"it came long after", "repeated: event 0, e, at 40s", func(b *Book, e *Endpoint, try func(int, float64)) {
			try(0, 20)
			try(0, 40)
		}},
		{"what broke repeats nothing", "repeated: event 0, e, at 1m41s", func(b *Book, e *Endpoint, try func(int, float64)) {
			b.Broke(ledger.Fault{From: second(b, 100), Until: second(b, 102)})
			try(0, 100)
			try(0, 101)
		}},
		{"more than may be in flight", "repeated: event 4, e, at 22.2s", func(b *Book, e *Endpoint, try func(int, float64)) {
			for i := range 3 {
				try(2*i, 20)
				try(2*i, 22+float64(i)/10)
			}
		}},
		{"it is taken up by who is hit by the next", "", func(b *Book, e *Endpoint, try func(int, float64)) {
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
			b.Broke(ledger.Fault{From: second(b, 28), Until: second(b, 29), Repeats: true})
			try(0, 20)
			try(0, 38)
		}},
		{"it was taken up between, since what lies behind it came", "repeated: event 0, e, at 38s", func(b *Book, e *Endpoint, try func(int, float64)) {
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
			b.Broke(ledger.Fault{From: second(b, 28), Until: second(b, 29), Repeats: true})
			try(0, 20)
			try(4, 24)
			try(0, 38)
		}},
		{"what came between lies before it", "", func(b *Book, e *Endpoint, try func(int, float64)) {
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
			b.Broke(ledger.Fault{From: second(b, 28), Until: second(b, 29), Repeats: true})
			try(4, 20)
			try(2, 24)
			try(4, 38)
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := twoOrgs(100)
			b.Judge(ledger.Rules{Slack: time.Second, Settle: settle}, 2)
			e := b.Endpoint("e", 0, both, false)
			b.sent(0, 2, 4)
			b.Broke(ledger.Fault{From: second(b, 20), Until: second(b, 21), Repeats: true})
			c.do(b, e, func(n int, at float64) { e.Attempt(n, 1, second(b, at), second(b, at), true) })
			e.Owes([]int{0, 2, 4})
			for range 2 { // a second look finds the same
				r := b.Check()
				switch {
				case c.want == "" && !r.OK(), c.want != "" && (r.Count[ledger.Repeated] != 1 || len(r.Count) != 1):
					t.Errorf("%s: %s", c.name, r)
				case c.want != "" && !strings.HasPrefix(r.Violations[0].String(), c.want):
					t.Errorf("%s: not %q: %s", c.name, c.want, r.Violations[0])
				}
			}
		})
	}
}

// TestOneOfTenThousand has streams see the same events, in whatever turns, each with
// gaps that were declared and beginnings of its own; one of them, each time, misses one
// event more, and nothing else is found.
func TestOneOfTenThousand(t *testing.T) {
	const events, streams = 1000, 10
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := New(1, []Publisher{{Count: events, Batch: 1, Keys: 1}}, func(n int) string { return fmt.Sprint(n) })
		c := b.Class("org", 0, []bool{true})
		for n := range events {
			b.sent(n)
		}
		victim, missing := rnd.IntN(streams), 1+rnd.IntN(events-2)
		all := make([]*Stream, streams)
		next := make([]int, streams)
		for i := range all {
			if i != victim {
				next[i] = rnd.IntN(20)
			}
			all[i] = c.Begin(fmt.Sprintf("s%d", i), int64(next[i])*2, i == victim)
		}
		for left := streams; left > 0; {
			i := rnd.IntN(streams)
			for range rnd.IntN(50) {
				if next[i] == events {
					break
				}
				switch {
				case i == victim && next[i] == missing:
				case rnd.IntN(100) == 0 && i != victim && next[i] != missing:
					all[i].Gap(1, false)
				default:
					all[i].Frame(next[i], int64(next[i])*2)
				}
				if next[i]++; next[i] == events {
					left--
				}
			}
		}
		r := b.Check()
		if r.Count[ledger.Hole] != 1 || len(r.Count) != 1 {
			t.Fatalf("seed %d: %s", seed, r)
		}
		if v := r.Violations[0]; v.Event != fmt.Sprint(missing) || v.Whom != all[victim].name {
			t.Fatalf("seed %d: %s misses %d, not: %s", seed, all[victim].name, missing, v)
		}
	}
}
