package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"sluice/pkg/eventlog"
)

func (s *suite) tail(p eventlog.Partition, from int64) eventlog.Tail {
	s.Helper()
	tail, err := s.log.Tail(s.ctx, p, from)
	if err != nil {
		s.Fatalf("Tail from %d: %v", from, err)
	}
	s.Cleanup(tail.Close)
	return tail
}

// next reads n records from the tail.
func (s *suite) next(tail eventlog.Tail, p eventlog.Partition, n int) []eventlog.Record {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	var got []eventlog.Record
	for len(got) < n {
		recs, err := tail.Next(ctx)
		if err != nil {
			s.Fatalf("Next, after %d records of %d: %v", len(got), n, err)
		}
		if len(recs) == 0 {
			s.Fatal("Next returned nothing")
		}
		got = append(got, recs...)
	}
	s.checkOrder(p, got)
	return got
}

// wantTailError follows from the offset; the error may come from Tail or Next.
func (s *suite) wantTailError(p eventlog.Partition, from int64, want error) {
	s.Helper()
	tail, err := s.log.Tail(s.ctx, p, from)
	if err == nil {
		defer tail.Close()
		var recs []eventlog.Record
		if recs, err = tail.Next(s.ctx); err == nil {
			s.Fatalf("a tail from %d returned offset %d", from, recs[0].Offset)
		}
	}
	s.wantError(fmt.Sprintf("a tail from %d", from), err, want)
}

func testTailFromStart(s *suite) {
	s.start()
	s.append(a0, numbered("v", 5)...)
	tail := s.tail(a0, 0)
	s.wantValues(s.next(tail, a0, 5), numbered("v", 5)...)
	for i := range 20 {
		v := fmt.Sprint("live", i)
		s.append(a0, v)
		got := s.next(tail, a0, 1)
		s.wantValues(got, v)
		if got[0].Offset != int64(5+i) {
			s.Fatalf("offset %d, want %d", got[0].Offset, 5+i)
		}
	}
}

// Several tails, many on one partition, at different places, read while others
// append: each gets everything from its place on, in order, once.
func testTails(s *suite) {
	s.start()
	const before, during = 100, 300
	s.append(a0, numbered("v", before)...)
	s.append(a1, numbered("v", before)...)
	var wg sync.WaitGroup
	for _, c := range []struct {
		p    eventlog.Partition
		from int64
	}{{a0, 0}, {a0, 0}, {a0, 50}, {a0, 99}, {a0, 100}, {a1, 0}, {a1, 100}} {
		tail := s.tail(c.p, c.from)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, patience)
			defer cancel()
			for next := c.from; next < before+during; {
				recs, err := tail.Next(ctx)
				if err != nil {
					s.Errorf("tail of %v from %d, at %d: %v", c.p, c.from, next, err)
					return
				}
				for _, r := range recs {
					if r.Offset != next || r.Partition != c.p || string(r.Value) != fmt.Sprint("v", next) {
						s.Errorf("tail of %v from %d got offset %d, %q; want %d", c.p, c.from, r.Offset, r.Value, next)
						return
					}
					next++
				}
			}
		})
	}
	for _, p := range []eventlog.Partition{a0, a1} {
		wg.Go(func() {
			for i := range during / 3 {
				var recs []eventlog.Record
				for j := range 3 {
					recs = append(recs, eventlog.Record{Partition: p, Value: fmt.Append(nil, "v", before+3*i+j)})
				}
				if _, err := s.log.Append(s.ctx, recs); err != nil {
					s.Errorf("Append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testTailBounds(s *suite) {
	s.start()
	s.append(a0, numbered("v", 10)...)
	if err := s.log.Trim(s.ctx, a0, 4); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	s.wantTailError(a0, 0, eventlog.ErrTooOld)
	s.wantTailError(a0, 3, eventlog.ErrTooOld)
	s.wantTailError(a0, 11, eventlog.ErrPastEnd)
	s.wantValues(s.next(s.tail(a0, 4), a0, 6), numbered("v", 10)[4:]...)
	end := s.tail(a0, 10)
	s.append(a0, "live")
	s.wantValues(s.next(end, a0, 1), "live")
}

// A context that ends ends one Next, not the tail.
func testTailCancelled(s *suite) {
	s.start()
	tail := s.tail(a0, 0)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := tail.Next(ctx)
	s.wantError("Next", err, context.DeadlineExceeded)
	gone, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = tail.Next(gone)
	s.wantError("Next", err, context.Canceled)
	s.append(a0, "x")
	s.wantValues(s.next(tail, a0, 1), "x")

	// Neither does the end of the context that it was made with.
	made, cancel := context.WithCancel(s.ctx)
	other, err := s.log.Tail(made, a0, 0)
	if err != nil {
		s.Fatalf("Tail: %v", err)
	}
	defer other.Close()
	cancel()
	s.wantValues(s.next(other, a0, 1), "x")
}

// waiting runs Next in a goroutine that is likely to wait already.
func (s *suite) waiting(tail eventlog.Tail) chan error {
	got := make(chan error, 1)
	go func() {
		recs, err := tail.Next(s.ctx)
		if err == nil {
			err = fmt.Errorf("%d records", len(recs))
		}
		got <- err
	}()
	select {
	case err := <-got:
		s.Fatalf("Next at the end didn't wait: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	return got
}

func (s *suite) wantWaitEnded(got chan error) {
	s.Helper()
	select {
	case err := <-got:
		s.wantError("Next", err, eventlog.ErrClosed)
	case <-time.After(patience):
		s.Fatal("Next still waits")
	}
}

func testTailClosed(s *suite) {
	s.start()
	tail, other := s.tail(a0, 0), s.tail(a0, 0)
	got := s.waiting(tail)
	tail.Close()
	s.wantWaitEnded(got)
	tail.Close()
	_, err := tail.Next(s.ctx)
	s.wantError("Next", err, eventlog.ErrClosed)
	s.append(a0, "x")
	s.wantValues(s.next(other, a0, 1), "x")
	// Its place is free for another.
	for range 5 {
		again := s.tail(a0, 0)
		s.wantValues(s.next(again, a0, 1), "x")
		again.Close()
	}
}

func testCloseWhileTailing(s *suite) {
	s.start()
	got := s.waiting(s.tail(a0, 0))
	if err := s.log.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.wantWaitEnded(got)
}

// noise gives n bytes that nothing makes smaller.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return string(b)
}

// A trim under a tail's feet may leave it what it has read ahead; what it hasn't
// is ErrTooOld, never a gap.
func testTailAcrossTrim(s *suite) {
	s.start()
	const n = 60
	big := noise(800_000)
	for range n {
		s.append(a0, big)
	}
	tail := s.tail(a0, 0)
	first := s.next(tail, a0, 1)
	if first[0].Offset != 0 {
		s.Fatalf("the first offset was %d", first[0].Offset)
	}
	next := first[len(first)-1].Offset + 1
	if err := s.log.Trim(s.ctx, a0, n-1); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	fresh := s.tail(a0, n-1)
	s.next(fresh, a0, 1)
	for {
		recs, err := tail.Next(s.ctx)
		if errors.Is(err, eventlog.ErrTooOld) {
			break
		}
		if err != nil {
			s.Fatalf("Next at %d: %v, want ErrTooOld", next, err)
		}
		for _, r := range recs {
			if r.Offset != next {
				s.Fatalf("offset %d follows %d: records were skipped in silence", r.Offset, next-1)
			}
			next++
		}
		if next == n {
			s.Fatalf("a tail had read ahead all %d bytes", n*len(big))
		}
	}
	_, err := tail.Next(s.ctx)
	s.wantError("Next after ErrTooOld", err, eventlog.ErrTooOld)
}

// A tail whose owner does something else holds nobody up, and loses nothing.
func testTailIdle(s *suite) {
	s.start()
	idle, busy := s.tail(a0, 0), s.tail(a1, 0)
	const n = 60
	big := noise(500_000)
	for i := range n {
		offsets, err := s.log.Append(s.ctx, []eventlog.Record{
			{Partition: a0, Value: []byte(big)},
			{Partition: a1, Value: fmt.Append(nil, i)},
		})
		if err != nil || offsets[1] != int64(i) {
			s.Fatalf("Append: %v, %v", offsets, err)
		}
		s.wantValues(s.next(busy, a1, 1), fmt.Sprint(i))
	}
	if got := s.next(idle, a0, n); len(got) != n || got[0].Offset != 0 || got[n-1].Offset != n-1 {
		s.Fatalf("%d records from %d", len(got), got[0].Offset)
	}
}
