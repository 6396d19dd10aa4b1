package stream

import "sync"

// queue holds what is to be written to one connection, in order. Events may be
// lost from it, the oldest first, and are then declared in the very place where
// they stood; what is ours (answers, pings, a replay, the close) never is. So it
// is a list of stretches, each of which begins with things of ours:
//
//	own own … │ gap │ event event … ║ own … │ gap │ event …
//	          dropped from here ▲
//
// It isn't safe for concurrent use: the connection's lock guards it.
type queue struct {
	front, back *part // nil: empty; an idle connection's queue holds no memory

	own    int // things of ours
	events int
	bytes  int // of events
	gaps   int // declared losses not yet taken

	lost  []span // offsets of events lost, oldest first: a resume must not believe that they were sent
	floor int64  // below it, lost has been forgotten
	taken int64  // offset behind the last live event taken
}

// bounds is what a queue may hold of events.
type bounds struct{ events, bytes int }

type part struct {
	own    []item // from ownAt on
	gap    gap
	events []frame // from head on
	ownAt  int
	head   int
	next   *part
}

// parts that nobody uses, with the room they have.
var parts = sync.Pool{New: func() any { return new(part) }}

// keptFrames is the most room that a part keeps when it isn't used.
const keptFrames = 128

func (q *queue) addPart() *part {
	p := parts.Get().(*part)
	if q.back == nil {
		q.front, q.back = p, p
	} else {
		q.back.next, q.back = p, p
	}
	return p
}

// dropPart gives the front part, which is done with, back.
func (q *queue) dropPart() {
	p := q.front
	if q.front = p.next; q.front == nil {
		q.back = nil
	}
	if cap(p.events) <= keptFrames && cap(p.own) <= keptFrames {
		*p = part{own: p.own[:0], events: p.events[:0]}
		parts.Put(p)
	}
}

func (p *part) hasOwn() bool    { return p.ownAt < len(p.own) }
func (p *part) hasEvents() bool { return p.head < len(p.events) }

func (p *part) addOwn(it item) {
	if p.ownAt > 0 && len(p.own) == cap(p.own) {
		n := copy(p.own, p.own[p.ownAt:])
		clear(p.own[n:])
		p.own, p.ownAt = p.own[:n], 0
	}
	p.own = append(p.own, it)
}

func (p *part) addEvent(f frame) {
	if p.head > 0 && len(p.events) == cap(p.events) {
		n := copy(p.events, p.events[p.head:])
		clear(p.events[n:])
		p.events, p.head = p.events[:n], 0
	}
	p.events = append(p.events, f)
}

// frame is an event, ready to be written; its bytes are shared.
type frame struct {
	bytes  []byte
	offset int64
	logged int64 // when, in Unix milliseconds; 0: it isn't live
}

// gap counts events lost in one place.
type gap struct {
	count int64
	first int64 // offset of the first
}

// span is a run of offsets, both ends included.
type span struct{ first, last int64 }

// maxSpans bounds the losses that are remembered apart.
const maxSpans = 64

// item is one thing of ours: bytes, or a task for the writer.
type item struct {
	bytes []byte
	task  task
}

// task is work that has its place between messages. An error says that the client is
// gone. The shard doesn't do it: it may wait. What stands behind it waits until it is
// done, unless it is a readOn, which writes nothing itself.
type task interface{ do(c *conn) error }

func (q *queue) pushOwn(it item) {
	last := q.back
	if last == nil || last.hasEvents() || last.gap.count > 0 {
		last = q.addPart()
	}
	last.addOwn(it)
	q.own++
}

// keepEvent adds an event and loses none.
func (q *queue) keepEvent(f frame) {
	last := q.back
	if last == nil {
		last = q.addPart()
	}
	last.addEvent(f)
	q.events++
	q.bytes += len(f.bytes)
}

// pushEvent adds an event and returns how many were lost for it.
func (q *queue) pushEvent(f frame, most bounds) (dropped int) {
	q.keepEvent(f)
	for q.events > most.events || q.bytes > most.bytes {
		q.dropOldest()
		dropped++
	}
	return dropped
}

// dropAll turns every event into a declared loss.
func (q *queue) dropAll() (dropped int) {
	for q.events > 0 {
		q.dropOldest()
		dropped++
	}
	return dropped
}

func (q *queue) dropOldest() {
	for p := q.front; p != nil; p = p.next {
		if !p.hasEvents() {
			continue
		}
		f := q.shift(p)
		if p.gap.count == 0 {
			p.gap.first = f.offset
			q.gaps++
		}
		p.gap.count++
		q.remember(f.offset)
		return
	}
}

// remember notes a loss. Losses with nothing sent between them are one span.
func (q *queue) remember(offset int64) {
	if n := len(q.lost); n > 0 && q.taken <= q.lost[n-1].last {
		q.lost[n-1].last = offset
		return
	}
	if len(q.lost) == maxSpans {
		q.floor = q.lost[0].last + 1
		q.lost = append(q.lost[:0], q.lost[1:]...)
	}
	q.lost = append(q.lost, span{offset, offset})
}

func (q *queue) shift(p *part) frame {
	f := p.events[p.head]
	p.events[p.head] = frame{}
	if p.head++; p.head == len(p.events) {
		p.events, p.head = p.events[:0], 0
	}
	q.events--
	q.bytes -= len(f.bytes)
	return f
}

// fits reports whether an event can be added and nothing need be lost. One always can.
func (q *queue) fits(f frame, most bounds) bool {
	return q.events == 0 || q.events < most.events && q.bytes+len(f.bytes) <= most.bytes
}

// overflowed reports whether the queue is full, or lost something that its
// client hasn't been told yet.
func (q *queue) overflowed(most bounds) bool { return q.gaps > 0 || q.events >= most.events }

func (q *queue) empty() bool { return q.own == 0 && q.events == 0 && q.gaps == 0 }

// batch is what the writer takes at a time.
type batch struct {
	bufs   [][]byte
	bytes  int
	events int
	logged int64 // when the first of them was that are live; 0: none is
	task   task  // to be done after bufs; nil: none
}

// The bounds of a batch. What is in it can't be dropped any more.
const (
	batchFrames = 64
	batchBytes  = 128 << 10
)

// take moves the front of the queue into b. declare encodes a loss, whose
// cursor is the place before its first event.
func (q *queue) take(b *batch, declare func(gap) []byte) {
	b.reset()
	for ; q.front != nil; q.dropPart() {
		p := q.front
		for ; p.hasOwn(); q.own-- {
			if b.full() {
				return
			}
			it := p.own[p.ownAt]
			p.own[p.ownAt] = item{}
			p.ownAt++
			if it.task != nil {
				b.task = it.task
				q.own--
				if !p.hasOwn() && p.gap.count == 0 && !p.hasEvents() {
					q.dropPart()
				}
				return
			}
			b.add(it.bytes)
		}
		if p.gap.count > 0 {
			if b.full() {
				return
			}
			b.add(declare(p.gap))
			p.gap = gap{}
			q.gaps--
		}
		for p.hasEvents() {
			if b.full() {
				return
			}
			f := q.shift(p)
			q.taken = f.offset + 1
			b.add(f.bytes)
			if b.logged == 0 {
				b.logged = f.logged
			}
			b.events++
		}
	}
}

func (b *batch) reset() { *b = batch{bufs: b.bufs[:0]} }

func (b *batch) full() bool { return len(b.bufs) >= batchFrames || b.bytes >= batchBytes }

func (b *batch) add(frame []byte) {
	if len(frame) > 0 {
		b.bufs = append(b.bufs, frame)
		b.bytes += len(frame)
	}
}

// losses is what a resume has to know of the queue's losses.
type losses struct {
	spans []span
	floor int64
}

func (q *queue) losses() losses {
	return losses{spans: append([]span(nil), q.lost...), floor: q.floor}
}

func (l *losses) has(offset int64) bool {
	if offset < l.floor {
		return true
	}
	for _, s := range l.spans {
		if s.first <= offset && offset <= s.last {
			return true
		}
	}
	return false
}

// oldest is the offset of the oldest event that may still be lost; next if none may.
func (q *queue) oldest(next int64) int64 {
	for p := q.front; p != nil; p = p.next {
		if p.hasEvents() {
			return p.events[p.head].offset
		}
	}
	return next
}

// within reports whether anything of [from, to) was lost.
func (l *losses) within(from, to int64) bool {
	if from < l.floor {
		return true
	}
	for _, s := range l.spans {
		if s.first < to && from <= s.last {
			return true
		}
	}
	return false
}
