package ledger

import (
	"sort"
	"time"
)

// theStreams checks what every client saw.
func (c *check) theStreams() {
	for _, s := range c.streams {
		w := walk{check: c, s: s, owed: c.byOffset(s.client.Org, s.client.Environment, s.client.Patterns)}
		for _, i := range s.items {
			w.item(i)
		}
		end, last := w.next, s.items[len(s.items)-1]
		if n := len(w.owed); n > 0 {
			end = max(end, c.events[w.owed[n-1]].offset+1)
		}
		w.until(end, time.Duration(last.at)*time.Millisecond)
	}
}

// walk goes through what a client saw.
type walk struct {
	*check
	s        *Stream
	owed     []uint32 // what it is to see, in the log's order
	next     int64    // the place that it has come to
	declared int      // missing behind it, as it was told
	open     bool     // or more
}

func (w *walk) item(i item) {
	at := time.Duration(i.at) * time.Millisecond
	switch i.kind {
	case begun:
		w.next = i.offset
	case resumed:
		// From its own place, what was declared comes after all, or is declared again.
		if i.offset == w.next {
			w.declared, w.open = 0, false
			return
		}
		w.until(i.offset, at)
	case gap, gapOpen:
		w.declared += int(i.event)
		w.open = w.open || i.kind == gapOpen
		w.report.Declared += int(i.event)
	case frame:
		w.report.Frames++
		e := &w.events[i.event]
		w.content(e, w.s.client.Org, w.s.client.Environment, w.s.client.Patterns, w.s.client.Name, i.data, i.canary, at)
		if i.offset < w.next {
			w.violated(Backwards, e, w.s.client.Name, at, "it is at offset %d, and the client had come to %d", i.offset, w.next)
			return
		}
		w.until(i.offset, at)
		w.next = i.offset + 1
	}
}

// until moves the client's place on. What lies between must have been declared.
func (w *walk) until(next int64, at time.Duration) {
	if next < w.next {
		w.violated(Backwards, &event{id: "none"}, w.s.client.Name, at, "it was sent back to %d, and had come to %d", next, w.next)
		return
	}
	from := sort.Search(len(w.owed), func(i int) bool { return w.events[w.owed[i]].offset >= w.next })
	to := sort.Search(len(w.owed), func(i int) bool { return w.events[w.owed[i]].offset >= next })
	missing := to - from
	switch {
	case missing > w.declared && !w.open:
		w.violated(Hole, &w.events[w.owed[from]], w.s.client.Name, at, "from offset %d to %d it is owed %d events and was told that it misses %d",
			w.next, next, missing, w.declared)
	case missing < w.declared && missing+w.unnamed(w.next, next) < w.declared:
		w.violated(Miscounted, &event{id: "none"}, w.s.client.Name, at, "from offset %d to %d it missed %d events and was told %d", w.next, next, missing, w.declared)
	}
	w.next, w.declared, w.open = next, 0, false
}
