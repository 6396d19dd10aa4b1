package lane

import (
	"math/rand/v2"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
)

// A window is a set of offsets, whatever the order in which they are finished,
// and its bytes say the same.
func TestWindow(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		begin := int64(rnd.IntN(200))
		w := newWindow(begin)
		want := make(map[int64]bool)
		spread := 1 + rnd.IntN(3000)
		low := begin
		for range 5000 {
			off := low + int64(rnd.IntN(spread))
			if got := w.finish(off); got == want[off] {
				t.Fatalf("seed %d: finish %d says %v", seed, off, got)
			}
			want[off] = true
			for want[low] {
				low++
			}
			if w.next != low {
				t.Fatalf("seed %d: next is %d, want %d", seed, w.next, low)
			}
		}
		d := &decoder{rest: w.append(nil)}
		again, err := readWindow(d)
		if err != nil || len(d.rest) > 0 {
			t.Fatalf("seed %d: %v, %d bytes left", seed, err, len(d.rest))
		}
		for off := begin; off < low+int64(spread)+200; off++ {
			if is := off < low || want[off]; w.done(off) != is || again.done(off) != is {
				t.Fatalf("seed %d: %d is %v, and %v when read again, want %v", seed, off, w.done(off), again.done(off), is)
			}
		}
		if w.above != again.above {
			t.Fatalf("seed %d: %d above, %d when read again", seed, w.above, again.above)
		}
	}
}

// Failures count at the pace of the schedule, and counting them again changes
// nothing.
func TestStreak(t *testing.T) {
	hook := &dialect.Webhook{Schedule: []time.Duration{0, 5 * time.Second, 30 * time.Second}, DisableAfter: 3}
	began := time.Unix(1000, 0)
	fail := func(after time.Duration, epoch uint64) *delivery.Outcome {
		return &delivery.Outcome{Class: delivery.HTTPError, Status: 500, Started: began.Add(after), Epoch: epoch}
	}
	s := streak{epoch: 1}
	all := []struct {
		o     *delivery.Outcome
		count int
	}{
		{fail(0, 1), 1},
		{fail(time.Second, 1), 1},
		{fail(4999*time.Millisecond, 1), 1},
		{fail(5*time.Second, 1), 2},
		{fail(6*time.Second, 2), 2}, // of another epoch
		{fail(34*time.Second, 1), 2},
		{fail(35*time.Second, 1), 3},
	}
	for i, step := range all {
		s.fold(step.o, step.o.Started.Add(step.o.Took), hook)
		if s.count != step.count {
			t.Errorf("after %d outcomes %d are counted, want %d", i+1, s.count, step.count)
		}
	}
	before := s
	for _, step := range all {
		s.fold(step.o, step.o.Started.Add(step.o.Took), hook)
	}
	if s != before || !s.enough(hook) || !s.first.Equal(began) {
		t.Errorf("counted again: %+v, want %+v", s, before)
	}
	s.fold(&delivery.Outcome{Class: delivery.Delivered, Started: began.Add(time.Minute), Epoch: 1}, began.Add(time.Minute), hook)
	if s.count != 0 {
		t.Errorf("%d after a success", s.count)
	}
}
