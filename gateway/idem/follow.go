package idem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/pkg/eventlog"
)

const (
	retryShortest = 50 * time.Millisecond
	retryLongest  = 2 * time.Second
)

// Run reads the claims of the last 24 h, then all that come, until ctx ends. It
// returns when what Do has begun is over, too.
func (c *Claims) Run(ctx context.Context) error {
	var tails, behind sync.WaitGroup
	for n := range Topic.Partitions {
		behind.Add(1)
		tails.Go(func() { c.follow(ctx, eventlog.Partition{Topic: Topic.Name, Number: n}, behind.Done) })
	}
	tails.Go(func() {
		behind.Wait()
		if ctx.Err() == nil {
			close(c.ready)
		}
	})
	tails.Wait()
	close(c.over)
	c.works.Wait()
	return nil
}

// follow reads a partition until ctx ends, whatever happens to the log in
// between, and calls caughtUp once it stands where the end was at the start, or
// gives up.
func (c *Claims) follow(ctx context.Context, p eventlog.Partition, caughtUp func()) {
	f := &follower{Claims: c, partition: p, next: -1, caughtUp: sync.OnceFunc(caughtUp)}
	defer f.caughtUp()
	for delay := retryShortest; ctx.Err() == nil; delay = min(2*delay, retryLongest) {
		before := f.next
		err := f.tail(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.next != before {
			delay = retryShortest
		}
		if errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, eventlog.ErrPastEnd) {
			f.next = -1
		}
		c.cfg.Logger.Warn("claims can't be followed, trying again", "topic", p.Topic, "partition", p.Number, "error", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
}

// follower reads one partition.
type follower struct {
	*Claims
	partition eventlog.Partition
	next      int64 // below 0: where the last 24 h begin
	goal      int64 // where it has caught up
	caughtUp  func()
}

func (f *follower) tail(ctx context.Context) error {
	if f.next < 0 {
		if err := f.begin(ctx); err != nil {
			return err
		}
	}
	tail, err := f.cfg.Log.Tail(ctx, f.partition, f.next)
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		if f.next >= f.goal {
			f.caughtUp()
		}
		records, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			r := &records[i]
			if err := f.view.apply(r); err != nil {
				f.metrics.poisoned.Inc()
				f.cfg.Logger.Error("record passed over", "topic", r.Topic, "partition", r.Number, "offset", r.Offset, "error", err)
			}
			f.next = r.Offset + 1
		}
	}
}

func (f *follower) begin(ctx context.Context) error {
	start, end, err := f.cfg.Log.Bounds(ctx, f.partition)
	if err != nil {
		return fmt.Errorf("look up end of %s: %w", f.partition.Topic, err)
	}
	now := time.Now()
	if start < end {
		newest, err := f.cfg.Log.Read(ctx, f.partition, end-1, 1)
		if err != nil {
			return fmt.Errorf("read end of %s: %w", f.partition.Topic, err)
		}
		// The day is the log's, and our clock may be ahead of it.
		if len(newest) > 0 && newest[0].Time.Before(now) {
			now = newest[0].Time
		}
	}
	from, err := f.cfg.Log.OffsetAt(ctx, f.partition, now.Add(-Kept-grace))
	if err != nil {
		return fmt.Errorf("look up %s a day ago: %w", f.partition.Topic, err)
	}
	if from, err = f.skip(ctx, from, end); err != nil {
		return fmt.Errorf("count what is in %s: %w", f.partition.Topic, err)
	}
	f.next, f.goal = from, end
	return nil
}

// mostEach is about how many keys and ids a record can have, and recordsEach how
// many records there are for each that has some, at most: its done, a take.
const (
	mostEach    = 1 << 10
	recordsEach = 3
)

// skip gives the place from which on there are at least as many keys and ids as
// are remembered. What is before would be forgotten while it is read, which takes
// ten times as long as to count it.
func (f *follower) skip(ctx context.Context, from, end int64) (int64, error) {
	most := f.cfg.Entries
	if (end-from)*mostEach <= int64(most) {
		return from, nil
	}
	type mark struct {
		next  int64
		below int // keys and ids, from where it was begun
	}
	var marks []mark
	total := 0
	for at := max(from, end-recordsEach*int64(most)); at < end; {
		records, err := f.cfg.Log.Read(ctx, f.partition, at, readBytes)
		if err != nil {
			return 0, err
		}
		if len(records) == 0 {
			break
		}
		marks = append(marks, mark{at, total})
		for i := range records {
			total += entries(records[i].Value)
		}
		at = records[len(records)-1].Offset + 1
	}
	for _, m := range slices.Backward(marks) {
		if total-m.below >= most && m.next > from {
			f.view.mu.Lock()
			f.evicted() // one for all that are never read
			f.view.mu.Unlock()
			return m.next, nil
		}
	}
	return from, nil
}
