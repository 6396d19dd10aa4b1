package lane

import (
	"context"
	"errors"
	"fmt"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// A place that the log doesn't have any more stops a lane, and so does a snapshot
// that can't be read: what was owed there may be lost, and only an operator may say
// that it is. That word is a record in lanes:
//
//	┌─────────┬───┬───
//	│ version │ K │ what later releases add
//	└─────────┴───┴───
//
// It counts for the next owner, if no whole snapshot stands behind it: that owner
// goes on from what is left, and counts what isn't.
const skipKind = 'K'

// SkipRecord gives what an operator's word is, for the lane's partition of lanes.
func SkipRecord() []byte { return []byte{snapshotVersion, skipKind} }

// remedy adds to an error that stops the lane what an operator can do.
func (l *Lane) remedy(err error) error {
	if errors.Is(err, errPosition) || errors.Is(err, errSnapshot) {
		return fmt.Errorf("%w: what lies between is gone; `sluice lane skip %d` has the lane go on without it", err, l.number)
	}
	return err
}

// skip counts what is given up in a topic, and says so.
func (l *Lane) skip(topic string, from, to, count int64) {
	l.cfg.Metrics.skipped.Add(float64(count))
	l.log.Error("lane skipped what is lost", "topic", topic, "from", from, "to", to, "count", count)
}

// bring moves a tier's place to where the log has something.
func (s *source) bring(l *Lane, start, end int64) {
	from := min(s.window.next, s.read)
	switch {
	case from < start:
		var lost int64
		for at := s.window.next; at < start; at++ {
			if !s.window.done(at) {
				lost++
			}
		}
		l.skip(s.topic, from, start, lost)
		s.window.skip(s.window.next, start)
		s.read, s.ruled = max(s.read, start), max(s.ruled, start)
	case from > end:
		l.skip(s.topic, from, end, 0)
		s.window, s.read, s.ruled = newWindow(end), end, end
	}
}

// heldPlaces makes sure that what endpoints are owed in held, and their places among
// dead letters, are still there.
func (jr *replayed) heldPlaces(ctx context.Context) error {
	l := jr.l
	start, dead := l.starts[delivery.HeldTopic], l.starts[delivery.DeadTopic]
	lost := make(map[string]*target)
	for _, t := range l.targets {
		if t.again.active && t.again.next < dead && t.again.end >= 0 {
			t.again.next = dead // dead letters of that age have expired
		}
		switch {
		case t.held.count == 0 || t.held.next >= start:
		case !jr.st.skip:
			return fmt.Errorf("%w: %s, partition %d, begins at offset %d, and what endpoint %s is owed at %d", errPosition, delivery.HeldTopic, l.number, start, t.id, t.held.next)
		default:
			lost[t.id] = t
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return jr.recount(ctx, lost)
}

// recount counts what of held is left of what the endpoints were owed.
func (jr *replayed) recount(ctx context.Context, lost map[string]*target) error {
	l, start := jr.l, jr.l.starts[delivery.HeldTopic]
	left := make(map[string]int64)
	err := l.scan(ctx, delivery.HeldTopic, start, l.journal.wrote[delivery.HeldTopic], func(r *eventlog.Record) error {
		t := lost[string(r.Key)]
		if t == nil || r.Offset > t.held.last {
			return nil
		}
		d, err := delivery.DecodeDelivery(r.Value)
		if _, done := t.held.done[r.Offset]; !done && (err != nil || l.heldMarks.count(r.Offset, d.Generation)) {
			left[t.id]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, t := range lost {
		missing := max(0, t.held.count-left[id])
		l.skip(delivery.HeldTopic, t.held.next, start, missing)
		t.missed += missing
		t.held.next, t.held.fed, t.held.count = start, start, left[id]
	}
	return nil
}
