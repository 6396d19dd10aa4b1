package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// FanOutStart is where fan-out goes on.
type FanOutStart struct {
	Next       int64                       // offset of the first event; -1: no snapshot says
	Buried     map[delivery.Place]struct{} // records that are with the dead letters already
	Generation uint64                      // of the lane's owner
	Skip       bool                        // what the log doesn't have any more is given up
}

// fanOut is what a lane knows of the fan-out that runs beside it.
type fanOut struct {
	next atomic.Int64  // -1: none runs here
	news chan struct{} // capacity 1: next has moved
	stop context.CancelFunc
	done chan struct{}
}

// progress notes fan-out's place, of which the next snapshot tells: nothing else
// may change in the lane for long, and then a restart would fan all out again.
func (f *fanOut) progress(next int64) {
	f.next.Store(next)
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// someEnvironment stands in dead letters of records that can't be read.
const someEnvironment = event.Sandbox

// Errors of positions that the log doesn't have any more, or never had. They
// stop a lane until an operator says from where it shall go on.
var errPosition = errors.New("a position is outside the log")

// takeOver claims the lane and learns where it stands: from the newest snapshot,
// and from what the owner before appended behind it, up to our markers.
//
//	snapshot ──► ends ─────── journal ───────► marker
//	             attempts   an outcome; delivered, or a test: its origin is finished
//	             tier.*     a hop: its origin is finished
//	             held       the same, and it is owed
//	             dead       the same
//
// An attempt's record alone doesn't finish a failed delivery: its hop may be
// missing, and then it is sent again.
func (l *Lane) takeOver(ctx context.Context) error {
	if err := l.claim(ctx); err != nil {
		return err
	}
	// Not before: what the owner before did for an endpoint that isn't known yet
	// would be forgotten as if it had been deleted.
	if err := l.cfg.Control.Fresh(ctx); err != nil {
		return err
	}
	jr, err := l.replay(ctx)
	if err != nil {
		return l.remedy(err)
	}
	jr.mark()
	jr.sync()
	for _, t := range l.targets {
		l.tellMissed(t) // what was skipped
		l.notice(t, nil)
	}

	st, now := jr.st, l.cfg.Clock.now()
	l.dirty, l.snapshot, l.aging = true, now, now
	level := slog.LevelInfo
	if len(l.targets) == 0 && len(jr.folded) == 0 {
		level = slog.LevelDebug // every lane of a new log would say so
	}
	l.log.Log(ctx, level, "lane taken over", "generation", l.journal.generation, "endpoints", len(l.targets), "outcomes", len(jr.folded), "snapshot", st.found)

	l.run(l.writer)
	l.sortElders()
	for _, s := range l.sources {
		from := min(s.window.next, s.read)
		s.at = from
		l.run(func(ctx context.Context) { l.follow(ctx, s, from) })
	}
	l.fanOut.next.Store(st.fanOut)
	if l.cfg.FanOut != nil {
		start := FanOutStart{Next: st.fanOut, Buried: jr.buried, Generation: l.journal.generation, Skip: st.skip}
		fan, stop := context.WithCancel(l.life)
		l.fanOut.stop, l.fanOut.done = stop, make(chan struct{})
		l.run(func(context.Context) {
			defer close(l.fanOut.done)
			if err := l.cfg.FanOut(fan, start, l.fanOut.progress); err != nil && fan.Err() == nil {
				l.fail(fmt.Errorf("fan out: %w", err))
			}
		})
	}
	return nil
}

// replay reads the newest snapshot and the journal, and marks as finished what is.
func (l *Lane) replay(ctx context.Context) (_ *replayed, err error) {
	st, err := l.loadSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if !st.found && errors.Is(err, errPosition) {
			err = fmt.Errorf("no snapshot that this release can read says where the lane stands, so it begins at 0: %w", err)
		}
	}()
	jr := &replayed{l: l, st: st, folded: make(map[made]struct{}), buried: make(map[delivery.Place]struct{}), sent: make(map[string]int64)}
	if err := jr.begin(); err != nil {
		return nil, err
	}
	if err := jr.heldPlaces(ctx); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		topic string
		each  func(*eventlog.Record, *delivery.Fence)
	}{{delivery.AttemptsTopic, jr.attempt}, {delivery.HeldTopic, jr.hop}, {delivery.DeadTopic, jr.hop}} {
		if err := jr.scan(ctx, step.topic, step.each); err != nil {
			return nil, err
		}
	}
	for _, s := range l.sources {
		if err := jr.scan(ctx, s.topic, jr.hop); err != nil {
			return nil, err
		}
	}
	jr.end()
	return jr, nil
}

// replayed is a reading of the journal.
type replayed struct {
	l        *Lane
	st       *state
	folded   map[made]struct{} // whose outcome was counted
	finished []origin
	buried   map[delivery.Place]struct{} // records with the dead letters
	bad      []job                       // records that can't be read
	badIn    []string                    // their topics
	sent     map[string]int64            // by endpoint: behind the newest dead letter that was sent again
}

// made names an attempt by where its delivery lay and when it began, in nanoseconds:
// what is tried again from where it lies was there at each of them.
type made struct {
	delivery.Place
	began int64
}

type origin struct {
	delivery.Place
	endpoint  string
	delivered bool
}

// begin takes what the snapshot says.
func (jr *replayed) begin() error {
	l, st := jr.l, jr.st
	for id, t := range st.targets {
		if ep := l.cfg.Control.Endpoint(id); ep != nil {
			jr.know(t, ep)
			t.tries = st.tries[id]
		}
	}
	for _, c := range st.replays {
		l.resume(c)
	}
	l.heldMarks, l.deadMarks, l.unread, l.foreign = st.heldMarks, st.deadMarks, st.unread, st.foreign
	for _, s := range l.sources {
		start, end := l.starts[s.topic], l.journal.wrote[s.topic]
		if k := st.tiers[s.topic]; k != nil {
			s.window, s.read, s.ruled, s.fence, s.unread = k.window, k.read, k.read, k.fence, k.unread
			delete(st.tiers, s.topic)
		} else {
			s.window = newWindow(0)
		}
		if st.skip {
			s.bring(l, start, end)
		}
		if from := min(s.window.next, s.read); from < start || from > end {
			return fmt.Errorf("%w: %s, partition %d, has offsets %d to %d, and the lane stands at %d", errPosition, s.topic, l.number, start, end, from)
		}
		s.trimmed = start
	}
	for _, s := range st.tiers {
		l.foreign = append(l.foreign, s.part)
	}
	return nil
}

func (jr *replayed) know(t *target, ep *endpoint.Endpoint) {
	t.ep = ep
	jr.l.join(t, ep.Org)
	if d := jr.l.cfg.Dialect(ep.Dialect); d != nil {
		t.hook = d.Webhook
	}
	jr.l.targets[t.id] = t
}

// target finds or makes what is known of an endpoint that was in that epoch.
func (jr *replayed) target(id string, epoch uint64) *target {
	if t := jr.l.targets[id]; t != nil {
		return t
	}
	ep := jr.l.cfg.Control.Endpoint(id)
	if ep == nil {
		return nil
	}
	if epoch == 0 {
		epoch = ep.Epoch
	}
	t := newTarget(id)
	t.seen, t.streak.epoch = epoch, epoch
	jr.know(t, ep)
	return t
}

// scan reads a topic from the snapshot's end to our marker.
func (jr *replayed) scan(ctx context.Context, topic string, each func(*eventlog.Record, *delivery.Fence)) error {
	l := jr.l
	from, start := jr.st.ends[topic], l.starts[topic]
	// Others write to dead as well, so its old end may be gone by age; but what was
	// appended since the snapshot can't be, if that isn't as old as that.
	if from < start && (jr.st.found || start == 0) && time.Since(jr.st.at) < delivery.Retention-time.Hour {
		from = start
	}
	if to := l.journal.wrote[topic]; jr.st.skip && (from < start || from > to) {
		l.skip(topic, from, min(start, to), 0) // the journal of what is skipped, too
		from = min(max(from, start), to)
	}
	// The snapshot's owner had its markers everywhere before it began.
	fence := delivery.Fence(jr.st.generation)
	return l.scan(ctx, topic, from, l.journal.wrote[topic], func(r *eventlog.Record) error {
		each(r, &fence)
		return nil
	})
}

func (jr *replayed) attempt(r *eventlog.Record, fence *delivery.Fence) {
	a, err := delivery.DecodeAttempt(r.Value)
	switch {
	case err != nil:
		if !jr.marker(r, fence) {
			jr.damaged(r, err)
		}
		return
	case !jr.l.counts(fence, a.Generation):
		jr.l.cfg.Metrics.fenced.Inc()
		return
	}
	if !a.Test {
		jr.fold(a.Endpoint, a.Origin, &a.Outcome)
	}
	if a.Origin.Topic == delivery.HeldTopic && a.Next.Topic == delivery.HeldTopic {
		if t := jr.target(a.Endpoint, a.Outcome.Epoch); t != nil && t.hook != nil {
			first := a.Outcome.Started
			if before := t.tries[a.Origin.Offset]; before != nil && !before.first.IsZero() {
				first = before.first
			}
			y := &try{attempts: a.Number, due: a.Next.Due, first: first}
			if !y.due.IsZero() {
				y.step = stepOf(t.hook.Schedule, a.Number, y.due.Sub(a.Outcome.Started.Add(a.Outcome.Took)))
			}
			t.noteTry(a.Origin.Offset, y)
		}
	}
	if a.Test || a.ByHand || a.Outcome.OK() {
		jr.finished = append(jr.finished, origin{a.Origin, a.Endpoint, a.Outcome.OK()})
	}
}

func (jr *replayed) hop(r *eventlog.Record, fence *delivery.Fence) {
	d, err := delivery.DecodeDelivery(r.Value)
	switch {
	case err != nil:
		if !jr.marker(r, fence) && r.Topic == delivery.HeldTopic {
			jr.damaged(r, err) // those of tiers are met again, those of dead are there
		}
		return
	case !jr.l.counts(fence, d.Generation):
		jr.l.cfg.Metrics.fenced.Inc()
		return
	}
	if r.Topic == delivery.HeldTopic {
		if t := jr.target(d.Endpoint, d.Outcome.Epoch); t != nil {
			if !t.behind() {
				t.held.after = jr.l.after(d.Origin, jr.l.sources[0].read)
			}
			t.held.add(r.Offset)
		}
	}
	if d.Origin.Topic == "" {
		return
	}
	if d.Outcome.Class != "" && !d.Test {
		jr.fold(d.Endpoint, d.Origin, &d.Outcome)
	}
	if d.Origin.Topic == delivery.DeadTopic {
		jr.sent[d.Endpoint] = max(jr.sent[d.Endpoint], d.Origin.Offset+1)
	}
	if r.Topic == delivery.DeadTopic {
		jr.buried[d.Origin] = struct{}{}
		if t := jr.l.targets[d.Endpoint]; t != nil && t.hook != nil && d.Reason == reasonExhausted {
			t.streak.spend(d, t.hook)
		}
	}
	jr.finished = append(jr.finished, origin{d.Origin, d.Endpoint, false})
}

// marker notes an owner's marker, and reports whether the record is one.
func (jr *replayed) marker(r *eventlog.Record, fence *delivery.Fence) bool {
	generation, err := delivery.DecodeMarker(r.Value)
	if err != nil {
		return false
	}
	counts := jr.l.counts(fence, generation)
	switch {
	case !counts:
	case r.Topic == delivery.HeldTopic:
		jr.l.heldMarks.add(r.Offset, generation)
	case r.Topic == delivery.DeadTopic:
		jr.l.deadMarks.add(r.Offset, generation)
	}
	return true
}

func (jr *replayed) damaged(r *eventlog.Record, err error) {
	jr.bad = append(jr.bad, job{offset: r.Offset, bad: err})
	jr.badIn = append(jr.badIn, r.Topic)
}

// fold counts an outcome, once.
func (jr *replayed) fold(id string, at delivery.Place, o *delivery.Outcome) {
	this := made{at, o.Started.UnixNano()}
	if _, done := jr.folded[this]; done {
		return
	}
	jr.folded[this] = struct{}{}
	t := jr.target(id, o.Epoch)
	if t == nil || t.hook == nil {
		return
	}
	if o.Epoch > t.streak.epoch {
		t.newEpoch(o.Epoch)
	}
	t.streak.fold(o, o.Started.Add(o.Took), t.hook)
}

// end finishes what the journal says is finished.
func (jr *replayed) end() {
	l := jr.l
	tiers := make(map[string]*source)
	for _, s := range l.sources {
		tiers[s.topic] = s
	}
	for _, o := range jr.finished {
		s, t := tiers[o.Topic], l.targets[o.endpoint]
		switch {
		case s != nil:
			if o.Offset < l.journal.wrote[s.topic] { // else it is no record's
				s.window.finish(o.Offset)
			}
		case t == nil:
		case o.Topic == delivery.HeldTopic:
			t.held.finished(o.Offset)
		default:
			l.replayed(t, &o)
		}
	}
	for _, t := range l.targets {
		t.forgetTries()
	}
	for i, j := range jr.bad {
		at := delivery.Place{Topic: jr.badIn[i], Offset: j.offset}
		if _, done := jr.buried[at]; !done {
			l.buryRecord(at, "the record can't be read: "+j.bad.Error())
		}
	}
}

// mark notes where our markers stand.
func (jr *replayed) mark() {
	l := jr.l
	owed := l.journal.wrote[delivery.HeldTopic]
	l.heldMarks.add(owed-1, l.journal.generation)
	l.deadMarks.add(l.journal.wrote[delivery.DeadTopic]-1, l.journal.generation)
	for _, t := range l.targets {
		if t.held.count > 0 {
			owed = min(owed, t.held.next)
		}
	}
	l.heldMarks.forget(owed)
	l.deadMarks.forget(l.starts[delivery.DeadTopic])
}

// sync acts on what control changed meanwhile.
func (jr *replayed) sync() {
	l := jr.l
	for _, r := range l.cfg.Control.Replaying() {
		if delivery.Lane(r.Endpoint) == l.number {
			l.target(r.Endpoint)
		}
	}
	now := l.cfg.Clock.now()
	for _, t := range l.targets {
		// The clock of an owner before may have been ahead: it would fail until then.
		if t.streak.last.After(now) {
			t.streak.last = now
		}
		l.sync(t, t.ep)
		if t.again.active {
			t.again.next = max(t.again.next, jr.sent[t.id])
			l.requeue.want(t)
		}
	}
}

// finished notes, before anything is fed, that the record at the offset is
// finished.
func (h *held) finished(offset int64) {
	if _, done := h.done[offset]; done || h.count == 0 || offset < h.next || offset > h.last {
		return
	}
	if h.done == nil {
		h.done = make(map[int64]struct{})
	}
	h.done[offset] = struct{}{}
	h.count--
	h.settle()
}

// scan reads a partition from an offset up to another.
func (l *Lane) scan(ctx context.Context, topic string, from, to int64, each func(*eventlog.Record) error) error {
	if start := l.starts[topic]; from < start || from > to {
		return fmt.Errorf("%w: %s, partition %d, has offsets %d to %d, and the lane knows it up to %d", errPosition, topic, l.number, start, to, from)
	}
	for from < to {
		records, err := l.cfg.Log.Read(ctx, l.partition(topic), from, 1<<20)
		if err != nil {
			return fmt.Errorf("read %s from %d: %w", topic, from, err)
		}
		for i := range records {
			if records[i].Offset >= to {
				return nil
			}
			if err := each(&records[i]); err != nil {
				return err
			}
		}
		if len(records) == 0 {
			return nil
		}
		from = records[len(records)-1].Offset + 1
	}
	return nil
}
