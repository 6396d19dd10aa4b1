package eventlogtest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/eventlog"
)

func (s *suite) wantOffsetAt(p eventlog.Partition, t time.Time, want int64) {
	s.Helper()
	if got, err := s.log.OffsetAt(s.ctx, p, t); err != nil || got != want {
		s.Fatalf("OffsetAt %v: %d, %v; want %d", t, got, err, want)
	}
}

func testOffsetAt(s *suite) {
	s.start()
	var recs []eventlog.Record
	last := time.Now()
	for _, v := range numbered("v", 7) {
		rec := s.appendLater(a0, v, last)
		recs, last = append(recs, rec), rec.Time
	}
	s.wantOffsetAt(a0, time.UnixMilli(0), 0)
	s.wantOffsetAt(a0, time.Now().Add(-24*time.Hour), 0)
	s.wantOffsetAt(a0, time.Now().Add(time.Hour), 7)
	for i, r := range recs {
		s.wantOffsetAt(a0, r.Time, int64(i))
		s.wantOffsetAt(a0, r.Time.Add(-time.Microsecond), int64(i))
		s.wantOffsetAt(a0, r.Time.Add(time.Microsecond), int64(i+1))
	}
}

func testOffsetAtEqualTimes(s *suite) {
	s.start()
	first := s.appendLater(a0, "before", time.Now())
	for time.Now().UnixMilli() <= first.Time.UnixMilli()+1 {
		<-time.After(time.Millisecond)
	}
	s.append(a0, numbered("v", 50)...)
	last := s.appendLater(a0, "after", s.at(a0, 50).Time)
	recs := s.all(a0, 0, 1<<20)
	s.wantOffsetAt(a0, first.Time, 0)
	s.wantOffsetAt(a0, last.Time, 51)
	for _, r := range recs {
		want := int64(slices.IndexFunc(recs, func(o eventlog.Record) bool { return !o.Time.Before(r.Time) }))
		s.wantOffsetAt(a0, r.Time, want)
	}
}

func testOffsetAtAfterTrim(s *suite) {
	s.start()
	var recs []eventlog.Record
	last := time.Now()
	for _, v := range numbered("v", 5) {
		rec := s.appendLater(a0, v, last)
		recs, last = append(recs, rec), rec.Time
	}
	if err := s.log.Trim(s.ctx, a0, 3); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	s.wantOffsetAt(a0, recs[0].Time, 3)
	s.wantOffsetAt(a0, recs[3].Time, 3)
	s.wantOffsetAt(a0, recs[4].Time, 4)
	if err := s.log.Trim(s.ctx, a0, 5); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	s.wantOffsetAt(a0, recs[0].Time, 5)
	s.wantOffsetAt(a0, time.Now().Add(time.Hour), 5)
}

func testTrim(s *suite) {
	s.start()
	s.append(a0, numbered("v", 10)...)
	s.append(a1, numbered("w", 10)...)
	for _, before := range []int64{6, 6, 2, 0} { // what is gone already is no error
		if err := s.log.Trim(s.ctx, a0, before); err != nil {
			s.Fatalf("Trim to %d: %v", before, err)
		}
		s.wantBounds(a0, 6, 10)
	}
	s.wantValues(s.all(a0, 6, 1<<20), numbered("v", 10)[6:]...)
	s.wantValues(s.all(a1, 0, 1<<20), numbered("w", 10)...)

	// An emptied partition goes on where it was.
	if err := s.log.Trim(s.ctx, a0, 10); err != nil {
		s.Fatalf("Trim of all: %v", err)
	}
	s.wantBounds(a0, 10, 10)
	_, err := s.log.Read(s.ctx, a0, 9, 1<<20)
	s.wantError("Read below an emptied partition's start", err, eventlog.ErrTooOld)
	if recs, err := s.log.Read(s.ctx, a0, 10, 1<<20); err != nil || len(recs) != 0 {
		s.Fatalf("Read of an emptied partition: %d records, %v", len(recs), err)
	}
	if got := s.append(a0, "next"); got[0] != 10 {
		s.Fatalf("offset %d after all was trimmed, want 10", got[0])
	}
	s.wantValues(s.all(a0, 10, 1<<20), "next")
}

func testTrimRefuses(s *suite) {
	s.start()
	s.append(a0, "x")
	s.wantError("Trim past the end", s.log.Trim(s.ctx, a0, 2), eventlog.ErrPastEnd)
	s.wantBounds(a0, 0, 1)
}

// owned counts work that runs.
type owned struct {
	mu      sync.Mutex
	running map[int32]int
	began   chan int32
	most    atomic.Int32
	wrong   atomic.Int32 // shares that weren't ours when they began
}

func (o *owned) work(ctx context.Context, share eventlog.Share) {
	n := share.Partition
	o.mu.Lock()
	o.running[n]++
	o.most.Store(max(o.most.Load(), int32(o.running[n])))
	o.mu.Unlock()
	if !share.Ours() {
		o.wrong.Add(1)
	}
	o.began <- n
	<-ctx.Done()
	o.mu.Lock()
	o.running[n]--
	o.mu.Unlock()
}

func (o *owned) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.running {
		if n != 0 {
			return false
		}
	}
	return true
}

// own runs Own over topic x's four partitions until each has begun.
func (s *suite) own(ctx context.Context, o *owned) chan error {
	s.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.log.Own(ctx, "x", o.work) }()
	seen := make(map[int32]bool)
	for len(seen) < 4 {
		select {
		case n := <-o.began:
			seen[n] = true
		case err := <-ended:
			s.Fatalf("Own ended before its context: %v", err)
		case <-s.ctx.Done():
			s.Fatalf("after %v work runs for %v", patience, seen)
		}
	}
	return ended
}

func (s *suite) ended(ended chan error) error {
	s.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		s.Fatal("Own doesn't return")
		return nil
	}
}

func newOwned() *owned { return &owned{running: make(map[int32]int), began: make(chan int32, 64)} }

func testOwn(s *suite) {
	s.log = s.open(s.T, []eventlog.Topic{{Name: "x", Partitions: 4}})
	if err := s.log.Own(s.ctx, "none", func(context.Context, eventlog.Share) {}); err == nil {
		s.Error("an unknown topic can be owned")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	o := newOwned()
	ended := s.own(ctx, o)
	cancel()
	if err := s.ended(ended); err != nil {
		s.Errorf("Own: %v, want nil when its context ends", err)
	}
	if !o.idle() {
		s.Error("Own returned before its work")
	}
	if n := o.wrong.Load(); n > 0 {
		s.Errorf("%d shares weren't ours", n)
	}
}

func testOwnAgain(s *suite) {
	s.log = s.open(s.T, []eventlog.Topic{{Name: "x", Partitions: 4}})
	o := newOwned()
	for range 2 {
		ctx, cancel := context.WithCancel(s.ctx)
		ended := s.own(ctx, o)
		cancel()
		if err := s.ended(ended); err != nil {
			s.Errorf("Own: %v", err)
		}
	}
	if o.most.Load() != 1 {
		s.Errorf("work ran %d times at once for one partition", o.most.Load())
	}
	// Closing the log ends the work, too.
	ended := s.own(s.ctx, o)
	if err := s.log.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.wantError("Own when the log is closed", s.ended(ended), eventlog.ErrClosed)
	if !o.idle() {
		s.Error("Own returned before its work")
	}
}

func testClosed(s *suite) {
	s.start()
	s.append(a0, "x")
	tail, err := s.log.Tail(s.ctx, a0, 0)
	if err != nil {
		s.Fatalf("Tail: %v", err)
	}
	defer tail.Close()
	for range 2 {
		if err := s.log.Close(); err != nil {
			s.Fatalf("Close: %v", err)
		}
	}
	_, err = s.log.Append(s.ctx, []eventlog.Record{{Partition: a0}})
	s.wantError("Append", err, eventlog.ErrClosed)
	_, _, err = s.log.Bounds(s.ctx, a0)
	s.wantError("Bounds", err, eventlog.ErrClosed)
	_, err = s.log.Read(s.ctx, a0, 0, 1)
	s.wantError("Read", err, eventlog.ErrClosed)
	_, err = s.log.OffsetAt(s.ctx, a0, time.Now())
	s.wantError("OffsetAt", err, eventlog.ErrClosed)
	_, err = s.log.Tail(s.ctx, a0, 0)
	s.wantError("Tail", err, eventlog.ErrClosed)
	_, err = tail.Next(s.ctx)
	s.wantError("Next", err, eventlog.ErrClosed)
	s.wantError("Trim", s.log.Trim(s.ctx, a0, 1), eventlog.ErrClosed)
	s.wantError("Own", s.log.Own(s.ctx, "a", func(context.Context, eventlog.Share) {}), eventlog.ErrClosed)
}

func testReopen(s *suite) {
	s.start()
	s.append(a0, numbered("v", 20)...)
	s.append(b0, "b")
	if err := s.log.Trim(s.ctx, a0, 5); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	before := s.all(a0, 5, 1<<20)
	s.reopen()
	s.wantBounds(a0, 5, 20)
	s.wantBounds(a1, 0, 0)
	s.wantBounds(b0, 0, 1)
	after := s.all(a0, 5, 1<<20)
	s.wantValues(after, values(before)...)
	for i := range after {
		if !after[i].Time.Equal(before[i].Time) {
			s.Fatalf("offset %d had time %v, and now %v", after[i].Offset, before[i].Time, after[i].Time)
		}
	}
	if got := s.append(a0, "next"); got[0] != 20 {
		s.Fatalf("offset %d, want 20", got[0])
	}
	s.checkOrder(a0, s.all(a0, 5, 1<<20))
}

// Offsets never begin again, and time never goes back, though no record is left
// to tell.
func testReopenEmptied(s *suite) {
	s.start()
	s.append(a0, numbered("v", 20)...)
	last := s.at(a0, 19).Time
	if err := s.log.Trim(s.ctx, a0, 20); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	for range 2 {
		s.reopen()
		s.wantBounds(a0, 20, 20)
	}
	if got := s.append(a0, "next"); got[0] != 20 {
		s.Fatalf("offset %d, want 20", got[0])
	}
	if got := s.at(a0, 20).Time; got.Before(last) {
		s.Fatalf("time %v after %v", got, last)
	}
}
