package stream_test

import (
	"testing"

	"sluice/pkg/event"
)

// An event that is in the log twice is streamed once, live and by cursor.
func TestDoubles(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"*"`)
	claim := func(n uint16) func(*event.Event) {
		return func(ev *event.Event) { ev.Claim = event.Claim{ID: event.ClaimID{1}, Index: n} }
	}
	s.publish("a.b", claim(0))
	s.publish("a.b", claim(1))
	s.publish("a.b", claim(0))
	s.publish("a.b")
	s.publish("a.b", claim(1))
	s.publish("a.b")
	for _, n := range []int64{0, 1, 3, 5} {
		c.wantN(n)
	}
	if n := s.count("sluice_stream_doubles_total", ""); n != 2 {
		t.Errorf("%v counted", n)
	}
}
