package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// source is one tier's partition: deliveries that wait for the same delay, so
// they lie in the order in which they are due, and one timer on the head serves
// all.
type source struct {
	topic  string
	delay  time.Duration
	window window

	read   int64          // the next offset to be taken
	at     int64          // the same, while it is read again in a new life: below read until that is done
	ruled  int64          // from here on the rules for doubles and generations apply; below, the window decides
	fence  delivery.Fence // of what was taken
	unread string         // what a later release's snapshot says of it
	part   string         // of the snapshot, which it was read from

	jobs          []*job        // of the batch at hand; those that were taken are left out
	head          int           // the next of them
	more          chan struct{} // capacity 1: the lane asks for a batch
	asked         bool          // and it has not come
	kept, trimmed int64         // what the newest snapshot needs no more; what was trimmed

	marks []taken // of the first tier: when the log took what was taken

	due time.Time // of the head, when it must wait; zero: nothing waits here
}

// job is a delivery in a lane's hands.
type job struct {
	delivery *delivery.Delivery
	target   *target
	source   *source // nil: it was read from held, or for a replay
	replay   *cursor // it was read for; nil: for none
	offset   int64
	logged   time.Time
	bytes    int
	marker   uint64 // it is none, but an owner's marker of that generation
	bad      error  // the record isn't one
	raw      []byte // then: its bytes
	line     *line  // of its key, which it holds or waits in; nil: its endpoint isn't ordered
	tried    bool   // it was read from held and failed before
	step     int    // then: its attempt's place in the schedule; 0: as many as were made
	under    bool   // it has room in its endpoint, its org and the lane
	class    class  // then: whose room it has
	overdue  bool   // it has that of the slow because it takes so long
	taken    bool   // it has one of its org's quota, and isn't counted yet

	worker chan<- *job // makes the attempt
	result result      // of it
}

// retry reports whether the delivery comes from a tier that waits, or was asked for
// by a person: then it goes out at once.
func (j *job) retry() bool {
	return j.tried || j.source != nil && (j.source.delay > 0 || j.delivery.ByHand())
}

// fresh reports whether the delivery is new, and comes from where new ones come.
func (j *job) fresh() bool { return j.source != nil && !j.retry() && !j.delivery.Test }

// place is where the delivery's record lies: the origin of what follows from it.
func (j *job) place() delivery.Place {
	switch {
	case j.replay != nil:
		return delivery.Place{Topic: j.replay.replay.ID, Offset: j.offset}
	case j.source == nil:
		return delivery.Place{Topic: delivery.HeldTopic, Offset: j.offset}
	}
	return delivery.Place{Topic: j.source.topic, Offset: j.offset}
}

// batch is what a reader hands over at once.
type batch struct {
	source *source
	jobs   []*job // each by itself: one that waits for long keeps no other
}

func newSource(delay time.Duration) *source {
	return &source{topic: delivery.Tier(delay), delay: delay, more: make(chan struct{}, 1)}
}

// follow reads a tier for the lane: it has one batch ready ahead of what the lane
// asked for, and decodes it outside the lane's goroutine.
func (l *Lane) follow(ctx context.Context, s *source, from int64) {
	tail, err := l.cfg.Log.Tail(ctx, l.partition(s.topic), from)
	if err != nil {
		l.fail(fmt.Errorf("tail %s from %d: %w", s.topic, from, err))
		return
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			l.fail(fmt.Errorf("tail %s: %w", s.topic, err))
			return
		}
		if s.delay == 0 {
			l.shown.unread.Store(records[0].Time.UnixNano())
		}
		b := batch{source: s, jobs: make([]*job, len(records))}
		newest := int64(-1) // the control state that they need
		for i := range records {
			b.jobs[i] = new(job)
			b.jobs[i].decode(s, &records[i], l.journal.generation)
			if d := b.jobs[i].delivery; d != nil {
				newest = max(newest, d.Control)
			}
		}
		if err := l.known(ctx, newest); err != nil {
			l.fail(fmt.Errorf("wait for control state %d: %w", newest, err))
			return
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
		select {
		case l.batches <- b:
		case <-ctx.Done():
			return
		}
		if s.delay == 0 {
			l.shown.unread.Store(0)
		}
	}
}

// known waits until control's state is as new as a delivery needs it. Whoever
// appended it had that state, so it lies before control's end as of now; what lies
// behind that is nothing to wait for.
func (l *Lane) known(ctx context.Context, offset int64) error {
	for l.cfg.Control.Applied() < offset {
		err := l.cfg.Control.Fresh(ctx)
		if err == nil {
			return nil
		}
		if failed := l.cfg.Control.Healthy(); failed != nil {
			return failed
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// dueSlack is how far the clocks of a lane's owner and of the log may lie apart.
// A record that says it is due later than that after its tier's delay is taken
// then: all behind it would wait, too.
const dueSlack = time.Minute

// apart is how far the clocks of two machines that are kept in time may lie apart:
// what another owner wrote is due that much later, since never before its delay
// holds whoever sends it.
const apart = 50 * time.Millisecond

// decode makes the job of a record; s is nil for one of held. What the owner of
// that generation appended is due by its Clock, whatever the log's clock says.
func (j *job) decode(s *source, r *eventlog.Record, ours uint64) {
	d, err := delivery.DecodeDelivery(r.Value)
	var marker uint64
	switch {
	case err == nil && d.Endpoint == "":
		d, err = nil, delivery.ErrRecord
	case errors.Is(err, delivery.ErrKind):
		if g, none := delivery.DecodeMarker(r.Value); none == nil {
			marker, err = g, nil
		}
	}
	if d != nil && s != nil && (d.Generation == 0 || d.Generation != ours) {
		if latest := r.Time.Add(s.delay + dueSlack); d.Due.After(latest) {
			d.Due = latest
		}
		if !d.Due.IsZero() {
			d.Due = d.Due.Add(apart)
		}
	}
	*j = job{delivery: d, source: s, offset: r.Offset, logged: r.Time, bytes: len(r.Value) + 400, marker: marker, bad: err}
	if err != nil {
		j.raw = r.Value
	}
}

// batch puts what was read behind the head.
func (s *source) batch(b batch) { s.jobs, s.head, s.asked = b.jobs, 0, false }

// busy is how many bytes may wait for the log before nothing more is taken.
const busy = 256 << 10

// advance takes what is due from every tier, and asks for more where all is
// taken.
func (l *Lane) advance(now time.Time) {
	for _, s := range l.sources {
		s.due = time.Time{}
		for s.head < len(s.jobs) && l.journal.bytes < busy {
			j := s.jobs[s.head]
			if s.window.full(j.offset) {
				break // the head's completion wakes us
			}
			if j.delivery != nil && j.delivery.Due.After(now) && !s.window.done(j.offset) {
				s.due = j.delivery.Due
				break
			}
			if until, stays := l.stays(j, now); stays {
				s.due = until
				break
			}
			s.jobs[s.head] = nil
			s.head++
			l.take(s, j, now)
		}
		if s.delay == 0 {
			l.sweepAfter(s.at)
		}
		if s.head == len(s.jobs) && !s.asked {
			s.jobs, s.head = nil, 0
			s.asked = true
			s.more <- struct{}{} // it has room: what was asked for has come
		}
	}
}

// take decides on the next record of a tier.
func (l *Lane) take(s *source, j *job, now time.Time) {
	if !l.owed(s, j) {
		return
	}
	if s.delay > 0 {
		l.cfg.Metrics.late.Observe(now.Sub(j.delivery.Due).Seconds())
	}
	l.route(j, now)
}

// owed notes the next record of a tier, and finishes it if nobody is owed anything
// by it.
func (l *Lane) owed(s *source, j *job) bool {
	if s.delay == 0 {
		s.marked(j)
	}
	s.window.skip(s.read, j.offset) // where the log has holes
	s.at = j.offset + 1
	s.read = max(s.read, s.at)
	done := s.window.done(j.offset)
	if j.offset >= s.ruled && !l.counts(&s.fence, j.generation()) && !done {
		l.cfg.Metrics.fenced.Inc()
		l.finish(j)
		return false
	}
	if j.marker != 0 {
		if !done {
			l.finish(j)
		}
		return false
	}
	if j.bad != nil {
		if !done {
			l.bury(j, "the record can't be read: "+j.bad.Error())
		}
		return false
	}
	j.target = l.target(j.delivery.Endpoint)
	if j.target == nil {
		if !done {
			l.drop(j, reasonDeleted)
		}
		return false
	}
	// Fan-out appends some again after a crash: what it appends for an endpoint
	// rises, so whatever doesn't was there before. One that is finished counts too.
	if d := j.delivery; d.First && j.offset >= s.ruled {
		if d.Event.Offset <= j.target.high {
			if !done {
				l.cfg.Metrics.doubles.Inc()
				l.finish(j)
			}
			return false
		}
		j.target.high = d.Event.Offset
	}
	return !done
}

// counts reports whether the next record of a partition counts: one that an owner
// appended after the next had begun doesn't. One of an owner above us says nothing:
// if it is there, its claim ends our life, and if it isn't, nothing else may be
// fenced off by it.
func (l *Lane) counts(f *delivery.Fence, generation uint64) bool {
	return generation <= l.journal.generation && f.Counts(generation)
}

// generation is that of the owner that appended the record; 0: of none.
func (j *job) generation() uint64 {
	if j.delivery != nil {
		return j.delivery.Generation
	}
	return j.marker
}

const (
	reasonDeleted = "its endpoint was deleted"
	reasonByHand  = "it was asked for by hand, and its endpoint gets nothing now"
)

// drop ends a delivery that nobody is owed any more.
func (l *Lane) drop(j *job, why string) {
	l.cfg.Metrics.dropped.Inc()
	l.log.Info("delivery dropped", "delivery", j.delivery.ID, "endpoint", j.delivery.Endpoint, "reason", why)
	l.finish(j)
}

// untilNext gives the time until something is due that no message tells of. What
// is due and can't be begun, because a read or an append is under way, is begun
// when the message comes that tells of its end.
func (l *Lane) untilNext(now time.Time) time.Duration {
	next := now.Add(ageEvery)
	if !l.sweep.reading && l.journal.bytes < busy {
		next = l.aging
	}
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	for _, s := range l.sources {
		sooner(s.due)
	}
	if len(l.alarms) > 0 {
		sooner(l.alarms[0].at)
	}
	if l.dirty && !l.journal.writing {
		sooner(l.snapshot)
	}
	if len(l.young) > 0 && len(l.crowded) > 0 {
		sooner(l.young[0].at.Add(quick + time.Millisecond))
	}
	sooner(l.quotas.again)
	sooner(l.untilTold())
	if !l.idle {
		sooner(l.measured.Add(measureEvery))
	}
	return max(0, next.Sub(now))
}
