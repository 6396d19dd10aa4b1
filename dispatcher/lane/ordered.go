package lane

import (
	"container/heap"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"sluice/pkg/delivery"
)

// All that an ordered endpoint is owed goes through held: there it lies in the
// order of the log, whoever owned the lane meanwhile. From there it gets one
// delivery of a key at a time, which holds its key until it is delivered or dead:
//
//	     ┌── head: in the queue, or under way
//	line ┼── jobs: behind it in memory, a few
//	     └── parked: behind those, known by their offsets in held
//
// One that fails doesn't go through the tiers, where later ones would overtake it:
// its next attempt is made from where it lies. What is known of it beyond its
// record is a try; tries are in snapshots, and in the records of attempts.
type line struct {
	name   string
	head   *job // busy
	jobs   []*job
	parked []int64
	due    time.Time // of the first parked; zero: at once
	ripe   bool      // in its target's ripe
}

// try is what became of a delivery that lies in held and failed.
type try struct {
	attempts int
	step     int // the place in the schedule of the next attempt
	due      time.Time
	first    time.Time // when the first of them failed
}

// maxLine bounds the jobs of a line that are read from held ahead of their turn.
const maxLine = 64

// inOrder reports whether the delivery has its place in its key's line. That is so
// of all that an ordered endpoint is owed, since it goes through held; what a
// person asks for doesn't, nor what was in a tier when its owner came to want order.
func (t *target) inOrder(j *job) bool {
	return j.source == nil && j.replay == nil && (t.ep.Options.Ordered || j.tried || t.lines[j.delivery.Event.Key] != nil)
}

// line finds or makes a key's line.
func (t *target) line(key string) *line {
	k := t.lines[key]
	if k == nil {
		if t.lines == nil {
			t.lines = make(map[string]*line)
		}
		k = &line{name: strings.Clone(key)}
		t.lines[k.name] = k
	}
	return k
}

// enter gives a delivery its place in its key's line, and reports whether it is
// its turn.
func (t *target) enter(j *job) bool {
	k := t.line(j.delivery.Event.Key)
	j.line = k
	if k.head != nil {
		k.jobs = append(k.jobs, j)
		t.lined++
		return false
	}
	k.head = j
	return true
}

// park reports whether a delivery that the sweep met stays in held until its turn,
// and notes its place then: others of its key come first, or it isn't due.
func (l *Lane) park(j *job, now time.Time) bool {
	t := j.target
	if !t.inOrder(j) {
		return false
	}
	k := t.line(j.delivery.Event.Key)
	if len(k.parked) == 0 && len(k.jobs) < maxLine && !j.delivery.Due.After(now) {
		return false
	}
	if len(k.parked) == 0 {
		k.due = j.delivery.Due
	}
	k.parked = append(k.parked, j.offset)
	if k.head == nil {
		l.free(t, k)
	}
	return true
}

// free has the next of a line go.
func (l *Lane) free(t *target, k *line) {
	k.head = nil
	switch {
	case t.gone || t.lines[k.name] != k:
	case len(k.jobs) > 0:
		j := k.jobs[0]
		k.jobs = k.jobs[1:]
		t.lined--
		k.head = j
		q := t.queueOf(j)
		q.jobs = append(q.jobs, j)
	case len(k.parked) == 0:
		delete(t.lines, k.name)
	case k.due.After(l.cfg.Clock.now()):
		heap.Push(&l.alarms, alarm{k.due, t, k})
	case !k.ripe:
		k.ripe = true
		t.ripe = append(t.ripe, k)
		l.wantSweep(t)
	}
}

// ripens reports whether the next of a line may be read: while its endpoint fails,
// only what was tried before, and a probe; of a quota that is used up, not even that.
func (t *target) ripens(k *line, now time.Time) bool {
	if len(k.parked) == 0 || !t.open() {
		return false
	}
	return t.tries[k.parked[0]] != nil || !t.spent() && (!t.failing() || t.mayProbe(now))
}

// mayUnpark reports whether a line's next may be read.
func (t *target) mayUnpark(now time.Time) bool {
	return slices.ContainsFunc(t.ripe, func(k *line) bool { return t.ripens(k, now) })
}

// mayUnparkNew reports whether a line's next may be read that wasn't tried before, if
// anything new may go.
func (t *target) mayUnparkNew() bool {
	return !t.spent() && slices.ContainsFunc(t.ripe, func(k *line) bool { return len(k.parked) > 0 && t.tries[k.parked[0]] == nil })
}

// ripest gives a line whose next is to be read; nil: there is none.
func (t *target) ripest(now time.Time) *line {
	t.ripe = slices.DeleteFunc(t.ripe, func(k *line) bool {
		k.ripe = k.head == nil && len(k.parked) > 0 && t.lines[k.name] == k
		return !k.ripe
	})
	for i, k := range t.ripe {
		if t.ripens(k, now) {
			t.ripe = slices.Delete(t.ripe, i, i+1)
			k.ripe = false
			return k
		}
	}
	return nil
}

// block keeps a delivery that failed where it is, in front of the rest of its key.
func (l *Lane) block(j *job, hop *delivery.Delivery) {
	l.journal.then(entry{job: j, try: &try{attempts: hop.Attempts, step: j.step, due: hop.Due, first: hop.FirstFail}})
	l.unline(j.target, j.line)
}

// unline takes out of memory what waits in a line behind its head: it is in held.
func (l *Lane) unline(t *target, k *line) {
	var parked []int64
	for _, w := range k.jobs {
		t.lined--
		l.unqueued(w)
		w.line = nil
		parked = append(parked, w.offset)
	}
	if k.jobs = nil; len(parked) > 0 {
		k.parked, k.due = append(parked, k.parked...), time.Time{}
	}
}

// shedHead takes out of memory one that had its turn and wasn't begun, and those
// behind it. Its queue is the caller's.
func (l *Lane) shedHead(j *job) {
	t, k := j.target, j.line
	l.unqueued(j)
	j.line = nil
	l.unline(t, k)
	k.parked, k.due = append([]int64{j.offset}, k.parked...), time.Time{}
	l.free(t, k)
}

// failed notes, once that is durable, that an attempt failed whose delivery goes on
// from where it lies.
func (l *Lane) failed(j *job, y *try) {
	t, k := j.target, j.line
	l.release(j)
	if t.gone {
		return
	}
	l.dirty = true
	j.line = nil
	t.noteTry(j.offset, y)
	k.parked = append([]int64{j.offset}, k.parked...)
	k.due = y.due
	l.free(t, k)
	l.pump(t)
	l.wantSweep(t)
}

// apply gives a delivery that is read from held what became of it.
func (t *target) apply(j *job) {
	d, y := j.delivery, t.tries[j.offset]
	if d == nil {
		return
	}
	if d.Due = (time.Time{}); y == nil {
		return
	}
	d.Attempts, d.FirstFail, d.Due = y.attempts, y.first, y.due
	j.tried, j.step = true, y.step
}

// unpark takes what was read for a line: its next, and a few behind it.
func (l *Lane) unpark(t *target, k *line, c chunk, now time.Time) {
	switch {
	case t.gone || k.head != nil || len(k.parked) == 0 || t.lines[k.name] != k:
		return
	case !t.ripens(k, now): // not any more
		l.free(t, k)
		return
	case len(c.records) == 0 || c.records[0].Offset != k.parked[0]: // the log doesn't have it any more
		l.missParked(t, k)
	}
	jobs := make([]job, maxLine)
	for i := range c.records {
		r := &c.records[i]
		if len(k.parked) == 0 || len(jobs) == 0 || r.Offset > k.parked[0] {
			break
		}
		if r.Offset != k.parked[0] {
			continue
		}
		j := &jobs[0]
		j.decode(nil, r, 0)
		j.target = t
		if t.apply(j); j.delivery != nil && j.delivery.Due.After(now) {
			k.due = j.delivery.Due
			break
		}
		jobs = jobs[1:]
		k.parked, k.due = k.parked[1:], time.Time{}
		switch {
		case j.bad != nil || j.delivery == nil:
			l.bury(j, "the record can't be read")
		case now.Sub(r.Time) >= l.cfg.HeldFor, l.skipped(j):
			l.miss(j)
		default:
			l.enqueue(j)
		}
	}
	if k.head == nil {
		l.free(t, k)
	}
	l.pump(t)
}

// missParked gives up the first that is parked of a line.
func (l *Lane) missParked(t *target, k *line) {
	at := k.parked[0]
	k.parked, k.due = k.parked[1:], time.Time{}
	delete(t.tries, at)
	t.held.finish(at)
	t.missed++
	l.dirty = true
	l.cfg.Metrics.missed.Inc()
	l.log.Info("delivery missed", "endpoint", t.id, "offset", at)
	l.tellMissed(t)
}

// expireParked gives up what is parked below the offset: it has been held for too
// long.
func (l *Lane) expireParked(t *target, below int64) {
	for _, k := range t.lines {
		before := len(k.parked)
		for len(k.parked) > 0 && k.parked[0] < below {
			l.missParked(t, k)
		}
		if k.head == nil && len(k.parked) < before {
			l.free(t, k)
		}
	}
}

// lineUp gives what was read from held before its endpoint came to be ordered its
// place in its key's line.
func (t *target) lineUp() {
	jobs := t.queue.jobs
	t.queue.jobs = nil
	for _, j := range jobs {
		if j.delivery.Test || j.line != nil || !t.inOrder(j) || t.enter(j) {
			t.queue.jobs = append(t.queue.jobs, j)
		}
	}
}

// parkBack takes out of memory one that isn't in a line although its endpoint has
// some: what lies behind it in held may be under way.
func (l *Lane) parkBack(j *job) {
	t := j.target
	k := t.line(j.delivery.Event.Key)
	i, _ := slices.BinarySearch(k.parked, j.offset)
	k.parked, k.due = slices.Insert(k.parked, i, j.offset), time.Time{}
	if k.head == nil {
		l.free(t, k)
	}
}

// appendTries adds what a snapshot keeps of a target's tries.
func (t *target) appendTries(b []byte) []byte {
	b = appendText(b, t.id)
	b = binary.AppendUvarint(b, uint64(len(t.tries)))
	for at, y := range t.tries {
		b = binary.AppendVarint(b, at)
		b = binary.AppendUvarint(b, uint64(y.attempts))
		b = binary.AppendUvarint(b, uint64(y.step))
		b = appendTime(appendTime(b, y.due), y.first)
	}
	return b
}

func readTries(d *decoder) (id string, tries map[int64]*try) {
	id = d.text()
	tries = make(map[int64]*try)
	for range d.count() {
		at := d.varint()
		tries[at] = &try{attempts: d.count(), step: d.count(), due: d.time(), first: d.time()}
		if d.err != nil {
			break
		}
	}
	return id, tries
}

// noteTry notes what the journal says of a delivery in held.
func (t *target) noteTry(at int64, y *try) {
	if t.tries == nil {
		t.tries = make(map[int64]*try)
	}
	if before := t.tries[at]; before == nil || before.attempts < y.attempts {
		t.tries[at] = y
	}
}

// forgetTries drops, at the beginning of a life, those of what isn't owed any more.
func (t *target) forgetTries() {
	for at := range t.tries {
		_, finished := t.held.done[at]
		if finished || t.held.count == 0 || at < t.held.next || at > t.held.last {
			delete(t.tries, at)
		}
	}
}

// stepOf gives the place in a schedule of the attempt that comes after a delay and
// is at least the n-th behind the first.
func stepOf(schedule []time.Duration, n int, delay time.Duration) int {
	for i := n; i < len(schedule); i++ {
		if schedule[i] >= delay-time.Second {
			return i
		}
	}
	return 0
}
