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
	// tailBytes is about what one Next of a tail returns at most.
	tailBytes = 256 << 10
	// chunkBytes is how much of what Read returns shares one piece of memory, so that
	// a kept record doesn't keep all that were read with it.
	chunkBytes = 8 << 10
)

// Bounds implements eventlog.Reader.
func (l *Log) Bounds(ctx context.Context, name eventlog.Partition) (start, end int64, err error) {
	p, err := l.reading(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	// In this order start is never past end.
	start = p.start.Load()
	return start, p.end.Load(), nil
}

// reading finds the partition that a call wants to read.
func (l *Log) reading(ctx context.Context, name eventlog.Partition) (*partition, error) {
	if l.isClosed() {
		return nil, eventlog.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.partition(name)
}

// Read implements eventlog.Reader.
func (l *Log) Read(ctx context.Context, name eventlog.Partition, from int64, maxBytes int) ([]eventlog.Record, error) {
	p, err := l.reading(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.read(ctx, p, from, maxBytes)
}

func (l *Log) read(ctx context.Context, p *partition, from int64, maxBytes int) (records []eventlog.Record, err error) {
	end := p.end.Load()
	switch {
	case from > end:
		return nil, eventlog.ErrPastEnd
	case from < p.start.Load():
		return nil, eventlog.ErrTooOld
	case from == end:
		return nil, nil
	}
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.leave()
	it, err := l.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: p.key(from), UpperBound: p.key(end)})
	if err != nil {
		return nil, l.readError(p, err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			records, err = nil, l.readError(p, cerr)
		}
	}()
	var (
		chunk []byte
		taken int
	)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, l.readError(p, err)
		}
		if len(records) > 0 && taken+len(v) > maxBytes {
			break
		}
		offset := keyOffset(it.Key())
		if len(v) > cap(chunk)-len(chunk) {
			// What is left is guessed to be alike. A larger chunk would stay in memory
			// with the few records that a reader at the end gets at a time.
			left := min(int64(len(v))*(end-offset), int64(maxBytes-taken), chunkBytes)
			chunk = make([]byte, 0, max(int64(len(v)), left))
		}
		taken += len(v)
		if len(records) > 0 && offset != from+int64(len(records)) {
			return nil, l.readError(p, fmt.Errorf("offset %d: %w", from+int64(len(records)), errMissing))
		}
		at := len(chunk)
		chunk = append(chunk, v...)
		rec, err := decodeRecord(p, offset, chunk[at:len(chunk):len(chunk)])
		if err != nil {
			return nil, l.readError(p, err)
		}
		records = append(records, rec)
	}
	if err := it.Error(); err != nil {
		return nil, l.readError(p, err)
	}
	// What was trimmed meanwhile may be missing at the front.
	if from < p.start.Load() {
		return nil, eventlog.ErrTooOld
	}
	if len(records) == 0 || records[0].Offset != from {
		return nil, l.readError(p, fmt.Errorf("offset %d: %w", from, errMissing))
	}
	return records, nil
}

// decodeRecord splits the value of a record, whose bytes it keeps.
func decodeRecord(p *partition, offset int64, v []byte) (eventlog.Record, error) {
	if len(v) < valueHead || uint64(binary.BigEndian.Uint32(v[8:])) > uint64(len(v)-valueHead) {
		return eventlog.Record{}, fmt.Errorf("offset %d: %w", offset, errUnreadable)
	}
	key := int(binary.BigEndian.Uint32(v[8:]))
	rec := eventlog.Record{
		Partition: p.Partition,
		Offset:    offset,
		Time:      time.UnixMilli(int64(binary.BigEndian.Uint64(v))).UTC(),
		Value:     v[valueHead+key:],
	}
	if key > 0 {
		rec.Key = v[valueHead : valueHead+key : valueHead+key]
	}
	return rec, nil
}

// readError says where a read failed, and in which file if one is damaged.
func (l *Log) readError(p *partition, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if c := l.corrupted.Load(); c != nil {
		err = errors.Join(err, *c)
	}
	if !pebble.IsCorruptionError(err) && !errors.Is(err, errMissing) && !errors.Is(err, errUnreadable) {
		return fmt.Errorf("partition %d of topic %q in %s can't be read now: %w", p.Number, p.Topic, l.dir, err)
	}
	err = fmt.Errorf("partition %d of topic %q in %s %w: %w", p.Number, p.Topic, l.dir, eventlog.ErrDamaged, err)
	l.note(err)
	return err
}

// OffsetAt implements eventlog.Reader: a binary search, because times never
// decrease.
func (l *Log) OffsetAt(ctx context.Context, name eventlog.Partition, t time.Time) (int64, error) {
	p, err := l.reading(ctx, name)
	if err != nil {
		return 0, err
	}
	return l.offsetAt(ctx, p, t)
}

func (l *Log) offsetAt(ctx context.Context, p *partition, t time.Time) (int64, error) {
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.leave()
	lo, hi := p.start.Load(), p.end.Load()
	if lo >= hi {
		return hi, nil
	}
	it, err := l.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: p.key(lo), UpperBound: p.key(hi)})
	if err != nil {
		return 0, l.readError(p, err)
	}
	defer it.Close()
	// Times are whole milliseconds: one is at t or later exactly if it is at t,
	// rounded up, or later.
	want := t.UnixMilli()
	if t.After(time.UnixMilli(want)) {
		want++
	}
	for lo < hi { // the answer is in [lo, hi]
		mid := lo + (hi-lo)/2
		if !it.SeekGE(p.key(mid)) {
			if err := it.Error(); err != nil {
				return 0, l.readError(p, err)
			}
			hi = mid // nothing from mid on: trimmed meanwhile
			continue
		}
		v, err := it.ValueAndErr()
		if err == nil && len(v) < valueHead {
			err = fmt.Errorf("offset %d: %w", keyOffset(it.Key()), errUnreadable)
		}
		if err != nil {
			return 0, l.readError(p, err)
		}
		if int64(binary.BigEndian.Uint64(v)) >= want {
			hi = mid
		} else {
			lo = keyOffset(it.Key()) + 1
		}
	}
	return max(lo, p.start.Load()), nil
}

// Tail implements eventlog.Reader.
func (l *Log) Tail(ctx context.Context, name eventlog.Partition, from int64) (eventlog.Tail, error) {
	p, err := l.reading(ctx, name)
	if err != nil {
		return nil, err
	}
	switch {
	case from > p.end.Load():
		return nil, eventlog.ErrPastEnd
	case from < p.start.Load():
		return nil, eventlog.ErrTooOld
	}
	p.follow()
	return &tail{l: l, p: p, next: from, closed: make(chan struct{})}, nil
}

// tail follows a partition. It reads when it is asked: the records are at hand,
// so reading ahead would only hold them twice.
type tail struct {
	l    *Log
	p    *partition
	next int64

	once   sync.Once
	closed chan struct{}
}

func (t *tail) Next(ctx context.Context) ([]eventlog.Record, error) {
	for {
		select {
		case <-t.closed:
			return nil, eventlog.ErrClosed
		case <-t.l.closed:
			return nil, eventlog.ErrClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		records := t.p.newest(t.next)
		if records == nil {
			var err error
			if records, err = t.l.read(ctx, t.p, t.next, tailBytes); err != nil {
				return nil, err
			}
		}
		if len(records) > 0 {
			t.next = records[len(records)-1].Offset + 1
			return records, nil
		}
		news := t.p.newsAfter(t.next)
		if news == nil {
			continue
		}
		select {
		case <-news:
		case <-ctx.Done():
		case <-t.closed:
		case <-t.l.closed:
		}
	}
}

func (t *tail) Close() {
	t.once.Do(func() {
		close(t.closed)
		t.p.unfollow()
	})
}
