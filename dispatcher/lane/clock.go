package lane

import (
	"math"
	"time"
)

// Clock is what lanes wait by: it begins with the wall clock's time and goes on
// evenly, so that a step of the wall clock neither sends at once what waits nor
// keeps it longer. Times in the log that lanes compare with their own (due times,
// ends of counted failures) are of the clock of whoever wrote them: what a
// process finds of another, or of itself before a restart, is off by the steps
// since that one began, and by what clocks of two machines differ (apart). All
// methods are safe for concurrent use.
//
//	wall   ───────────┐+1 h ┌──────
//	                  └ ─ ─ ┘          signatures, outcomes in the journal, messages
//	Clock  ────────────────────────    due, held too long, alarms, pace, snapshots
type Clock struct {
	wall  func() time.Time
	began time.Time // with the monotonic reading
	base  time.Time // what the wall clock said then
}

// NewClock makes a clock that begins now. Wall is asked for it, and for what
// others are shown.
func NewClock(wall func() time.Time) *Clock {
	c := &Clock{wall: wall}
	// Whoever is stopped between the two looks makes a clock that is off by as long
	// for all its life: of some tries the quickest counts.
	quickest := time.Duration(math.MaxInt64)
	for range 10 {
		began := time.Now()
		base := wall().Round(0)
		if took := time.Since(began); took < quickest {
			c.began, c.base, quickest = began, base, took
		}
	}
	return c
}

func (c *Clock) now() time.Time { return c.base.Add(time.Since(c.began)) }
