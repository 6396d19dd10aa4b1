package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
)

const (
	// tailBytes is about what a tail reads ahead: past it its partition is paused,
	// below half of it, read on.
	tailBytes = 2 << 20
	// fetchWait is how long a broker holds a fetch that has nothing to bring. A
	// partition that joins, or goes on, waits for the fetch under way to end.
	fetchWait = 100 * time.Millisecond
	// fetchBytes bounds an answer, and fetchPartBytes what one partition adds to it.
	fetchBytes     = 8 << 20
	fetchPartBytes = 1 << 20
)

// Tail implements eventlog.Reader.
func (l *Log) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	cctx, done, err := l.call(ctx, p)
	if err != nil {
		return nil, err
	}
	defer done()
	start, end, err := l.bounds(cctx, p)
	switch {
	case err != nil:
		return nil, l.callError(cctx, "following", p, err)
	case from < start:
		return nil, eventlog.ErrTooOld
	case from > end:
		return nil, eventlog.ErrPastEnd
	}
	t := &tail{log: l, p: p, next: from, news: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil, eventlog.ErrClosed
	}
	for _, layer := range l.layers {
		if layer.join(t) {
			return t, nil
		}
	}
	layer, err := l.newLayer()
	if err != nil {
		return nil, l.callError(ctx, "following", p, err)
	}
	l.layers = append(l.layers, layer)
	layer.join(t)
	return t, nil
}

// layer is a consumer that serves at most one tail of each partition. Only its
// goroutine adds and removes partitions, and only between two polls: so nothing
// that was polled for one tail is ever given to the next.
type layer struct {
	log    *Log
	client *kgo.Client

	mu     sync.Mutex
	tails  map[eventlog.Partition]*tail // who holds a partition; freed when it is removed
	todo   []func()
	closed bool
	stop   context.CancelFunc // ends the poll under way
	done   chan struct{}
}

func (l *Log) newLayer() (*layer, error) {
	client, err := l.client(
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartBytes),
	)
	if err != nil {
		return nil, err
	}
	y := &layer{log: l, client: client, tails: make(map[eventlog.Partition]*tail), done: make(chan struct{})}
	go y.run()
	return y, nil
}

// join makes the layer serve the tail, unless it serves another of its partition.
func (y *layer) join(t *tail) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.closed || y.tails[t.p] != nil {
		return false
	}
	y.tails[t.p] = t
	t.layer = y
	y.later(func() { y.add(t) })
	return true
}

// later has the layer's goroutine do something before it polls again; y.mu is
// held.
func (y *layer) later(do func()) {
	y.todo = append(y.todo, do)
	if y.stop != nil {
		y.stop()
	}
}

func (y *layer) add(t *tail) {
	t.mu.Lock()
	at := t.next
	t.mu.Unlock()
	y.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{
		y.log.name(t.p.Topic): {t.p.Number: kgo.NewOffset().At(at)},
	})
}

func (y *layer) partition(p eventlog.Partition) map[string][]int32 {
	return map[string][]int32{y.log.name(p.Topic): {p.Number}}
}

func (y *layer) remove(p eventlog.Partition) {
	y.client.RemoveConsumePartitions(y.partition(p))
	// A pause outlives the partition's stay.
	y.client.ResumeFetchPartitions(y.partition(p))
}

// leave takes the tail out; its partition is free for another when it is done.
func (y *layer) leave(t *tail) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.later(func() {
		y.remove(t.p)
		y.mu.Lock()
		defer y.mu.Unlock()
		delete(y.tails, t.p)
	})
}

func (y *layer) close() {
	y.mu.Lock()
	y.closed = true
	y.later(func() {})
	tails := make([]*tail, 0, len(y.tails))
	for _, t := range y.tails {
		tails = append(tails, t)
	}
	y.mu.Unlock()
	for _, t := range tails {
		t.end(eventlog.ErrClosed)
	}
	<-y.done
}

// run polls, and does between polls what others asked for.
func (y *layer) run() {
	defer close(y.done)
	defer y.client.Close()
	for {
		y.mu.Lock()
		todo := y.todo
		y.todo = nil
		if y.closed {
			y.mu.Unlock()
			return
		}
		ctx, stop := context.WithCancel(context.Background())
		y.stop = stop
		y.mu.Unlock()
		for _, do := range todo {
			do()
		}
		fetches := y.client.PollFetches(ctx)
		stop()
		fetches.EachPartition(y.deliver)
	}
}

// deliver hands what a partition brought to its tail.
func (y *layer) deliver(ftp kgo.FetchTopicPartition) {
	if ftp.Topic == "" {
		return // the poll was ended
	}
	p := eventlog.Partition{Topic: ftp.Topic[len(y.log.cfg.Prefix):], Number: ftp.Partition}
	y.mu.Lock()
	t := y.tails[p]
	y.mu.Unlock()
	if t == nil {
		return
	}
	if len(ftp.Records) > 0 && t.push(ftp.Records) {
		y.client.PauseFetchPartitions(y.partition(p))
		t.paused()
	}
	switch err := ftp.Err; {
	case err == nil, kerr.IsRetriable(err) && !errors.Is(err, kerr.OffsetOutOfRange):
	case errors.Is(err, kerr.OffsetOutOfRange):
		y.outOfRange(t)
	default:
		t.end(fmt.Errorf("partition %d of topic %s can't be followed: %w", p.Number, ftp.Topic, err))
	}
}

// outOfRange finds out what an offset is that the leader doesn't have: too old,
// past the end, or there again, and then it is read on from.
func (y *layer) outOfRange(t *tail) {
	if y.log.enter() != nil {
		return // closing ends the tail
	}
	go func() {
		defer y.log.wg.Done()
		t.mu.Lock()
		at := t.next
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(y.log.ctx, answerTimeout)
		defer cancel()
		err := y.log.outOfRange(ctx, t.p, at)
		if !errors.Is(err, errNotYet) {
			t.end(err)
			return
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.tails[t.p] == t {
			y.later(func() { y.remove(t.p); y.add(t) })
		}
	}()
}

// tail follows a partition: the layer's goroutine pushes, Next takes.
type tail struct {
	log   *Log
	p     eventlog.Partition
	layer *layer
	once  sync.Once

	mu      sync.Mutex
	next    int64 // what push expects
	records []eventlog.Record
	bytes   int
	err     error // after records
	closed  bool
	full    bool          // the partition is paused, or about to be
	pausing bool          // about to be: nobody resumes it before it is
	news    chan struct{} // capacity 1
}

// push adds records and tells whether to pause: that is so once, until Next has
// made room.
func (t *tail) push(records []*kgo.Record) (pause bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.err != nil {
		return false
	}
	for _, r := range records {
		if r.Offset < t.next {
			continue // read again after a pause
		}
		t.next = r.Offset + 1
		t.records = append(t.records, record(t.p, r))
		t.bytes += recordBytes + len(r.Key) + len(r.Value)
	}
	t.rouse()
	if t.bytes > tailBytes && !t.full {
		t.full, t.pausing = true, true
		return true
	}
	return false
}

// recordBytes is about what a record takes beside its bytes.
const recordBytes = 128

func (t *tail) rouse() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// paused is called when the partition has been paused: room may have been made
// before that.
func (t *tail) paused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pausing = false
	t.goOn()
}

// goOn resumes a paused partition when there is room; t.mu is held.
func (t *tail) goOn() {
	if t.full && !t.pausing && t.bytes <= tailBytes/2 {
		t.full = false
		t.layer.client.ResumeFetchPartitions(t.layer.partition(t.p))
	}
}

// end makes Next return the error once what was read is taken.
func (t *tail) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.rouse()
}

// Next implements eventlog.Tail.
func (t *tail) Next(ctx context.Context) ([]eventlog.Record, error) {
	for {
		records, err := t.take(ctx)
		if len(records) > 0 || err != nil {
			return records, err
		}
		select {
		case <-t.news:
		case <-ctx.Done():
		case <-t.log.ctx.Done():
		}
	}
}

func (t *tail) take(ctx context.Context) ([]eventlog.Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed, t.log.isClosed():
		return nil, eventlog.ErrClosed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(t.records) == 0:
		return nil, t.err
	}
	records := t.records
	t.records, t.bytes = nil, 0
	t.goOn()
	return records, nil
}

// Close implements eventlog.Tail.
func (t *tail) Close() {
	t.once.Do(func() {
		t.mu.Lock()
		t.closed = true
		t.records, t.bytes = nil, 0
		t.rouse()
		t.mu.Unlock()
		t.layer.leave(t)
	})
}
