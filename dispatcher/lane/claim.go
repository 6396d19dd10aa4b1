package lane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// An owner claims its lane before it does anything else, and the log decides from
// when on only it counts; delivery/claim.go has the rule.
//
//	claim ──► lanes, durable ──► marker ──► attempts, durable ──► markers ──► tier.*, held, dead, durable ──► journal
//	                │
//	                └──► watch: a higher claim ends the life, at once
//
// A claim in lanes:
//
//	┌─────────┬───┬───────┬─────────┬───
//	│ version │ C │ owner │ address │ what later releases add
//	└─────────┴───┴───────┴─────────┴───
const claimKind = 'C'

// ErrDisplaced ends the life of a lane that another owner claimed.
var ErrDisplaced = errors.New("another owner claimed the lane")

// errUnclaimed says so too: only another's snapshot has a claim trimmed.
var errUnclaimed = fmt.Errorf("%w: what it claimed with is trimmed already", ErrDisplaced)

// errSilent ends the life of a lane that may be another's by now.
var errSilent = errors.New("the log's coordinator hasn't been heard for too long")

// claim makes the lane ours, as the log sees it, and learns where its partitions
// begin. What others appended is ours to act on when it returns; what they append
// from then on counts for nothing.
func (l *Lane) claim(ctx context.Context) error {
	b := appendText([]byte{snapshotVersion, claimKind}, l.cfg.Owner)
	b = appendText(b, l.cfg.Address)
	offsets, err := l.cfg.Log.Append(ctx, []eventlog.Record{{Partition: l.partition(delivery.LanesTopic), Value: b}})
	if err != nil {
		return fmt.Errorf("claim the lane: %w", err)
	}
	l.journal.generation = uint64(offsets[0]) + 1
	l.watch.next, l.watch.moved = offsets[0]+1, make(chan struct{})
	l.run(l.watchClaims)

	topics := []string{delivery.HeldTopic, delivery.DeadTopic}
	for _, s := range l.sources {
		topics = append(topics, s.topic)
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, topic := range append([]string{delivery.AttemptsTopic}, topics...) {
		g.Go(func() error {
			start, _, err := l.cfg.Log.Bounds(ctx, l.partition(topic))
			mu.Lock()
			defer mu.Unlock()
			l.starts[topic] = start
			return err
		})
	}
	g.Go(func() error {
		// The journal's first.
		if err := l.mark(ctx, delivery.AttemptsTopic); err != nil {
			return err
		}
		return l.mark(ctx, topics...)
	})
	return g.Wait()
}

// mark closes the lane's partitions of the topics to owners before us.
func (l *Lane) mark(ctx context.Context, topics ...string) error {
	var markers []eventlog.Record
	for _, topic := range topics {
		markers = append(markers, eventlog.Record{Partition: l.partition(topic), Value: delivery.AppendMarker(nil, l.journal.generation)})
	}
	offsets, err := l.cfg.Log.Append(ctx, markers)
	if err != nil {
		return fmt.Errorf("append markers: %w", err)
	}
	for i, topic := range topics {
		l.journal.wrote[topic] = offsets[i] + 1
	}
	return nil
}

// watch knows up to where lanes has no claim higher than ours.
type watch struct {
	mu    sync.Mutex
	next  int64         // no higher one lies below
	moved chan struct{} // closed when next rises
}

// watchClaims follows the lane's partition of lanes until its life ends, or
// another claim ends it.
func (l *Lane) watchClaims(ctx context.Context) {
	tail, err := l.cfg.Log.Tail(ctx, l.partition(delivery.LanesTopic), l.watch.next)
	if errors.Is(err, eventlog.ErrTooOld) {
		err = errUnclaimed
	}
	if err != nil {
		l.fail(fmt.Errorf("tail %s: %w", delivery.LanesTopic, err))
		return
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if errors.Is(err, eventlog.ErrTooOld) {
			err = errUnclaimed
		}
		if err != nil {
			l.fail(fmt.Errorf("tail %s: %w", delivery.LanesTopic, err))
			return
		}
		for i := range records {
			d := &decoder{rest: records[i].Value}
			if version, kind := d.byte(), d.byte(); version == snapshotVersion && kind == claimKind {
				owner, address := d.text(), d.text()
				l.fail(fmt.Errorf("%w: %s at %s, at offset %d", ErrDisplaced, owner, address, records[i].Offset))
				return
			}
		}
		l.watch.reached(records[len(records)-1].Offset + 1)
	}
}

func (w *watch) reached(next int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = next
	close(w.moved)
	w.moved = make(chan struct{})
}

// until waits until it is known that no higher claim lies below the offset.
func (w *watch) until(ctx context.Context, offset int64) error {
	for {
		w.mu.Lock()
		next, moved := w.next, w.moved
		w.mu.Unlock()
		if next >= offset {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirm returns when it is known that the lane was ours after the call: what was
// found out before is its owner's word.
func (l *Lane) confirm(ctx context.Context) error {
	_, end, err := l.cfg.Log.Bounds(ctx, l.partition(delivery.LanesTopic))
	if err != nil {
		return fmt.Errorf("look for claims: %w", err)
	}
	return l.watch.until(ctx, end)
}

// marks are where a partition's markers stand, the oldest first: of a record that
// is read out of turn they tell whether it counts. One that has nothing between it
// and the next is left out.
type marks []mark

type mark struct {
	offset     int64
	generation uint64
}

func (m *marks) add(offset int64, generation uint64) {
	if n := len(*m); n > 0 && generation <= (*m)[n-1].generation {
		return
	} else if n > 0 && (*m)[n-1].offset == offset-1 {
		*m = (*m)[:n-1]
	}
	*m = append(*m, mark{offset, generation})
}

// count reports whether the record at the offset counts.
func (m marks) count(offset int64, generation uint64) bool {
	if generation == 0 {
		return true
	}
	for i := len(m) - 1; i >= 0; i-- {
		if m[i].offset < offset {
			return generation >= m[i].generation
		}
	}
	return true
}

// forget drops what isn't needed for records from the offset on.
func (m *marks) forget(below int64) {
	n := 0
	for n+1 < len(*m) && (*m)[n+1].offset < below {
		n++
	}
	*m = (*m)[n:]
}

func (m marks) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, k := range m {
		b = binary.AppendVarint(b, k.offset)
		b = binary.AppendUvarint(b, k.generation)
	}
	return b
}

func readMarks(d *decoder) marks {
	var m marks
	for range d.count() {
		m = append(m, mark{d.varint(), d.uvarint()})
		if d.err != nil {
			break
		}
	}
	return m
}
