package stream_test

import (
	"testing"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// An event that is in the log twice is streamed once, live and by cursor.
func TestDoubles(t *testing.T) { carried(t, testDoubles) }

func testDoubles(t *testing.T) {
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
	s.wantCount("sluice_stream_doubles_total", "", 2)
}

// So is one of which the first copy was there when the hub began.
func TestDoublesBefore(t *testing.T) { carried(t, testDoublesBefore) }

func testDoublesBefore(t *testing.T) {
	claimed := func(ev *event.Event) { ev.Claim = event.Claim{ID: event.ClaimID{1}} }
	var before *stage
	s := open(t, func(cfg *stream.Config) {
		before = &stage{t: t, log: cfg.Log.(eventlog.Log), org: "org_a"}
		before.publish("a.b", claimed)
	})
	s.events = before.events
	c := s.join(`"*"`)
	s.publish("a.b", claimed)
	s.publish("a.b")
	c.wantN(2)
}
