package lane

import (
	"testing"

	"sluice/pkg/event"
)

// Events are kept up to a bound, small ones too, and those that were asked for last.
func TestEventCacheIsBounded(t *testing.T) {
	c := NewEventCache(nil, 10*eventItself)
	for i := range int64(1000) {
		c.Remember(&event.Event{Environment: event.Live, Offset: i})
		if _, err := c.Event(t.Context(), event.Live, 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.known) != 10 || c.recent.Len() != 10 || c.bytes != 10*eventItself {
		t.Errorf("%d events, %d in order, %d bytes", len(c.known), c.recent.Len(), c.bytes)
	}
	for i := range 10 * eventItself / 128 {
		c.Remember(&event.Event{Environment: event.Sandbox, Offset: int64(i), Data: make([]byte, 128)})
	}
	if want := 10 * eventItself / (eventItself + 128); len(c.known) != want {
		t.Errorf("%d events with data, want %d", len(c.known), want)
	}
}
