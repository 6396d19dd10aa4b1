package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
)

// batchBytes is the most that the client puts into one batch: its default.
const batchBytes = 1000012

// Append implements eventlog.Appender.
func (l *Log) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.wg.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, nil
	}
	bytes, err := l.checkAppend(records)
	if err != nil {
		return nil, err
	}
	if now := l.buffered.Add(bytes); now > bufferBytes {
		l.buffered.Add(-bytes)
		return nil, fmt.Errorf("brokers take records too slowly: %d bytes wait already", now-bytes)
	}
	a := &appending{offsets: make([]int64, len(records)), done: make(chan struct{}), left: len(records)}
	within := answerTimeout
	if l.filling { // nobody waits for it, and all would have to be begun anew
		within = topicsTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
	defer cancel()
	// The client may hold records longer than our caller waits, so it gets bytes of
	// its own.
	arena := make([]byte, 0, bytes)
	copied := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		at := len(arena)
		arena = append(arena, b...)
		return arena[at:len(arena):len(arena)]
	}
	out, began := make([]kgo.Record, len(records)), time.Now()
	for i := range records {
		r := &records[i]
		out[i] = kgo.Record{Topic: l.name(r.Topic), Partition: r.Number, Key: copied(r.Key), Value: copied(r.Value)}
		if l.filling && r.Time.Before(began) { // else the client takes the clock's
			out[i].Timestamp = r.Time
		}
		// Not with our caller's context: when that of one record ends, the client fails
		// its neighbours in the partition, too.
		l.producer.Produce(context.Background(), &out[i], func(rec *kgo.Record, err error) {
			if err == nil && rec.Offset < 0 {
				err = errors.New("the broker has the record, but doesn't say where")
			}
			if a.landed(i, rec.Offset, err) {
				l.buffered.Add(-bytes)
			}
		})
	}
	select {
	case <-a.done:
		err = a.err
	case <-ctx.Done():
		select {
		case <-a.done:
			err = a.err
		default:
			err = fmt.Errorf("the append was under way, its outcome is unknown: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		return nil, l.callError(ctx, "appending to", records[0].Partition, err)
	}
	return a.offsets, nil
}

func (l *Log) checkAppend(records []eventlog.Record) (bytes int64, err error) {
	for i := range records {
		r := &records[i]
		if err := l.known(r.Partition); err != nil {
			return 0, err
		}
		n := len(r.Key) + len(r.Value)
		if n > eventlog.MaxRecord {
			return 0, fmt.Errorf("record %d of the append has %d bytes; the most is %d", i, n, eventlog.MaxRecord)
		}
		bytes += int64(n)
	}
	if bytes > eventlog.MaxAppend {
		return 0, fmt.Errorf("the append has %d bytes; the most is %d", bytes, eventlog.MaxAppend)
	}
	return bytes, nil
}

// appending is one Append under way.
type appending struct {
	mu      sync.Mutex
	offsets []int64
	left    int
	err     error // the first
	done    chan struct{}
}

// landed notes one record's outcome and tells whether it was the last.
func (a *appending) landed(i int, offset int64, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offsets[i] = offset
	if err != nil && a.err == nil {
		a.err = err
	}
	a.left--
	if a.left == 0 {
		close(a.done)
	}
	return a.left == 0
}
