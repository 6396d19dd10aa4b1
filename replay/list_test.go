package replay

import (
	"context"
	"errors"
	"sort"
	"sync"
	"time"

	"sluice/pkg/eventlog"
)

// list is a log of one partition without anything that ticks, for tests in
// which days go by.
type list struct {
	slow time.Duration // what a Read takes

	mu      sync.Mutex
	records []eventlog.Record
	lookups int // calls of OffsetAt
	reading int
	most    int // Reads at a time
}

func (l *list) Append(_ context.Context, records []eventlog.Record) ([]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var offsets []int64
	for _, r := range records {
		r.Offset, r.Time = int64(len(l.records)), time.Now()
		l.records = append(l.records, r)
		offsets = append(offsets, r.Offset)
	}
	return offsets, nil
}

func (l *list) Bounds(context.Context, eventlog.Partition) (start, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 0, int64(len(l.records)), nil
}

func (l *list) Read(_ context.Context, _ eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	l.mu.Lock()
	l.reading++
	l.most = max(l.most, l.reading)
	l.mu.Unlock()
	time.Sleep(l.slow)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading--
	if from > int64(len(l.records)) {
		return nil, eventlog.ErrPastEnd
	}
	to := from
	for bytes := 0; to < int64(len(l.records)) && (to == from || bytes+len(l.records[to].Value) <= most); to++ {
		bytes += len(l.records[to].Value)
	}
	return l.records[from:to], nil
}

func (l *list) OffsetAt(_ context.Context, _ eventlog.Partition, t time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookups++
	return int64(sort.Search(len(l.records), func(i int) bool { return !l.records[i].Time.Before(t) })), nil
}

func (l *list) Tail(context.Context, eventlog.Partition, int64) (eventlog.Tail, error) {
	return nil, errors.ErrUnsupported
}
