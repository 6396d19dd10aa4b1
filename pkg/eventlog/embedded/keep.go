package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sluice/pkg/eventlog"
)

const (
	// retentionEvery is how often the ages of records are looked at.
	retentionEvery = time.Minute
	// freeEvery is how long trims are gathered before their disk is given back.
	freeEvery = 2 * time.Second
	// exciseBytes: from here on a trimmed range is cut out of Pebble's files at once.
	// Less is left to its next compaction: a cut costs a flush and a new manifest
	// entry, and a range that is only marked deleted lies on disk for long. When
	// room is scarce everything is cut out.
	exciseBytes = 16 << 20
)

// Trim implements eventlog.Keeper. When it returns, nobody reads the records any
// more, not even after a restart; the keeper gives their disk back.
func (l *Log) Trim(ctx context.Context, name eventlog.Partition, before int64) error {
	p, err := l.reading(ctx, name)
	if err != nil {
		return err
	}
	return l.trim(p, before)
}

func (l *Log) trim(p *partition, before int64) error {
	p.trim.Lock()
	defer p.trim.Unlock()
	end := p.end.Load()
	if before > end {
		return eventlog.ErrPastEnd
	}
	if before <= p.start.Load() {
		return nil
	}
	if err := errors.Join(l.failure(), l.roomToWork()); err != nil {
		return fmt.Errorf("partition %d of topic %q can't be trimmed: %w", p.Number, p.Topic, err)
	}
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	// The newest record's time is kept with the bounds, because the record itself
	// may go.
	last, err := l.timeAt(p, end-1)
	if err != nil {
		return err
	}
	if err := l.db.Set(p.boundsKey(), bounds{start: before, end: end, last: last}.encode(), pebble.Sync); err != nil {
		return fmt.Errorf("partition %d of topic %q can't be trimmed: %w", p.Number, p.Topic, err)
	}
	if err := l.failure(); err != nil {
		return err
	}
	p.start.Store(before)
	p.oldest = 0
	select {
	case l.freeing <- struct{}{}:
	default:
	}
	return nil
}

// timeAt tells the time of the record at the offset, Unix ms; the caller has
// entered.
func (l *Log) timeAt(p *partition, offset int64) (int64, error) {
	v, closer, err := l.db.Get(p.key(offset))
	if err != nil {
		return 0, l.readError(p, err)
	}
	defer closer.Close()
	if len(v) < valueHead {
		return 0, l.readError(p, fmt.Errorf("offset %d: %w", offset, errUnreadable))
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

// keeper gives the disk of trimmed records back, and trims what is too old.
func (l *Log) keeper() {
	age := time.NewTicker(retentionEvery)
	defer age.Stop()
	var look <-chan time.Time
	if l.space.watched {
		every := time.NewTicker(spaceEvery)
		defer every.Stop()
		look = every.C
	}
	l.free()
	for {
		select {
		case <-l.closed:
			return
		case <-l.freeing:
			select {
			case <-l.closed:
				return
			case <-time.After(freeEvery):
			}
			l.free()
		case <-age.C:
			l.retain()
		case <-look:
			l.measure()
		}
	}
}

// free removes from Pebble what lies below the starts of the partitions. What it
// leaves, it removes when something is trimmed again.
func (l *Log) free() {
	for _, t := range l.topics {
		for _, p := range t.partitions {
			if err := l.freePartition(p); err != nil {
				l.logger.Error("log: trimmed records keep their disk", "topic", p.Topic, "partition", p.Number, "error", err)
			}
		}
	}
}

func (l *Log) freePartition(p *partition) error {
	if l.enter() != nil {
		return nil // closed: the next start does it
	}
	defer l.leave()
	p.trim.Lock()
	defer p.trim.Unlock()
	start := p.start.Load()
	if p.freed >= start || l.failure() != nil || l.roomToWork() != nil {
		return nil
	}
	from, to := p.key(0), p.key(start)
	bytes, err := l.db.EstimateDiskUsage(from, to)
	if err != nil {
		return err
	}
	if bytes < exciseBytes && !l.space.yielding.shut.Load() {
		err = l.db.DeleteRange(from, to, pebble.NoSync)
	} else {
		err = l.db.Excise(context.Background(), pebble.KeyRange{Start: from, End: to})
	}
	if err != nil {
		return err
	}
	p.freed = start
	return nil
}

// retain trims the partitions whose oldest record is past its topic's retention
// by more than a little, so that not every minute brings a trim.
func (l *Log) retain() {
	clock := now()
	for _, t := range l.topics {
		if t.Retention <= 0 {
			continue
		}
		for _, p := range t.partitions {
			if err := l.retainPartition(p, clock, t.Retention); err != nil && !l.isClosed() {
				l.logger.Error("log: old records can't be trimmed", "topic", p.Topic, "partition", p.Number, "error", err)
			}
		}
	}
}

func (l *Log) retainPartition(p *partition, clock int64, retention time.Duration) error {
	oldest, err := l.oldest(p)
	if err != nil || oldest == 0 || oldest > clock-(retention+retention/64).Milliseconds() {
		return err
	}
	before, err := l.offsetAt(context.Background(), p, time.UnixMilli(clock).Add(-retention))
	if err != nil {
		return err
	}
	return l.trim(p, before)
}

// oldest tells the time of the oldest record, Unix ms; 0: there is none.
func (l *Log) oldest(p *partition) (int64, error) {
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.leave()
	p.trim.Lock()
	defer p.trim.Unlock()
	if start := p.start.Load(); p.oldest == 0 && start < p.end.Load() {
		t, err := l.timeAt(p, start)
		if err != nil {
			return 0, err
		}
		p.oldest = t
	}
	return p.oldest, nil
}

// Own implements eventlog.Keeper. The directory is this process's alone, so all
// partitions are, too.
func (l *Log) Own(ctx context.Context, name string, work func(ctx context.Context, share eventlog.Share)) error {
	t := l.topics[name]
	if t == nil {
		return fmt.Errorf("the log has no topic %q", name)
	}
	select {
	case t.owner <- struct{}{}:
		defer func() { <-t.owner }()
	case <-ctx.Done():
		return nil
	case <-l.closed:
		return eventlog.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for n := range t.Partitions {
		wg.Go(func() {
			work(ctx, eventlog.Share{Partition: n, Ours: func() bool { return true }})
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case <-l.closed:
		err = eventlog.ErrClosed
	}
	cancel()
	wg.Wait()
	return err
}
