package lane

import (
	"context"
	"fmt"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// journal appends for the lane, in groups: while one is on its way to the disk,
// the next gathers. What follows from a record being durable is done by the
// lane, in the order of the groups.
//
//	lane ── next ──► writer ── Append ──► log
//	  ▲                │
//	  └──── written ───┘      one group on its way, one that gathers
type journal struct {
	next    *group
	spare   *group
	bytes   int  // in next
	writing bool // a group is on its way
	begin   chan *group
	written chan *group

	generation uint64           // ours: of all that is appended
	wrote      map[string]int64 // by topic: behind the newest record of ours that we know to be durable
}

// group is what is appended at once.
type group struct {
	records []eventlog.Record
	entries []entry
	buf     []byte
	offsets []int64
	err     error
}

// entry is what follows when a group is durable. Members that are zero say
// nothing.
type entry struct {
	job    *job    // it is finished
	held   *target // the record is owed to it
	again  *target // all its dead letters below to are on the first tier
	to     int64
	try    *try // the job failed, and goes on from where it lies
	record int  // index of the record
	pieces int  // the record is the last of a snapshot of so many
}

func (jn *journal) init() {
	jn.next, jn.spare = &group{}, &group{}
	jn.begin, jn.written = make(chan *group, 1), make(chan *group, 1)
	jn.wrote = make(map[string]int64)
}

// delivery adds a delivery's record, and what follows from it.
func (jn *journal) delivery(p eventlog.Partition, d *delivery.Delivery, e entry) {
	g := jn.next
	from := len(g.buf)
	d.Generation = jn.generation
	g.buf = d.AppendRecord(g.buf)
	jn.add(p, d.Endpoint, g.buf[from:len(g.buf):len(g.buf)])
	if e != (entry{}) {
		jn.then(e)
	}
}

// attempt adds an attempt's record.
func (jn *journal) attempt(p eventlog.Partition, a *delivery.Attempt) {
	g := jn.next
	from := len(g.buf)
	a.Generation = jn.generation
	g.buf = a.AppendRecord(g.buf)
	jn.add(p, a.Endpoint, g.buf[from:len(g.buf):len(g.buf)])
}

func (jn *journal) add(p eventlog.Partition, key string, value []byte) {
	g := jn.next
	from := len(g.buf)
	g.buf = append(g.buf, key...)
	g.records = append(g.records, eventlog.Record{Partition: p, Key: g.buf[from:len(g.buf):len(g.buf)], Value: value})
	jn.bytes += len(key) + len(value)
}

// then adds what follows once all that was added is durable.
func (jn *journal) then(e entry) {
	e.record = len(jn.next.records) - 1
	jn.next.entries = append(jn.next.entries, e)
}

// write sends what gathered on its way, if nothing is, and a snapshot before it,
// if it is time for one. Between two groups all that the log has of us is known:
// only then can a snapshot say up to where it knows the log.
func (l *Lane) write(now time.Time) {
	jn := &l.journal
	if jn.writing {
		return
	}
	if l.dirty && !now.Before(l.snapshot) {
		l.addSnapshot()
		l.dirty, l.snapshot = false, now.Add(l.cfg.Checkpoint)
	}
	if len(jn.next.records) == 0 {
		if len(jn.next.entries) > 0 {
			panic("lane: what follows from a record has none")
		}
		return
	}
	jn.begin <- jn.next
	jn.next, jn.spare = jn.spare, nil
	jn.bytes = 0
	jn.writing = true
}

// writer appends groups until the lane's life ends. What it has begun it ends.
func (l *Lane) writer(ctx context.Context) {
	for {
		select {
		case g := <-l.journal.begin:
			g.offsets, g.err = l.cfg.Log.Append(context.WithoutCancel(ctx), g.records)
			l.journal.written <- g
		case <-ctx.Done():
			return
		}
	}
}

// durable does what follows from a group that is durable. After an error nobody
// knows what of it the log has: the next life reads it.
func (l *Lane) durable(g *group) error {
	jn := &l.journal
	jn.writing = false
	if g.err != nil {
		return fmt.Errorf("append %d records: %w", len(g.records), g.err)
	}
	for i := range g.records {
		jn.wrote[g.records[i].Topic] = g.offsets[i] + 1
	}
	for i := range g.entries {
		e := &g.entries[i]
		if e.held != nil {
			e.held.held.pending--
			e.held.held.add(g.offsets[e.record])
			l.wantSweep(e.held)
		}
		if e.job != nil {
			l.count(e.job)
			if e.try != nil {
				l.failed(e.job, e.try)
			} else {
				l.finish(e.job)
			}
		}
		if e.again != nil && e.again.again.active {
			l.againFrom(e.again, e.to)
		}
		if e.pieces > 0 {
			l.trim(g.offsets[e.record-e.pieces+1], g.offsets[e.record])
		}
	}
	clear(g.records)
	clear(g.entries)
	*g = group{records: g.records[:0], entries: g.entries[:0], buf: g.buf[:0]}
	if cap(g.buf) > 2*busy {
		g.buf = nil
	}
	jn.spare = g
	return nil
}
