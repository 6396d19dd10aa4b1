package dispatcher_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// frozen is a log and a sender as a process has them that can be stopped and wakes
// up: meanwhile nothing passes, and what was under way goes on from where it was.
// Every lane is given to it as long as it runs, whoever else has it.
type frozen struct {
	eventlog.Log
	receivers *receivers
	rnd       *rand.Rand

	left   atomic.Int64  // appends until it freezes by itself, in the middle of one
	before atomic.Value  // a topic: it freezes by itself before it appends to that
	honest bool          // its clock tells it that it was stopped
	blind  time.Duration // how long it is before it hears of what others append to lanes

	mu     sync.Mutex
	closed chan struct{} // closed when it wakes up; nil: it is awake
	since  time.Time     // when it froze last
	times  []nap
	slept  atomic.Bool
}

// nap is a time for which it stood still.
type nap struct{ from, to time.Time }

func (w *world) frozen(log eventlog.Log, seed uint64) *frozen {
	f := &frozen{Log: log, receivers: w.receivers, rnd: rand.New(rand.NewPCG(seed, 7))}
	f.left.Store(1 << 40)
	return f
}

func (f *frozen) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed == nil {
		f.closed, f.since = make(chan struct{}), time.Now()
		f.slept.Store(true)
	}
}

func (f *frozen) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed != nil {
		f.times = append(f.times, nap{f.since, time.Now()})
		close(f.closed)
		f.closed = nil
	}
}

// astray reports whether it stood still, or had, when that was.
func (f *frozen) astray(at time.Time) bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slept.Load() && !at.Before(f.first())
}

func (f *frozen) first() time.Time {
	if len(f.times) > 0 {
		return f.times[0].from
	}
	return f.since
}

func (f *frozen) pass() {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

func (f *frozen) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	f.pass()
	if topic, _ := f.before.Load().(string); topic != "" && slices.ContainsFunc(records, func(r eventlog.Record) bool { return r.Topic == topic }) {
		f.before.Store("")
		f.freeze()
		f.pass()
	}
	if f.left.Add(-1) != 0 {
		offsets, err := f.Log.Append(ctx, records)
		f.pass()
		return offsets, err
	}
	// Some partitions have their part before it freezes, the others when it wakes.
	now := make(map[eventlog.Partition]bool)
	offsets := make([]int64, len(records))
	f.mu.Lock()
	for _, r := range records {
		if _, known := now[r.Partition]; !known {
			now[r.Partition] = f.rnd.IntN(2) == 0
		}
	}
	f.mu.Unlock()
	for _, half := range []bool{true, false} {
		var part []eventlog.Record
		var places []int
		for i, r := range records {
			if now[r.Partition] == half {
				part, places = append(part, r), append(places, i)
			}
		}
		if len(part) > 0 {
			got, err := f.Log.Append(ctx, part)
			if err != nil {
				return nil, err
			}
			for i, at := range places {
				offsets[at] = got[i]
			}
		}
		if half {
			f.freeze()
			f.pass()
		}
	}
	return offsets, nil
}

func (f *frozen) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	f.pass()
	start, end, err := f.Log.Bounds(ctx, p)
	f.pass()
	return start, end, err
}

func (f *frozen) Read(ctx context.Context, p eventlog.Partition, from int64, bytes int) ([]eventlog.Record, error) {
	f.pass()
	records, err := f.Log.Read(ctx, p, from, bytes)
	f.pass()
	return records, err
}

func (f *frozen) Trim(ctx context.Context, p eventlog.Partition, before int64) error {
	f.pass()
	return f.Log.Trim(ctx, p, before)
}

func (f *frozen) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	f.pass()
	t, err := f.Log.Tail(ctx, p, from)
	late := time.Duration(0)
	if p.Topic == delivery.LanesTopic {
		late = f.blind
	}
	return &frozenTail{t, f, late}, err
}

type frozenTail struct {
	eventlog.Tail
	f    *frozen
	late time.Duration
}

func (t *frozenTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	if t.late > 0 && err == nil {
		select {
		case <-time.After(t.late):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t.f.pass()
	return records, err
}

func (f *frozen) Own(ctx context.Context, _ string, work func(context.Context, eventlog.Share)) error {
	var wg sync.WaitGroup
	for n := range int32(delivery.Lanes) {
		share := eventlog.Share{Partition: n, Ours: func() bool { return !f.honest || !f.slept.Load() }}
		wg.Go(func() { work(ctx, share) })
	}
	wg.Wait()
	return nil
}

// frozenSender sends for one.
type frozenSender struct{ f *frozen }

func (s frozenSender) Send(ctx context.Context, r *attempt.Request) (delivery.Outcome, error) {
	s.f.pass()
	o, err := s.f.receivers.take(ctx, r, s.f)
	s.f.pass()
	return o, err
}

func (frozenSender) Close() {}
