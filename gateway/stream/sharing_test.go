package stream

import (
	"testing"

	"sluice/pkg/event"
)

// TestSharedKeepsNoPage: what replays share doesn't keep the memory that it was read
// with, of which an event is a small part.
func TestSharedKeepsNoPage(t *testing.T) {
	h, s := New(Config{Shards: 1}), new(sharing)
	page := []byte(`{"n":0}{"n":1}`)
	ev := &event.Event{Type: "rfq.created", Data: page[7:], Offset: 1}
	e := s.entry(h, ev, false)
	if s.entry(h, ev, false) != e {
		t.Error("it isn't shared")
	}
	if clear(page); string(e.ev.Data) != `{"n":1}` {
		t.Errorf("it is the page's: %q", e.ev.Data)
	}
}

// TestSharedIsTheEvents: where a log has lost an event and given its place to another,
// nobody gets the frame of what was lost.
func TestSharedIsTheEvents(t *testing.T) {
	h, s := New(Config{Shards: 1}), new(sharing)
	s.entry(h, &event.Event{ID: "evt_lost", Offset: 1}, false)
	if e := s.entry(h, &event.Event{ID: "evt_there", Offset: 1}, false); e.ev.ID != "evt_there" {
		t.Errorf("%s is shared", e.ev.ID)
	}
}
