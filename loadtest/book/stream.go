package book

import (
	"slices"
	"sort"
	"sync"

	"sluice/loadtest/ledger"
)

// Class is streams that are owed the same events.
type Class struct {
	book  *Book
	name  string
	org   int
	wants []bool // by publisher

	mu      sync.Mutex
	log     []place // what any of them saw, by offset
	far     int64   // the place that the first of them has come to
	streams []*Stream
}

// place is where an event is in the log.
type place struct {
	offset int64
	number int
}

// Stream is what one client sees from one place of the log on, over any number of
// connections.
type Stream struct {
	class   *Class
	name    string
	lasting bool

	begin, next int64  // the places that it began at, and has come to
	at          int    // index of next in the class's log, if nothing was put in before
	declared    int    // missing behind next, as it was told
	open        bool   // or more
	spans       []span // by place
	frames      int
	told        int // events that it was told it misses
	ended       bool
}

// span is a part of the log in which a stream saw nothing, and of which it was told
// something, or was to be.
type span struct {
	from, to int64
	declared int
	open     bool
}

// Class makes a class of those of an org who want these publishers' events.
func (b *Book) Class(name string, org int, wants []bool) *Class {
	c := &Class{book: b, name: name, org: org, wants: wants}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.classes = append(b.classes, c)
	return c
}

// Begin begins a stream at a place. A lasting one is there before anything is sent,
// until the end: it is owed everything.
func (c *Class) Begin(name string, next int64, lasting bool) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Stream{class: c, name: name, lasting: lasting, begin: next, next: next, at: c.index(next)}
	c.streams = append(c.streams, s)
	return s
}

// index gives where an offset is, or would be, in the log; c.mu is held.
func (c *Class) index(offset int64) int {
	if n := len(c.log); n == 0 || c.log[n-1].offset < offset {
		return n
	}
	return sort.Search(len(c.log), func(i int) bool { return c.log[i].offset >= offset })
}

// Frame writes down an event that came, with its place in the log. It says whether
// the event is one that the stream is owed.
func (s *Stream) Frame(number int, offset int64) bool {
	c := s.class
	yes, why := c.book.owes(c.org, c.wants, number)
	if !yes {
		c.book.Violated(why, number, s.name, "it is at offset %d", offset)
		return false
	}
	if c.book.places != nil {
		c.book.places[number].CompareAndSwap(0, offset+1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.frames++
	if offset < s.next {
		c.book.Violated(ledger.Backwards, number, s.name, "it is at offset %d, and the client had come to %d", offset, s.next)
		return true
	}
	if s.at < len(c.log) && c.log[s.at].offset == offset && s.declared == 0 && !s.open {
		if other := c.log[s.at].number; other != number {
			c.book.Violated(ledger.Twice, number, s.name, "at offset %d others saw %d", offset, other)
		}
		s.come(s.at+1, offset+1)
		return true
	}
	i := c.index(offset)
	switch {
	case i == len(c.log) || c.log[i].offset != offset:
		s.skip(offset, i)
		c.insert(i, place{offset, number})
	case c.log[i].number != number:
		c.book.Violated(ledger.Twice, number, s.name, "at offset %d others saw %d", offset, c.log[i].number)
		fallthrough
	default:
		s.skip(offset, i)
	}
	s.come(i+1, offset+1)
	return true
}

// come has a stream come to a place; the class's mu is held.
func (s *Stream) come(at int, next int64) {
	s.at, s.next = at, next
	s.class.far = max(s.class.far, next)
}

// skip has a stream come to a place without having seen what lies before it. i is
// the place's index in the log; the class's mu is held.
func (s *Stream) skip(to int64, i int) {
	if s.declared > 0 || s.open || i > 0 && s.class.log[i-1].offset >= s.next {
		s.add(span{s.next, to, s.declared, s.open})
	}
	s.declared, s.open = 0, false
}

// insert puts an event into the log. Whoever went past its place has missed it.
func (c *Class) insert(i int, p place) {
	c.log = slices.Insert(c.log, i, p)
	if p.offset >= c.far {
		return
	}
	for _, s := range c.streams {
		if s.begin <= p.offset && p.offset < s.next {
			s.add(span{from: p.offset, to: p.offset + 1})
		}
	}
}

// add adds a span, unless it lies in another.
func (s *Stream) add(g span) {
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].to > g.from })
	if i == len(s.spans) || s.spans[i].from > g.from {
		s.spans = slices.Insert(s.spans, i, g)
	}
}

// Resumed says that another connection goes on from the stream's place: what was
// declared missing behind it comes after all, or is declared again.
func (s *Stream) Resumed() {
	s.class.mu.Lock()
	defer s.class.mu.Unlock()
	s.declared, s.open = 0, false
}

// At says that the stream has come to a place, whatever lay before it.
func (s *Stream) At(next int64) {
	c := s.class
	c.mu.Lock()
	defer c.mu.Unlock()
	if next > s.next {
		i := c.index(next)
		s.skip(next, i)
		s.come(i, next)
	}
}

// Gap writes down that the client was told of events that it doesn't get; atLeast:
// or of more.
func (s *Stream) Gap(count int, atLeast bool) {
	s.class.mu.Lock()
	defer s.class.mu.Unlock()
	s.declared += count
	s.told += count
	s.open = s.open || atLeast
}

// End says that nobody reads the stream any more: nothing more is owed to it.
func (s *Stream) End() {
	s.class.mu.Lock()
	defer s.class.mu.Unlock()
	s.ended = true
}
