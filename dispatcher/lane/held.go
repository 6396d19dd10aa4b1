package lane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// held is what an endpoint is owed that lies in the topic held: all its records
// from next on, but for those in done. They are fed to its queue in order, so
// what was fed and isn't finished, or is finished above one that isn't, is a
// short list.
//
// New deliveries wait behind them. What an owner had taken before it held anything,
// and hadn't finished, is older: the next sends that first.
//
//	next            fed                 last
//	 ▼               ▼                   ▼
//	─u──·─d──d──u──d─┬──·──o────o──·──o──o──     u under way or in the queue, d finished,
//	 └─── order ─────┘  └─ not yet fed ──┘       o owed, · others' records
type held struct {
	next, fed, last int64
	count           int64 // owed: u and o
	pending         int   // appends under way: they will be behind last
	after           int64 // of the first tier: what lies below was taken before any was held
	order           []fed
	done            map[int64]struct{} // finished from fed on, as the snapshot said
}

type fed struct {
	offset int64
	done   bool
}

// maxFed bounds order.
const maxFed = 1024

// behind reports whether new deliveries must wait behind held ones.
func (t *target) behind() bool { return t.held.count > 0 || t.held.pending > 0 }

// older reports whether a record of the first tier was taken when nothing was held.
func (j *job) older() bool {
	return j.source != nil && j.source.delay == 0 && j.offset < j.target.held.after
}

// after gives the offset in the first tier from which on records go behind one in
// held that follows from origin, and is the first there; taken is up to where the
// tier was taken then.
func (l *Lane) after(origin delivery.Place, taken int64) int64 {
	if origin.Topic == l.sources[0].topic {
		return origin.Offset + 1
	}
	return taken
}

// sortElders lists, when a life begins, whose held has to wait until the first tier
// was read again up to where it is older.
func (l *Lane) sortElders() {
	for _, t := range l.targets {
		// Our marker is read in any case: behind it nothing of owners before counts.
		t.held.after = min(t.held.after, l.journal.wrote[l.sources[0].topic])
		if t.held.count > 0 {
			l.elders = append(l.elders, t)
		}
	}
	slices.SortFunc(l.elders, func(a, b *target) int { return cmp.Compare(a.held.after, b.held.after) })
}

// sweepAfter lets those go on whose older records are taken.
func (l *Lane) sweepAfter(at int64) {
	for len(l.elders) > 0 && (l.elders[0].held.after <= at || l.elders[0].gone) {
		l.wantSweep(l.elders[0])
		l.elders = l.elders[1:]
	}
}

// add notes a record that was appended for the endpoint.
func (h *held) add(offset int64) {
	if h.count == 0 {
		*h = held{next: offset, fed: offset, pending: h.pending, after: h.after}
	}
	h.last = offset
	h.count++
}

// unfed reports whether there are records to be read.
func (h *held) unfed() bool { return h.count > 0 && h.fed <= h.last }

// feed notes that the record at the offset is read; false: it is finished.
func (h *held) feed(offset int64) bool {
	h.fed = offset + 1
	_, finished := h.done[offset]
	delete(h.done, offset)
	// One that is finished is kept, too: what lies before it may be given back.
	h.order = append(h.order, fed{offset: offset, done: finished})
	h.settle()
	return !finished
}

// pass notes that none is left between two offsets that wasn't fed. It stops
// behind last: what lies there may be its own, and not yet noted.
func (h *held) pass(from, to int64) {
	if to = min(to, h.last+1); h.count > 0 && from <= h.fed && h.fed < to {
		h.fed = to
		h.settle()
	}
}

// giveBack takes back that the record at the offset, and all behind it, were fed.
// wait has those in the queue, in order; false: others are under way, and it can't.
// Those that are finished, because they were missed, stay so.
func (h *held) giveBack(offset int64, wait []int64) bool {
	for i := range h.order {
		if h.order[i].offset < offset {
			continue
		}
		for _, f := range h.order[i:] {
			if _, waits := slices.BinarySearch(wait, f.offset); !f.done && !waits {
				return false
			}
		}
		for _, f := range h.order[i:] {
			if f.done {
				if h.done == nil {
					h.done = make(map[int64]struct{})
				}
				h.done[f.offset] = struct{}{}
			}
		}
		h.order = h.order[:i]
		h.fed = offset
		break
	}
	h.settle()
	return true
}

// finish notes that nothing more follows from the record at the offset.
func (h *held) finish(offset int64) {
	for i := range h.order {
		if h.order[i].offset == offset && !h.order[i].done {
			h.order[i].done = true
			h.count--
			break
		}
	}
	h.settle()
}

// settle moves next up.
func (h *held) settle() {
	n := 0
	for n < len(h.order) && h.order[n].done {
		n++
	}
	h.order = h.order[n:]
	h.next = h.fed
	if len(h.order) > 0 {
		h.next = h.order[0].offset
	}
	if h.count == 0 {
		h.order, h.done = nil, nil
	}
}

// hold appends a delivery that can't go now to held.
func (l *Lane) hold(j *job) {
	l.holdHop(j, j.delivery.Next(j.place()))
}

func (l *Lane) holdHop(j *job, hop *delivery.Delivery) {
	h := &j.target.held
	if !j.target.behind() {
		h.after = l.after(hop.Origin, l.sources[0].at)
	}
	h.pending++
	l.cfg.Metrics.held.Inc()
	l.journal.delivery(l.partition(delivery.HeldTopic), hop, entry{job: j, held: j.target})
}

// sweep reads held for the endpoints that can take more, in turn: one read at a
// time, in which whoever else can take more gets its own.
type sweep struct {
	ring    []*target
	reading bool
	for_    *target
	line    *line // for its next; nil: for what it hasn't read yet
	ageTo   int64 // records below have expired; 0: nobody looks
	ageAt   int64
}

// chunk is what was read of held or of dead.
type chunk struct {
	topic    string
	from, to int64 // what the records span
	records  []eventlog.Record
	limit    int64 // below it all have expired, or are to be sent again; -1: none was asked for
}

// How much of held or dead is read at a time; of a line that goes on, about as much as
// it takes up, or the few of each key that are due would have all be read for each.
const (
	chunkBytes = 256 << 10
	lineBytes  = 32 << 10
)

// wants reports whether the endpoint can take a record of held.
func (l *Lane) wants(t *target, now time.Time) bool {
	switch {
	case t.gone || !t.held.unfed() || !t.open() || t.spent() || t.fresh > 0 || len(t.held.order) >= maxFed || l.sources[0].at < t.held.after:
		return false
	case t.failing():
		return t.mayProbe(now)
	}
	return t.waiting() < l.cfg.Queue*3/4 && t.queued < l.cfg.QueueBytes*3/32
}

// hungry reports whether the endpoint can take a whole read of held. Who could take
// a few would have all else that was read thrown away, and read again for the next.
// One that fails takes a single one: all retries that wait, wait for that.
func (l *Lane) hungry(t *target) bool {
	return t.failing() || t.waiting() < max(1, l.cfg.Queue/4) && t.queued < l.cfg.QueueBytes/32
}

// wantSweep puts the endpoint in the sweep's ring if it is time to read for it.
func (l *Lane) wantSweep(t *target) {
	now := l.cfg.Clock.now()
	if !t.swept && (t.held.unfed() && l.hungry(t) && l.wants(t, now) || t.mayUnpark(now)) {
		t.swept = true
		l.sweep.ring = append(l.sweep.ring, t)
	}
}

// read begins what is to be read of held and dead, unless the log has enough to
// do.
func (l *Lane) read(now time.Time) {
	if l.journal.bytes >= busy {
		return
	}
	l.age(now)
	for !l.sweep.reading && len(l.sweep.ring) > 0 && l.queued < l.cfg.QueueBytes {
		t := l.sweep.ring[0]
		l.sweep.ring = l.sweep.ring[1:]
		t.swept = false
		now = l.cfg.Clock.now() // as pump has it
		if k := t.ripest(now); k != nil {
			l.sweep.for_, l.sweep.line = t, k
			l.readHeld(k.parked[0], lineBytes)
		} else if l.wants(t, now) {
			l.sweep.for_ = t
			l.readHeld(t.held.fed, chunkBytes)
		} else {
			l.pump(t) // its retries may have waited for what another's read has brought
		}
	}
	l.readDead()
}

func (l *Lane) readHeld(from int64, bytes int) {
	l.sweep.reading = true
	l.run(func(ctx context.Context) { l.readChunk(ctx, delivery.HeldTopic, from, -1, bytes) })
}

// readChunk reads about so many bytes for the lane and hands over what it read:
// nothing from the limit on, if there is one.
func (l *Lane) readChunk(ctx context.Context, topic string, from, limit int64, bytes int) {
	c := chunk{topic: topic, from: from, to: from, limit: limit}
	if limit < 0 || from < limit {
		records, err := l.cfg.Log.Read(ctx, l.partition(topic), from, bytes)
		if err != nil {
			l.fail(fmt.Errorf("read %s from %d: %w", topic, from, err))
			return
		}
		c.records = records
		if n := len(records); n > 0 {
			c.to = records[n-1].Offset + 1
		}
	}
	select {
	case l.chunks <- c:
	case <-ctx.Done():
	}
}

// chunk hands out what was read.
func (l *Lane) chunk(c chunk) {
	if c.topic == delivery.DeadTopic {
		l.deadChunk(c)
		return
	}
	l.sweep.reading = false
	if l.sweep.for_ == nil {
		l.ageChunk(c)
		return
	}
	now := l.cfg.Clock.now()
	first := l.sweep.for_
	l.sweep.for_ = nil
	if k := l.sweep.line; k != nil {
		l.sweep.line = nil
		l.unpark(first, k, c, now)
		l.wantSweep(first)
		l.pump(first)
		return
	}
	full := make(map[*target]bool) // who had to leave one out gets none behind it
	for i := range c.records {
		r := &c.records[i]
		t := l.targets[string(r.Key)]
		if t == nil || full[t] || t.held.count == 0 || t.held.fed < c.from || t.held.fed > r.Offset || r.Offset > t.held.last {
			continue
		}
		if !l.wants(t, now) {
			full[t] = true
			continue
		}
		l.feed(t, new(job), r, now)
	}
	if !full[first] {
		first.held.pass(c.from, c.to)
	}
	full[first] = true
	for t := range full {
		l.wantSweep(t)
		l.pump(t) // its retries may have waited for what isn't there
	}
}

// feed gives an endpoint its next record of held.
func (l *Lane) feed(t *target, j *job, r *eventlog.Record, now time.Time) {
	j.decode(nil, r, 0)
	if j.marker != 0 || j.delivery != nil && !l.heldMarks.count(r.Offset, j.delivery.Generation) {
		return // it was never owed
	}
	if !t.held.feed(r.Offset) {
		return
	}
	l.dirty = true
	j.target = t
	t.apply(j)
	switch {
	case j.bad != nil:
		l.bury(j, "the record can't be read: "+j.bad.Error())
	case now.Sub(r.Time) >= l.cfg.HeldFor, l.skipped(j):
		l.miss(j)
	case l.park(j, now):
	default:
		l.enqueue(j)
		l.pump(t)
	}
}

// miss gives up a delivery that is owed: it expired, or its owner wants none of
// it. Nothing is missed in silence: it is counted, on the endpoint too.
func (l *Lane) miss(j *job) {
	t := j.target
	t.missed++
	l.cfg.Metrics.missed.Inc()
	l.log.Info("delivery missed", "delivery", j.delivery.ID, "endpoint", t.id, "event", j.delivery.Event.ID)
	l.finish(j)
	l.tellMissed(t)
}

// ageEvery is how often what is held is looked at for its age.
const ageEvery = time.Minute

// age begins a look at what has been held for too long, also for endpoints that
// nothing is sent to.
func (l *Lane) age(now time.Time) {
	if l.sweep.reading || now.Before(l.aging) && l.sweep.ageTo == 0 {
		return
	}
	from := l.sweep.ageAt
	if l.sweep.ageTo == 0 {
		l.aging = now.Add(ageEvery)
		from = -1
		for _, t := range l.targets {
			switch {
			case t.held.unfed() && (from < 0 || t.held.fed < from):
				from = t.held.fed
			case len(t.lines) > 0 && from < 0:
				from = t.held.fed // what is parked needs no reading
			}
		}
		if from < 0 {
			return
		}
	}
	l.sweep.reading = true
	before := now.Add(-l.cfg.HeldFor)
	l.run(func(ctx context.Context) {
		limit, err := l.cfg.Log.OffsetAt(ctx, l.partition(delivery.HeldTopic), before)
		if err != nil {
			l.fail(fmt.Errorf("look for what expired in held: %w", err))
			return
		}
		l.readChunk(ctx, delivery.HeldTopic, from, limit, chunkBytes)
	})
}

// ageChunk gives up what has expired.
func (l *Lane) ageChunk(c chunk) {
	for i := range c.records {
		r := &c.records[i]
		t := l.targets[string(r.Key)]
		if r.Offset >= c.limit {
			break
		}
		if t == nil || t.held.count == 0 || t.held.fed < c.from || t.held.fed > r.Offset || r.Offset > t.held.last {
			continue
		}
		l.feed(t, new(job), r, l.cfg.Clock.now()) // older than it may be: missed
	}
	for _, t := range l.targets {
		t.held.pass(c.from, min(c.to, c.limit))
		l.expireParked(t, c.limit)
	}
	l.sweep.ageAt, l.sweep.ageTo = c.to, c.limit
	if c.to >= c.limit || len(c.records) == 0 {
		l.sweep.ageAt, l.sweep.ageTo = 0, 0
	}
}
