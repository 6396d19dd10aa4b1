package stream

import "sluice/pkg/event"

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
	maxEvents int
	maxBytes  int

	parts  []part
	own    int // things of ours
	events int
	bytes  int // of events
	gaps   int // declared losses not yet taken

	lost  []span // offsets of events lost, oldest first: a resume must not believe that they were sent
	floor int64  // below it, lost has been forgotten
	taken int64  // offset behind the last live event taken
}

type part struct {
	own    []item
	gap    gap
	events []frame // from head on
	head   int
}

func (p *part) hasEvents() bool { return p.head < len(p.events) }

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

// task is work that has its place between messages.
type task interface{ isTask() }

func (q *queue) pushOwn(it item) {
	if n := len(q.parts); n == 0 || q.parts[n-1].hasEvents() || q.parts[n-1].gap.count > 0 {
		q.parts = append(q.parts, part{})
	}
	last := &q.parts[len(q.parts)-1]
	last.own = append(last.own, it)
	q.own++
}

// pushEvent adds an event and returns how many were lost for it.
func (q *queue) pushEvent(f frame) (dropped int) {
	if len(q.parts) == 0 {
		q.parts = append(q.parts, part{})
	}
	last := &q.parts[len(q.parts)-1]
	last.addEvent(f)
	q.events++
	q.bytes += len(f.bytes)
	for q.events > q.maxEvents || q.bytes > q.maxBytes {
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
	for i := range q.parts {
		p := &q.parts[i]
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

// overflowed reports whether the queue is full, or lost something that its
// client hasn't been told yet.
func (q *queue) overflowed() bool { return q.gaps > 0 || q.events >= q.maxEvents }

func (q *queue) empty() bool { return q.own == 0 && q.events == 0 && q.gaps == 0 }

// batch is what the writer takes at a time.
type batch struct {
	bufs   [][]byte
	bytes  int
	events int
	task   task // to be done after bufs; nil: none
}

// The bounds of a batch. What is in it can't be dropped any more.
const (
	batchFrames = 64
	batchBytes  = 128 << 10
)

// take moves the front of the queue into b. declare encodes a loss, whose
// cursor is the place before its first event.
func (q *queue) take(b *batch, declare func(gap) []byte) {
	b.bufs, b.bytes, b.events, b.task = b.bufs[:0], 0, 0, nil
	for len(q.parts) > 0 {
		p := &q.parts[0]
		for len(p.own) > 0 {
			if b.full() {
				return
			}
			it := p.own[0]
			p.own[0] = item{}
			p.own = p.own[1:]
			q.own--
			if it.task != nil {
				b.task = it.task
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
			b.events++
		}
		if len(q.parts) == 1 {
			if cap(p.events) > idleFrames {
				p.events = nil
			}
			p.own = nil
			return
		}
		q.parts[0] = part{}
		q.parts = q.parts[1:]
	}
}

// idleFrames is the room for events that an idle connection keeps.
const idleFrames = 8

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

// place is the cursor behind which offset is the next.
func place(inc event.Incarnation, env event.Environment, offset int64) event.Cursor {
	return event.Cursor{Incarnation: inc, Environment: env, Next: offset}
}
