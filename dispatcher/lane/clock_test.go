package lane

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever makes a clock may be stopped between two looks at the time: the clock is
// the wall's all the same.
func TestClockMadeInterrupted(t *testing.T) {
	for name, wall := range map[string]func(pause func()) time.Time{
		"before": func(pause func()) time.Time { pause(); return time.Now() },
		"behind": func(pause func()) time.Time { now := time.Now(); pause(); return now },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				c := NewClock(func() time.Time {
					return wall(func() {
						if looks++; looks < 3 {
							time.Sleep(7 * time.Millisecond)
						}
					})
				})
				time.Sleep(time.Hour)
				if off := time.Until(c.now()); off != 0 {
					t.Errorf("it is off by %v", off)
				}
			})
		})
	}
}
