package usage_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

// limited is a process that limits API requests, and deliveries.
type limited struct {
	usage.Minutes
	quota usage.Quota
	meter *usage.Meter
	stop  func()
}

// startLimited runs a process on the log, which is caught up when it returns.
func startLimited(t *testing.T, log eventlog.Log) *limited {
	t.Helper()
	p := new(limited)
	p.meter = usage.NewMeter(usage.MeterConfig{Log: log, Minutes: &p.Minutes, Quota: &p.quota})
	tt := usage.NewTotals(usage.TotalsConfig{Log: log, Minutes: &p.Minutes, Quota: &p.quota})
	stopMeter, stopTotals := run(t, p.meter), run(t, tt)
	p.stop = func() { stopMeter(); stopTotals() }
	<-tt.Ready()
	synctest.Wait()
	return p
}

// ask makes so many requests of a plan of 100, and gives what is left after them.
func (p *limited) ask(n int) (left int) {
	for range n {
		if left, _ = p.Take("org_a", 100, time.Now()); left >= 0 {
			p.meter.Of("org_a", event.Live).Add(usage.Requests, 1)
		}
	}
	return left
}

// What one process lets in is gone for the others within a second, and for whoever
// starts later; a minute after the first request in any of them all is as it was.
func TestMinutesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		one, two := startLimited(t, log), startLimited(t, log)
		defer one.stop()
		begun := time.Now()
		if left := one.ask(40); left != 60 {
			t.Errorf("%d are left where 40 were made", left)
		}
		time.Sleep(100 * time.Millisecond)
		if left := two.ask(30); left != 70 { // it has yet to hear of the others
			t.Errorf("%d are left where 30 were made", left)
		}
		time.Sleep(time.Second)
		if left, ends := one.Take("org_a", 100, time.Now()); left != 29 || !ends.Equal(begun.Add(time.Minute)) {
			t.Errorf("one has %d left until %v after the first request", left, ends.Sub(begun))
		}
		time.Sleep(time.Second)
		if left, ends := two.Take("org_a", 100, time.Now()); left != 28 || !ends.Equal(begun.Add(time.Minute)) {
			t.Errorf("the other has %d left until %v after the first request", left, ends.Sub(begun))
		}
		two.stop()
		three := startLimited(t, log) // in its place
		defer three.stop()
		time.Sleep(time.Second)
		if left := three.ask(28); left != 0 {
			t.Errorf("%d of 100 are left after a restart", left)
		}
		time.Sleep(time.Second)
		if left := one.ask(1); left != -1 {
			t.Errorf("%d are left where the last was made by another", left)
		}
		time.Sleep(time.Until(begun.Add(time.Minute)))
		if left := one.ask(1); left != 99 {
			t.Errorf("a minute later %d are left", left)
		}
		time.Sleep(time.Second)
		if left := three.ask(1); left != 98 {
			t.Errorf("a minute later the other has %d left", left)
		}
	})
}

// A delta that is appended again, one of a window that is over, and one whose clock is
// far off, count for nothing; and a checkpoint doesn't take away what is open.
func TestMinutesCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		p := startLimited(t, log)
		defer p.stop()
		delta := func(number int, began time.Time, n int) string {
			return fmt.Sprintf(`{"v":1,"delta":{"writer":"w","number":%d,"counts":{},"minutes":{"org_a":[%d,%d]}}}`, number, began.UnixMilli(), n)
		}
		now := time.Now()
		time.Sleep(2 * time.Minute)
		put(t, log, delta(1, now, 50), delta(2, now.Add(time.Hour), 50), delta(3, time.Now(), 10), delta(3, time.Now(), 10), delta(2, time.Now(), 10))
		time.Sleep(time.Second)
		if left := p.ask(1); left != 89 {
			t.Errorf("%d of 100 are left, not 89", left)
		}
	})
}

// Windows are bounded in number: who would need one more waits until the next sweep.
func TestMinutesAreBounded(t *testing.T) {
	m := usage.Minutes{Most: 2}
	at := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		id    string
		after time.Duration
		left  int
		ends  time.Duration
	}{
		{"a", 0, 1, time.Minute}, {"b", time.Second, 1, 61 * time.Second}, {"c", 2 * time.Second, -1, time.Minute},
		{"a", 3 * time.Second, 0, time.Minute}, {"a", 4 * time.Second, -1, time.Minute},
		{"c", time.Minute, 1, 2 * time.Minute}, {"a", time.Minute, -1, 2 * time.Minute}, {"b", 61 * time.Second, 1, 121 * time.Second},
	} {
		left, ends := m.Take(c.id, 2, at.Add(c.after))
		if left != c.left || !ends.Equal(at.Add(c.ends)) {
			t.Errorf("%s after %v: %d left until %v", c.id, c.after, left, ends.Sub(at))
		}
	}
}

// A month turns: what was used before stays there, each request counts in one of the
// two, the window of the minute goes on over it, and a start after it knows the same.
func TestMonthTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(turn.Add(-20 * time.Second)))
		log := eventlogtest.Mem(t, usage.Topic)
		one, two := startLimited(t, log), startLimited(t, log)
		defer one.stop()
		defer two.stop()
		one.ask(30)
		two.ask(20)
		time.Sleep(time.Until(turn.Add(-time.Millisecond)))
		one.ask(5) // told of when the month is over: it is counted in the next
		time.Sleep(time.Until(turn.Add(5 * time.Second)))
		if left := two.ask(7); left != 38 {
			t.Errorf("%d of 100 are left in a minute that goes over the turn, not 38", left)
		}
		time.Sleep(time.Second)
		tt, stop := totals(t, log)
		defer stop()
		months, _, err := tt.Of("org_a")
		if err != nil || len(months) != 2 || !months[1].Start.Equal(turn) ||
			months[0].Counts[usage.Requests] != 50 || months[1].Counts[usage.Requests] != 12 {
			t.Errorf("months are %+v, %v", months, err)
		}
	})
}
