package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"sluice/pkg/eventlog"
)

// request is one Append that waits. Who waits and the appender hand it to each
// other: until it is taken it may leave the queue, after that the appender reads
// records until group.built is closed and writes offsets until done is sent.
type request struct {
	records []eventlog.Record
	parts   []*partition
	offsets []int64
	bytes   int64
	yields  bool
	err     error
	group   *group // under queue.mu; nil until taken
	done    chan struct{}
}

// group is what one batch takes.
type group struct{ built chan struct{} }

// queue holds the requests that wait for the appender.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	closed  bool
	wake    chan struct{} // capacity 1
}

func (q *queue) put(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.waiting = append(q.waiting, r)
	q.rouse()
	return true
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// leave takes the request out if the appender hasn't taken it; else it says which
// group did.
func (q *queue) leave(r *request) *group {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.group != nil {
		return r.group
	}
	for i, w := range q.waiting {
		if w == r {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			break
		}
	}
	return nil
}

// take moves requests of up to groupBytes, but at least one, to group; more says
// that some are left, closed that no more will come.
func (q *queue) take(into []*request, g *group) (taken []*request, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var bytes int64
	n := 0
	for n < len(q.waiting) && (n == 0 || bytes+q.waiting[n].bytes <= groupBytes) {
		bytes += q.waiting[n].bytes
		q.waiting[n].group = g
		n++
	}
	taken = append(into, q.waiting[:n]...)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	if rest > 0 {
		q.rouse()
	}
	return taken, q.closed
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.rouse()
}

// Append implements eventlog.Appender. On an error of a record's own (too large,
// no such partition) nothing was appended.
func (l *Log) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if l.isClosed() {
		return nil, eventlog.ErrClosed
	}
	if err := l.failure(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, nil
	}
	r := l.request.Get().(*request)
	if err := l.prepare(r, records); err != nil {
		l.recycle(r)
		return nil, err
	}
	if err := l.admit(r.yields, r.bytes); err != nil {
		l.recycle(r)
		return nil, err
	}
	if err := l.room.Acquire(ctx, r.bytes); err != nil {
		l.recycle(r)
		return nil, err
	}
	bytes := r.bytes
	if !l.queue.put(r) {
		l.room.Release(bytes)
		l.recycle(r)
		return nil, eventlog.ErrClosed
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		g := l.queue.leave(r)
		if g == nil {
			l.room.Release(bytes)
			l.recycle(r)
			return nil, ctx.Err()
		}
		// It is being written. Our caller's bytes are read until the batch is built.
		<-g.built
		select {
		case <-r.done:
		default:
			return nil, fmt.Errorf("the append was under way, its outcome is unknown: %w", ctx.Err())
		}
	}
	offsets, err := r.offsets, r.err
	l.recycle(r)
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

func (l *Log) prepare(r *request, records []eventlog.Record) error {
	r.bytes, r.yields = 0, false
	for i := range records {
		rec := &records[i]
		p, err := l.partition(rec.Partition)
		if err != nil {
			return err
		}
		n := len(rec.Key) + len(rec.Value)
		if n > eventlog.MaxRecord {
			return fmt.Errorf("record %d of the append has %d bytes; the most is %d", i, n, eventlog.MaxRecord)
		}
		r.bytes += int64(n)
		r.yields = r.yields || p.yields
		r.parts = append(r.parts, p)
	}
	if r.bytes > eventlog.MaxAppend {
		return fmt.Errorf("the append has %d bytes; the most is %d", r.bytes, eventlog.MaxAppend)
	}
	// What each record takes beside its bytes counts, but an append of the largest
	// size must fit.
	r.bytes = min(r.bytes+int64(len(records))*(keyLen+valueHead), waitingBytes)
	r.records = records
	r.offsets = make([]int64, len(records))
	return nil
}

// recycle gives a request back that the appender is done with.
func (l *Log) recycle(r *request) {
	clear(r.parts)
	r.parts = r.parts[:0]
	r.records, r.offsets, r.err, r.group = nil, nil, nil, nil
	l.request.Put(r)
}

// appender is the one goroutine that writes records.
func (l *Log) appender() {
	var (
		taken   []*request
		touched []*partition
	)
	for range l.queue.wake {
		g := &group{built: make(chan struct{})}
		var closed bool
		taken, closed = l.queue.take(taken[:0], g)
		if len(taken) == 0 {
			if closed {
				return
			}
			continue
		}
		touched = l.write(taken, touched[:0], g)
		clear(taken)
		clear(touched)
		if closed {
			l.queue.rouse0()
		}
	}
}

// rouse0 wakes the appender once more, to see that its queue is empty.
func (q *queue) rouse0() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rouse()
}

// batchHead is the most that Pebble puts in front of a batch, and of each record in
// it. A batch that has to grow is copied.
const batchHead = 12

// write puts the requests into one batch, syncs it, and only then shows it to
// readers and answers.
func (l *Log) write(taken []*request, touched []*partition, g *group) []*partition {
	var total int64
	size := batchHead
	for _, r := range taken {
		total += r.bytes
		size += int(r.bytes) + len(r.records)*batchHead
	}
	batch := l.db.NewBatchWithSize(size)
	clock := now()
	err := l.failure()
	for _, r := range taken {
		if err != nil {
			break
		}
		for i := range r.records {
			rec, p := &r.records[i], r.parts[i]
			if p.next == p.end.Load() {
				touched = append(touched, p)
			}
			p.last = max(p.last, clock)
			op := batch.SetDeferred(keyLen, valueHead+len(rec.Key)+len(rec.Value))
			copy(op.Key, p.prefix[:])
			binary.BigEndian.PutUint64(op.Key[prefixLen:], uint64(p.next))
			binary.BigEndian.PutUint64(op.Value, uint64(p.last))
			binary.BigEndian.PutUint32(op.Value[8:], uint32(len(rec.Key)))
			copy(op.Value[valueHead:], rec.Key)
			copy(op.Value[valueHead+len(rec.Key):], rec.Value)
			if err = op.Finish(); err != nil {
				break
			}
			p.gather(rec, p.next, p.last)
			r.offsets[i] = p.next
			p.next++
		}
	}
	close(g.built)
	if err == nil {
		err = l.db.Apply(batch, pebble.Sync)
	}
	if err != nil {
		l.fail(err)
	}
	if err = l.failure(); err == nil {
		for _, p := range touched {
			p.publish()
		}
		// A failed batch may still be read by a flush, so it isn't given back.
		_ = batch.Close()
	}
	l.room.Release(total)
	for _, r := range taken {
		r.err = err
		r.done <- struct{}{}
	}
	return touched
}

// publish shows readers what the appender has made durable.
func (p *partition) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end.Store(p.next)
	p.recent.show()
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// newsAfter gives a channel that is closed when the end has passed the offset;
// nil when it has.
func (p *partition) newsAfter(offset int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end.Load() > offset {
		return nil
	}
	if p.news == nil {
		p.news = make(chan struct{})
	}
	return p.news
}
