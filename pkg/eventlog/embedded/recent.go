package embedded

import (
	"sync/atomic"
	"time"
	"unsafe"

	"sluice/pkg/eventlog"
)

// recent is the newest records of a partition that somebody follows. Tails that
// keep up take them from here: to look for them in Pebble, in each of its levels
// and once for each tail, costs more than to copy them once.
//
//	appender ─► group ─ synced ─► records ─► tails, all the same ones
type recent struct {
	tails atomic.Int32 // that are open; where there are none, nothing is kept

	group      []eventlog.Record // the appender's: of the batch at hand
	groupBytes int

	records []eventlog.Record // under partition.mu: without a gap, up to the end
	bytes   int
}

// recentBytes bounds what one partition keeps. Batches larger than that are
// cheaper to read from Pebble.
const (
	recentBytes  = 32 << 10
	recordItself = int(unsafe.Sizeof(eventlog.Record{})) // beside its key and value
)

// gather copies a record that the appender gives the offset and time.
func (p *partition) gather(rec *eventlog.Record, offset, at int64) {
	r := &p.recent
	size := len(rec.Key) + len(rec.Value)
	r.groupBytes += size + recordItself
	if r.groupBytes > recentBytes || r.tails.Load() == 0 {
		r.group = r.group[:0]
		return
	}
	b := make([]byte, size)
	kept := eventlog.Record{Partition: p.Partition, Offset: offset, Time: time.UnixMilli(at).UTC(), Value: b[copy(b, rec.Key):]}
	copy(kept.Value, rec.Value)
	if k := len(rec.Key); k > 0 {
		kept.Key = b[:k:k]
	}
	r.group = append(r.group, kept)
}

// show adds what was gathered, which is everything up to the end or nothing. p.mu
// is held.
func (r *recent) show() {
	n := len(r.records)
	switch {
	case len(r.group) == 0:
		r.records, r.bytes = nil, 0
	case n > 0 && r.records[n-1].Offset == r.group[0].Offset-1 && r.bytes+r.groupBytes <= recentBytes:
		r.records, r.bytes = append(r.records, r.group...), r.bytes+r.groupBytes
	default: // full; or nobody followed for a moment, and something is missing in between
		r.records, r.bytes = append([]eventlog.Record(nil), r.group...), r.groupBytes
	}
	clear(r.group)
	r.group, r.groupBytes = r.group[:0], 0
}

// newest gives the records from the offset on, if they are kept.
func (p *partition) newest(from int64) []eventlog.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.recent
	if len(r.records) == 0 || from < r.records[0].Offset || from >= p.end.Load() || from < p.start.Load() {
		return nil
	}
	n := len(r.records)
	return r.records[from-r.records[0].Offset : n : n]
}

// follow and unfollow count the tails.
func (p *partition) follow() { p.recent.tails.Add(1) }

func (p *partition) unfollow() {
	if p.recent.tails.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent.records, p.recent.bytes = nil, 0
}
