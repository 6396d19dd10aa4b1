package book

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"sluice/loadtest/ledger"
)

// Check holds everything that was written down against what must hold. It may be
// called while a run goes on; what is still on its way is then lost, or a hole.
func (b *Book) Check() *ledger.Report {
	b.mu.Lock()
	r := b.noted
	r.Count, r.Violations = maps.Clone(r.Count), slices.Clone(r.Violations)
	classes, endpoints := b.classes, b.endpoints
	b.mu.Unlock()
	for i := range b.events {
		if e := &b.events[i]; e.due.Load() != 0 {
			r.Published++
			if e.acknowledged.Load() != 0 {
				r.Acknowledged++
			}
		}
	}
	for _, c := range classes {
		c.check(&r)
	}
	for _, e := range endpoints {
		e.check(&r)
	}
	if b.judging != nil {
		b.judge(&r, classes, endpoints)
	}
	return &r
}

func (c *Class) check(r *ledger.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adopt(r)
	seen := make(set, (len(c.book.events)+63)/64)
	order := c.book.inOrder()
	for _, p := range c.log {
		c.elsewhere(r, p)
		if c.book.second {
			seen.add(p.number)
			continue
		}
		if seen.has(p.number) {
			r.Add(c.book.violation(ledger.Twice, p.number, c.name, fmt.Sprintf("it is at offset %d, and at another before", p.offset)))
		}
		seen.add(p.number)
		if later := order.next(p.number); later >= 0 {
			r.Add(c.book.violation(ledger.Reordered, p.number, c.name, fmt.Sprintf("it was acknowledged before %d of its key was sent, and lies behind it", later)))
		}
	}
	sent, acknowledged, first := c.unseen(seen)
	for _, s := range c.streams {
		r.Frames += s.frames
		r.Declared += s.told
		unexplained, open := s.check(r, sent)
		if s.lasting && !open && unexplained < acknowledged {
			r.Add(c.book.violation(ledger.Lost, first, s.name, fmt.Sprintf("it is one of %d that were acknowledged and that no stream of %s saw, and it was told that it misses %d", acknowledged, c.name, unexplained)))
		}
	}
}

// unseen counts what is owed to the class and none of its streams saw, and gives the
// first of it that was acknowledged.
func (c *Class) unseen(seen set) (sent, acknowledged, first int) {
	first = -1
	for number := range c.book.events {
		if seen.has(number) {
			continue
		}
		if yes, _ := c.book.owes(c.org, c.wants, number); !yes {
			continue
		}
		sent++
		if c.book.events[number].acknowledged.Load() != 0 {
			if acknowledged++; first < 0 {
				first = number
			}
		}
	}
	return sent, acknowledged, first
}

// check holds what a stream was told against what it missed. unseen is how many
// events nobody saw: they may be among what it was told of. unexplained is how many
// it was told of beyond those that others saw; open: or more.
func (s *Stream) check(r *ledger.Report, unseen int) (unexplained int, open bool) {
	c := s.class
	spans := s.spans
	if end := len(c.log); !s.ended && (s.declared > 0 || s.open || end > 0 && c.log[end-1].offset >= s.next) {
		last := s.next
		if end > 0 {
			last = max(last, c.log[end-1].offset+1)
		}
		spans = append(spans[:len(spans):len(spans)], span{s.next, last, s.declared, s.open})
	}
	for _, g := range spans {
		from := c.index(g.from)
		missing := c.index(g.to) - from
		open = open || g.open
		unexplained += max(0, g.declared-missing)
		switch {
		case missing > g.declared && !g.open:
			r.Add(c.book.violation(ledger.Hole, c.log[from].number, s.name,
				fmt.Sprintf("from offset %d to %d it is owed %d events and was told that it misses %d", g.from, g.to, missing, g.declared)))
		case g.declared > missing+unseen:
			r.Add(c.book.violation(ledger.Miscounted, -1, s.name, fmt.Sprintf("from offset %d to %d it missed %d events and was told %d", g.from, g.to, missing, g.declared)))
		}
	}
	return unexplained, open
}

func (e *Endpoint) check(r *ledger.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Attempts += e.attempts
	r.Failed += e.failed
	r.Repeats += e.repeats
	for number := range e.book.events {
		if e.book.events[number].acknowledged.Load() == 0 {
			continue
		}
		if yes, _ := e.book.owes(e.org, e.wants, number); !yes {
			continue
		}
		r.Owed++
		switch {
		case e.arrived.has(number):
			r.Delivered++
		case e.owed.has(number):
			r.Admitted++
		case e.silent:
			r.NotKnown++
		default:
			r.Add(e.book.violation(ledger.Lost, number, e.name, "it was acknowledged and never arrived"))
		}
	}
}

// Tally is what came to an endpoint.
type Tally struct {
	Attempts, Failed, Repeats int
	Owed                      int // that didn't arrive, and are said to be owed
}

// Tally counts what came so far.
func (e *Endpoint) Tally() Tally {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := Tally{Attempts: e.attempts, Failed: e.failed, Repeats: e.repeats}
	for i, owed := range e.owed {
		t.Owed += bits.OnesCount64(owed &^ e.arrived[i])
	}
	return t
}
