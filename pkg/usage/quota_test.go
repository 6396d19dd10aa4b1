package usage_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

// begin has so many begin, of which each is counted, and gives how many were let.
func (p *limited) begin(n, most int) (let int) {
	for i := range n {
		if p.quota.Of("org_a").Take(most) {
			p.meter.Of("org_a", event.Environments[i%2]).Add(usage.Metered, 1)
			let++
		}
	}
	return let
}

// In a process exactly as many begin as there are, however many goroutines ask while
// what was counted goes through the log; what is given back may begin again.
func TestQuotaIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		p := startLimited(t, log)
		defer p.stop()
		var let atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 300 {
					let.Add(int64(p.begin(1, 500)))
					time.Sleep(5 * time.Millisecond) // 1.5 s: several deltas
				}
			})
		}
		all.Wait()
		if let.Load() != 500 || p.quota.Of("org_a").Left(500) || !p.quota.Of("org_b").Left(500) || !p.quota.Of("org_a").Left(501) || !p.quota.Of("org_a").Left(0) {
			t.Errorf("%d were let begin of 500", let.Load())
		}
		if !p.quota.Of("org_a").Take(501) || p.quota.Of("org_a").Take(501) {
			t.Error("of 501 one is left")
		}
		p.quota.Of("org_a").Return(1)
		if p.quota.Of("org_a").Left(500) || p.begin(3, 501) != 1 {
			t.Error("one was given back")
		}
	})
}

// What began while the plan had no quota counts when it has one, be it in the book by
// then or not.
func TestQuotaOfAnotherPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startLimited(t, eventlogtest.Mem(t, usage.Topic))
		defer p.stop()
		if p.begin(5, 0) != 5 || p.quota.Of("org_a").Left(5) || !p.quota.Of("org_a").Left(6) {
			t.Error("5 began")
		}
		time.Sleep(time.Second)
		if n := p.begin(5, 7); n != 2 {
			t.Errorf("%d more were let where 2 are left", n)
		}
	})
}

// What one process began the others know of within a second, and whoever starts
// later; what is past the quota is what they began meanwhile. When the month turns all
// may begin anew.
func TestQuotaAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(turn.Add(-20 * time.Second)))
		log := eventlogtest.Mem(t, usage.Topic)
		one, two := startLimited(t, log), startLimited(t, log)
		defer one.stop()
		if one.begin(90, 100) != 90 || two.begin(5, 100) != 5 {
			t.Error("they have 100 each until they hear of one another")
		}
		time.Sleep(time.Second)
		if n := two.begin(10, 100); n != 5 || one.begin(1, 95) != 0 {
			t.Errorf("%d more were let where 5 are left", n)
		}
		two.stop()
		three := startLimited(t, log)
		defer three.stop()
		if n := three.begin(10, 100); n != 0 {
			t.Errorf("%d more were let after a start", n)
		}
		if got := usage.NextMonth(time.Now()); !got.Equal(turn) {
			t.Errorf("the month is over at %v", got)
		}
		time.Sleep(time.Until(turn) - time.Nanosecond)
		if one.quota.Of("org_a").Left(100) {
			t.Error("there is something left before the month is over")
		}
		time.Sleep(time.Nanosecond)
		if n := one.begin(101, 100); n != 100 {
			t.Errorf("%d of 100 were let begin in the next month", n)
		}
		time.Sleep(time.Second)
		if three.quota.Of("org_a").Left(100) {
			t.Error("another process knows nothing of those of the next month")
		}
	})
}

// Where nobody knows what was used nothing is held.
func TestQuotaUnknown(t *testing.T) {
	var nobody *usage.Quota
	var unread usage.Quota
	usage.NewTotals(usage.TotalsConfig{Log: eventlogtest.Mem(t, usage.Topic), Quota: &unread})
	for _, q := range []*usage.Quota{nobody, new(usage.Quota), &unread} {
		for range 2 {
			if !q.Of("org_a").Take(1) || !q.Of("org_a").Left(1) {
				t.Error("one is refused")
			}
		}
		q.Of("org_a").Return(2)
	}
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		p := startLimited(t, log)
		defer p.stop()
		p.begin(1, 1)
		time.Sleep(time.Second)
		if p.quota.Of("org_a").Left(1) {
			t.Error("one is left of one")
		}
		put(t, log, `{"v":99}`) // of a newer release
		time.Sleep(time.Second)
		if !p.quota.Of("org_a").Take(1) || !p.quota.Of("org_a").Left(1) {
			t.Error("one is refused although counts can't be read any more")
		}
	})
}
