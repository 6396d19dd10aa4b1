package replay

import (
	"sort"
	"sync"

	"sluice/pkg/event"
)

// The bounds of a window, unless others are asked for: some 25,000 events of 300
// bytes. A reader finds older ones in the log.
const (
	WindowEvents = 64 << 10
	WindowBytes  = 16 << 20
)

// Window holds the newest events of one environment, decoded once and shared by
// everybody. One goroutine, the tail's, appends; any number read.
//
// It holds every event of [Start, End), so that a reader who finds its place in
// there needn't ask the log.
type Window struct {
	maxBytes int

	mu     sync.RWMutex
	ring   []*event.Event // a power of two long; the event number n lies at n & (len-1)
	head   uint64         // number of the oldest
	tail   uint64         // number that the next one gets
	bytes  int
	start  int64
	end    int64
	opened bool
}

// NewWindow makes a window of at most so many events and bytes; 0 stands for
// WindowEvents and WindowBytes. The number of events is rounded up to a power
// of two.
func NewWindow(events, bytes int) *Window {
	if events <= 0 {
		events = WindowEvents
	}
	if bytes <= 0 {
		bytes = WindowBytes
	}
	size := 1
	for size < events {
		size *= 2
	}
	return &Window{ring: make([]*event.Event, size), maxBytes: bytes}
}

// Append adds events that the tail read, in the order of their offsets, and
// moves the end to next: the offset behind the last record read, be it an event
// or not. The events begin where the window ended; after a jump, call Reset.
func (w *Window) Append(events []*event.Event, next int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.opened && len(events) > 0 {
		w.start, w.end, w.opened = events[0].Offset, events[0].Offset, true
	}
	for _, ev := range events {
		if w.tail-w.head == uint64(len(w.ring)) {
			w.drop()
		}
		w.ring[w.tail&uint64(len(w.ring)-1)] = ev
		w.tail++
		w.bytes += weight(ev)
		w.end = ev.Offset + 1
		for w.bytes > w.maxBytes {
			w.drop()
		}
	}
	if next > w.end {
		w.end = next
	}
	if !w.opened {
		w.start, w.opened = next, true
	}
}

// drop forgets the oldest event.
func (w *Window) drop() {
	slot := &w.ring[w.head&uint64(len(w.ring)-1)]
	w.bytes -= weight(*slot)
	w.start = (*slot).Offset + 1
	*slot = nil
	w.head++
}

// Reset empties the window; it goes on at next. The tail calls it before its
// first Append, and whenever it goes on elsewhere than where it stopped.
func (w *Window) Reset(next int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.ring)
	w.head, w.tail, w.bytes = 0, 0, 0
	w.start, w.end, w.opened = next, next, true
}

// Bounds gives the span of which the window holds every event. It is empty, and
// both are 0, before the first Append or Reset.
func (w *Window) Bounds() (start, end int64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.start, w.end
}

// Events gives the number of events held, and their weight in bytes.
func (w *Window) Events() (events, bytes int) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return int(w.tail - w.head), w.bytes
}

// Since gives the events of [from, to), oldest first, where the window has them
// all and they are no more than most.
func (w *Window) Since(from, to int64, most int) (events []*event.Event, ok bool) {
	buf := make([]*event.Event, most)
	n, next, ok := w.ascend(buf, from, to)
	return buf[:n], ok && next == to
}

// ascend copies events of [from, to), oldest first, until buf is full, and
// gives the place behind them. ok is false when from isn't in the window.
func (w *Window) ascend(buf []*event.Event, from, to int64) (n int, next int64, ok bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if from < w.start || from >= w.end {
		return 0, from, false
	}
	to = min(to, w.end)
	for at := w.find(from); at < w.tail; at++ {
		ev := w.at(at)
		if ev.Offset >= to {
			break
		}
		if n == len(buf) {
			return n, ev.Offset, true
		}
		buf[n] = ev
		n++
	}
	return n, to, true
}

// descend copies events of [from, to), newest first, until buf is full, and
// gives the place of the oldest that was looked at: everything of [next, to) is
// in buf. ok is false when the place before to isn't in the window.
func (w *Window) descend(buf []*event.Event, from, to int64) (n int, next int64, ok bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if to <= w.start || to > w.end {
		return 0, to, false
	}
	from = max(from, w.start)
	for at := w.find(to); at > w.head; at-- {
		ev := w.at(at - 1)
		if ev.Offset < from {
			break
		}
		if n == len(buf) {
			return n, ev.Offset + 1, true
		}
		buf[n] = ev
		n++
	}
	return n, from, true
}

// find gives the number of the first event at the offset or behind it.
func (w *Window) find(offset int64) uint64 {
	n := int(w.tail - w.head)
	i := sort.Search(n, func(i int) bool { return w.at(w.head+uint64(i)).Offset >= offset })
	return w.head + uint64(i)
}

func (w *Window) at(number uint64) *event.Event { return w.ring[number&uint64(len(w.ring)-1)] }

// weight is about what an event keeps in memory.
func weight(ev *event.Event) int {
	const fixed = 320 // Event, and what allocating its parts costs
	return fixed + len(ev.Data) + len(ev.ID) + len(ev.Type) + len(ev.Org) + len(ev.Key) + 32*len(ev.Audience.Orgs)
}
