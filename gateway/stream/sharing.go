package stream

import (
	"bytes"
	"sync/atomic"

	"sluice/pkg/event"
)

// The bounds of what replays share: some megabytes of frames.
const (
	sharedEntries = 4096
	sharedData    = 4 << 10 // bytes of data; what is larger is encoded for each
)

// sharing is the entries that replays of one environment made last: who resumes
// near others gets the frames that were encoded for these. An entry's place follows
// from its offset, and two of one place displace one another.
type sharing struct {
	entries [sharedEntries]atomic.Pointer[entry]
	used    atomic.Bool
}

// entry gives the event's entry, another's where there is one; alone: nobody's.
func (s *sharing) entry(h *Hub, ev *event.Event, alone bool) *entry {
	if alone || len(ev.Data) > sharedData {
		return newEntry(h, ev)
	}
	slot := &s.entries[ev.Offset%sharedEntries]
	if e := slot.Load(); e != nil && e.ev.Offset == ev.Offset && e.ev.ID == ev.ID { // a log that lost events gives their offsets to others
		return e
	}
	own := *ev // what it was read with would stay as long as it does
	own.Data = bytes.Clone(ev.Data)
	e := newEntry(h, &own)
	slot.Store(e)
	s.used.Store(true)
	return e
}

// rest gives them up, unless there are new ones since the last time.
func (s *sharing) rest() {
	if s.used.Swap(false) {
		return
	}
	for i := range s.entries {
		s.entries[i].Store(nil)
	}
}
