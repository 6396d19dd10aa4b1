package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// A log may be left for another. What its lanes owe is read there as an owner
// would, without becoming one, and appended here, with a snapshot to go on from:
//
//	snapshot, journal ─► what is owed ─► tier.*, held, dead of the other log
//	                          │
//	                          └─► places there ─► a snapshot: highest events, held, streaks
//
// Places in the one log mean nothing in the other: no offset is copied.

// Move says where to.
type Move struct {
	// To appends to a log that nobody uses yet, and keeps the records' times.
	To eventlog.Appender
	// Place gives the offset there of an event of here; 0 for those that are gone.
	Place func(env event.Environment, offset int64) int64
	// FanOut is the environment that is fanned out beside the lane; 0: none is.
	FanOut event.Environment
}

// Moved counts what a lane owed.
type Moved struct {
	First   int64 // first attempts, tests, dead letters on their way again
	Retries int64 // in the tiers that wait
	Held    int64
	Dead    int64
	Replays int64 // that go on there
	// FanOut is the first event, here, that may not have been fanned out; -1: the
	// environment is none of the lane's, or nobody ever began.
	FanOut int64
}

// movedTopic is the origin's in hops that were moved: it is no topic of lanes, so
// nothing there is finished by them.
const movedTopic = "moved"

// MoveLane brings what a lane owes into another log. cfg's log is only read, and
// nobody may be working on it.
func MoveLane(ctx context.Context, cfg Config, number int32, m Move) (Moved, error) {
	cfg.defaults()
	life, end := context.WithCancel(ctx)
	defer end()
	l := newLane(life, cfg, eventlog.Share{Partition: number, Ours: func() bool { return false }})
	v := &mover{Lane: l, Move: m}
	if err := v.run(ctx); err != nil {
		return v.moved, fmt.Errorf("move lane %d: %w", number, err)
	}
	return v.moved, nil
}

// mover is a lane that is moved.
type mover struct {
	*Lane
	Move
	moved Moved

	pending []eventlog.Record // to be appended next; all of one topic
	bytes   int
	ends    map[string]int64  // by topic: what was appended there
	after   map[*target]int64 // there: see held
}

func (v *mover) run(ctx context.Context) error {
	v.ends, v.after = make(map[string]int64), make(map[*target]int64)
	if err := v.stand(ctx); err != nil {
		return err
	}
	for _, s := range v.sources {
		if err := v.tier(ctx, s); err != nil {
			return err
		}
	}
	if err := v.held(ctx); err != nil {
		return err
	}
	if err := v.dead(ctx); err != nil {
		return err
	}
	return v.settle(ctx)
}

// stand learns where the lane stands.
func (v *mover) stand(ctx context.Context) error {
	l := v.Lane
	topics := []string{delivery.LanesTopic, delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic}
	for _, s := range l.sources {
		topics = append(topics, s.topic)
	}
	for _, topic := range topics {
		start, end, err := l.cfg.Log.Bounds(ctx, l.partition(topic))
		if err != nil {
			return err
		}
		l.starts[topic], l.journal.wrote[topic] = start, end
	}
	// As if we had claimed it now: whatever lies there is of owners before.
	l.journal.generation = uint64(l.journal.wrote[delivery.LanesTopic]) + 1
	jr, err := l.replay(ctx)
	if err == nil {
		err = v.fannedOut(ctx, jr.st)
	}
	if err != nil {
		return l.remedy(err)
	}
	if v.unknown() {
		return errors.New("its snapshot says what this release doesn't know: move it with the release that wrote it")
	}
	// Control is told nothing, and nothing is sent: that is for the next owner.
	l.winding = true
	for _, t := range l.targets {
		t.disabling = true
	}
	jr.sync()
	return nil
}

// fannedOut looks up where fan-out stands. What it didn't come to, and is gone, some
// endpoint may have been owed: as fan-out itself does, it takes an operator's word
// to go on without.
func (v *mover) fannedOut(ctx context.Context, st *state) error {
	if v.moved.FanOut = st.fanOut; v.FanOut == 0 {
		return nil
	}
	p := eventlog.Partition{Topic: v.FanOut.Topic()}
	start, end, err := v.cfg.Log.Bounds(ctx, p)
	if next := max(st.fanOut, 0); err == nil && !st.skip && (next < start || next > end) {
		err = fmt.Errorf("%w: %s has offsets %d to %d, and fan-out stands at %d", errPosition, p.Topic, start, end, next)
	}
	return err
}

// unknown reports whether a later release wrote what the snapshot says.
func (v *mover) unknown() bool {
	unknown := len(v.foreign) > 0 || v.unread != ""
	for _, s := range v.sources {
		unknown = unknown || s.unread != ""
	}
	for _, t := range v.targets {
		unknown = unknown || t.unread != ""
	}
	return unknown
}

// tier brings over the unfinished records of a tier.
func (v *mover) tier(ctx context.Context, s *source) error {
	from := min(s.window.next, s.read)
	err := v.scan(ctx, s.topic, from, v.journal.wrote[s.topic], func(r *eventlog.Record) error {
		var j job
		j.decode(s, r, 0)
		if !v.owed(s, &j) {
			return nil
		}
		if s.delay == 0 {
			v.moved.First++
		} else {
			v.moved.Retries++
		}
		hop := v.hop(j.delivery, j.place())
		hop.Outcome = delivery.Outcome{}
		at, err := v.add(ctx, s.topic, hop, time.Now())
		if j.older() {
			v.after[j.target] = at + 1
		}
		return err
	})
	if err != nil {
		return err
	}
	return v.flush(ctx)
}

// held brings over what is owed of held, with its age: what expired without anybody
// having looked isn't older than that, or the other log might give it up before its
// lane has counted it as missed.
func (v *mover) held(ctx context.Context) error {
	end := v.journal.wrote[delivery.HeldTopic]
	from := end
	for _, t := range v.targets {
		if t.held.count > 0 {
			from = min(from, t.held.next)
		}
	}
	oldest := time.Now().Add(-v.cfg.HeldFor)
	there := make(map[*target]held)
	tries := make(map[*target]map[int64]*try)
	err := v.scan(ctx, delivery.HeldTopic, from, end, func(r *eventlog.Record) error {
		t := v.targets[string(r.Key)]
		if t == nil || t.held.count == 0 || r.Offset < t.held.next || r.Offset > t.held.last {
			return nil
		}
		var j job
		j.decode(nil, r, 0)
		if j.marker != 0 || j.delivery != nil && !v.heldMarks.count(r.Offset, j.delivery.Generation) {
			return nil
		}
		if _, finished := t.held.done[r.Offset]; finished {
			return nil
		}
		if j.bad != nil {
			v.bury(&j, "the record can't be read: "+j.bad.Error())
			return nil
		}
		hop := v.hop(j.delivery, j.place())
		hop.Outcome = delivery.Outcome{}
		logged := r.Time
		if logged.Before(oldest) {
			logged = oldest
		}
		at, err := v.add(ctx, delivery.HeldTopic, hop, logged)
		h := there[t]
		h.after = v.after[t]
		h.add(at)
		there[t] = h
		if y := t.tries[r.Offset]; y != nil {
			if tries[t] == nil {
				tries[t] = make(map[int64]*try)
			}
			tries[t][at] = y
		}
		v.moved.Held++
		return err
	})
	if err != nil {
		return err
	}
	for _, t := range v.targets {
		t.held, t.tries = there[t], tries[t]
	}
	return v.flush(ctx)
}

// dead brings over the dead letters, with their age: an endpoint that is enabled
// is owed those since its first failure. Behind them come those that were made of
// records that can't be read.
func (v *mover) dead(ctx context.Context) error {
	var marks []*int64 // places of here, to become places of there, in their order
	for _, t := range v.targets {
		if t.again.active {
			marks = append(marks, &t.again.next)
			if t.again.end >= 0 {
				marks = append(marks, &t.again.end)
			}
		}
	}
	for _, p := range v.replays.places(true) {
		marks = append(marks, p.all()...)
		defer p.settle()
	}
	slices.SortFunc(marks, func(a, b *int64) int { return int(*a - *b) })
	reach := func(offset int64) {
		for len(marks) > 0 && *marks[0] <= offset {
			*marks[0] = v.ends[delivery.DeadTopic]
			marks = marks[1:]
		}
	}
	end := v.journal.wrote[delivery.DeadTopic]
	err := v.scan(ctx, delivery.DeadTopic, v.starts[delivery.DeadTopic], end, func(r *eventlog.Record) error {
		reach(r.Offset)
		d, err := delivery.DecodeDelivery(r.Value)
		if err != nil || !v.deadMarks.count(r.Offset, d.Generation) {
			return nil // a marker, or it never counted
		}
		v.moved.Dead++
		_, err = v.add(ctx, delivery.DeadTopic, v.hop(d, delivery.Place{Topic: r.Topic, Offset: r.Offset}), r.Time)
		return err
	})
	if err != nil {
		return err
	}
	reach(end)
	for _, r := range v.journal.next.records {
		if r.Topic == delivery.DeadTopic {
			v.moved.Dead++
			if _, err := v.addRecord(ctx, r, time.Now()); err != nil {
				return err
			}
		}
	}
	return v.flush(ctx)
}

// settle appends a snapshot that says what the lane knows, in places of there.
func (v *mover) settle(ctx context.Context) error {
	l := v.Lane
	l.journal.init()
	l.journal.generation = 0 // nobody claimed the lane there yet
	for topic := range l.starts {
		l.journal.wrote[topic] = v.ends[topic]
	}
	for _, s := range l.sources {
		s.window, s.read, s.fence = newWindow(0), v.ends[s.topic], 0
	}
	l.heldMarks, l.deadMarks = nil, nil
	for _, t := range l.targets {
		t.high = v.Place(t.ep.Environment, t.high+1) - 1
	}
	v.moved.Replays = int64(len(l.replays.running))
	for _, p := range l.replays.places(false) {
		for _, at := range p.all() {
			*at = v.Place(p.replay.Environment, *at)
		}
		p.settle()
	}
	if l.fanOut.next.Store(-1); v.FanOut != 0 && v.moved.FanOut >= 0 {
		l.fanOut.next.Store(v.Place(v.FanOut, v.moved.FanOut))
	}
	l.addSnapshot()
	for i := range l.journal.next.records {
		l.journal.next.records[i].Time = time.Now()
	}
	_, err := v.To.Append(ctx, l.journal.next.records)
	return err
}

// hop gives a delivery as it lies there: the same, and of no owner. What was asked
// for by a person had no origin and has none.
func (v *mover) hop(d *delivery.Delivery, at delivery.Place) *delivery.Delivery {
	hop := *d
	hop.Generation = 0
	if d.Origin.Topic != "" {
		at.Topic = movedTopic
		hop.Origin = at
	}
	if !d.Test {
		hop.Event.Offset = v.Place(d.Event.Environment, d.Event.Offset)
	}
	return &hop
}

// add appends a delivery's record, by and by, and gives the offset that it gets.
func (v *mover) add(ctx context.Context, topic string, d *delivery.Delivery, at time.Time) (int64, error) {
	return v.addRecord(ctx, eventlog.Record{Partition: v.partition(topic), Key: []byte(d.Endpoint), Value: d.AppendRecord(nil)}, at)
}

func (v *mover) addRecord(ctx context.Context, r eventlog.Record, at time.Time) (int64, error) {
	r.Time = at
	v.pending = append(v.pending, r)
	v.bytes += len(r.Key) + len(r.Value)
	offset := v.ends[r.Topic]
	v.ends[r.Topic]++
	if v.bytes >= moveBytes {
		return offset, v.flush(ctx)
	}
	return offset, nil
}

// moveBytes is about how much is appended at once.
const moveBytes = 1 << 20

// flush appends what is pending, and holds the offsets against those foretold.
func (v *mover) flush(ctx context.Context) error {
	if len(v.pending) == 0 {
		return nil
	}
	offsets, err := v.To.Append(ctx, v.pending)
	if err != nil {
		return err
	}
	topic := v.pending[0].Topic
	for i, have := range offsets {
		if want := v.ends[topic] - int64(len(offsets)-i); have != want {
			return fmt.Errorf("%s, partition %d, gave offset %d, not %d: somebody else appends there", topic, v.number, have, want)
		}
	}
	v.pending, v.bytes = v.pending[:0], 0
	return nil
}
