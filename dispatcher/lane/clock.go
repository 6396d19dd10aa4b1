package lane

import "time"

// Clock is what lanes wait by: it begins with the wall clock's time and goes on
// evenly, so that a step of the wall clock neither sends at once what waits nor
// keeps it longer. Times in the log that lanes compare with their own (due times,
// ends of counted failures) are of the clock of whoever wrote them: what a
// process finds of another, or of itself before a restart, is off by the steps
// since that one began. All methods are safe for concurrent use.
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
	return &Clock{wall: wall, began: time.Now(), base: wall().Round(0)}
}

func (c *Clock) now() time.Time { return c.base.Add(time.Since(c.began)) }
