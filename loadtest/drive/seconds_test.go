package drive

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestSeconds holds that the seconds of a run have all that came, and when, though who
// looks at them sleeps for a while, and the run ends within one.
func TestSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter()
		r := &run{headroom: newHeadroom(), publishers: []*publishing{{meter: m}}}
		looks := 0
		r.Each = func(Second) {
			if looks++; looks == 2 {
				time.Sleep(3300 * time.Millisecond)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		w := &seconds{run: r, began: time.Now()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.watch(ctx)
		}()
		for range 85 { // every 100 ms, ten
			time.Sleep(100 * time.Millisecond)
			m.counted(10)
		}
		time.Sleep(10 * time.Millisecond)
		stop()
		<-done
		before, sum := 0.0, 0.0
		for _, s := range w.seen {
			took := s.At - before
			if math.Abs(s.Published.Rate-100)*took > 10.01 { // what comes at its end is in it, or in the next
				t.Errorf("%v a second until %v", s.Published.Rate, s.At)
			}
			sum += s.Published.Rate * took
			before = s.At
		}
		if math.Abs(sum-850) > 0.01 || math.Abs(before-8.51) > 0.001 {
			t.Errorf("%v until %v: %+v", sum, before, w.seen)
		}
	})
}
