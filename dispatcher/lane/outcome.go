package lane

import (
	"context"
	"errors"
	"log/slog"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/usage"
)

// What follows from an attempt, in one append with its journal record:
//
//	delivered, or a test          nothing more
//	failed, asked for by hand     nothing more: all is as it was
//	failed                        the next tier of the schedule; Retry-After may choose a later one
//	failed, the last of them      dead
//	failed, and the endpoint      held: also the one whose failure disables it
//	  gets nothing more
//	failed, endpoint deleted      nothing more
//	can never be sent             dead
//	cut off                       nothing: it counts for nothing
//	couldn't be made              the same again, to where its endpoint is by then

// Reasons of dead letters. Only those that ran out of attempts are sent again
// when their endpoint is enabled.
const reasonExhausted = "out of attempts"

var errCut = errors.New("attempts are cut off although the lane goes on")

// endedAll handles an attempt that ended, and all others that have.
func (l *Lane) endedAll(j *job) error {
	for {
		if err := l.ended(j); err != nil {
			return err
		}
		select {
		case j = <-l.workers.ended:
		default:
			return nil
		}
	}
}

// ended handles an attempt that ended.
func (l *Lane) ended(j *job) error {
	t, d, res := j.target, j.delivery, &j.result
	l.workers.idle, j.worker = append(l.workers.idle, j.worker), nil
	switch {
	case res.silent && !l.winding:
		return errSilent
	case res.cut && l.workers.ctx.Err() == nil:
		return errCut
	case res.unmade && !l.winding:
		l.unmade(j)
		return nil
	case res.cut, res.silent, res.unmade:
		l.release(j)
		return nil
	case res.fatal != "":
		l.bury(j, res.fatal)
		l.settle(t)
		return nil
	}
	o := &res.outcome
	l.cfg.Metrics.attempt(o)
	l.answered(t, res.kept)
	if !d.Test {
		t.streak.fold(o, res.ended, res.hook)
		l.notice(t, o)
	}
	hop, next := l.next(j)
	if next.Topic == delivery.DeadTopic {
		t.streak.spend(hop, res.hook)
	}
	l.journal.attempt(l.partition(delivery.AttemptsTopic), &delivery.Attempt{
		Delivery: d.ID, Endpoint: d.Endpoint, EventID: d.Event.ID,
		Number: d.Attempts + 1, Test: d.Test, ByHand: d.ByHand(), Replay: d.Replay(), Outcome: *o, Origin: j.place(),
		Environment: d.Event.Environment, EventOffset: d.Event.Offset, Type: d.Event.Type, Next: next, Exchange: res.wire,
	})
	res.wire = delivery.Exchange{}
	l.logAttempt(j, next.Topic)
	l.hop(j, hop, next.Topic)
	l.settle(t)
	return nil
}

// unmade puts a delivery whose attempt couldn't be made in front of those that wait:
// the endpoint may be elsewhere by now, sign otherwise, or get nothing more.
func (l *Lane) unmade(j *job) {
	t := j.target
	l.release(j)
	switch {
	case t.gone:
		l.drop(j, reasonDeleted)
	case j.replay == nil:
		l.weigh(j, j.bytes)
		if j.fresh() {
			t.fresh++
		}
		q := t.queueOf(j)
		q.jobs = append([]*job{j}, q.jobs...)
		l.settle(t)
	case l.cancelled(j.delivery):
		l.drop(j, reasonCancelled)
	case t.open() && l.afford(j):
		l.start(j)
	default:
		l.hold(j)
	}
}

// next gives the next hop of a delivery whose attempt ended, and where it goes;
// nil: there is none.
func (l *Lane) next(j *job) (*delivery.Delivery, delivery.Next) {
	t, d, res := j.target, j.delivery, &j.result
	o := &res.outcome
	if o.OK() || d.Test || d.ByHand() || t.gone {
		return nil, delivery.Next{}
	}
	hop := d.Next(j.place())
	hop.Outcome = *o
	hop.Attempts++
	if hop.FirstFail.IsZero() {
		hop.FirstFail = o.Started
	}
	if !t.open() {
		j.step = 0
		return hop, delivery.Next{Topic: delivery.HeldTopic}
	}
	step, more := l.nextStep(j)
	if !more {
		hop.Reason = reasonExhausted
		return hop, delivery.Next{Topic: delivery.DeadTopic}
	}
	delay := res.hook.Schedule[step]
	hop.Due = res.ended.Add(delay)
	if j.line != nil {
		j.step = step
		return hop, delivery.Next{Topic: delivery.HeldTopic, Due: hop.Due}
	}
	return hop, delivery.Next{Topic: delivery.Tier(delay), Due: hop.Due}
}

// hop appends the next hop, behind the attempt's record; nil: there is none.
func (l *Lane) hop(j *job, hop *delivery.Delivery, topic string) {
	switch {
	case hop == nil:
		l.journal.then(entry{job: j})
	case topic == delivery.HeldTopic && j.line != nil:
		l.block(j, hop)
	case topic == delivery.HeldTopic:
		l.holdHop(j, hop)
	default:
		if topic == delivery.DeadTopic {
			l.cfg.Metrics.dead.Inc()
		}
		l.journal.delivery(l.partition(topic), hop, entry{job: j})
	}
}

// nextStep gives the next attempt's place in the schedule, or that there is none.
// Where in its schedule a delivery is follows from the tier it was in.
func (l *Lane) nextStep(j *job) (int, bool) {
	w, o := j.result.hook, &j.result.outcome
	next := position(j, w) + 1
	if next >= len(w.Schedule) {
		return 0, false
	}
	if !o.RetryAt.IsZero() && (o.Status == statusTooMany || o.Status == statusUnavailable) {
		wait := o.RetryAt.Sub(o.Started.Add(o.Took)) // both are the wall clock's
		for next < len(w.Schedule)-1 && w.Schedule[next] < wait {
			next++
		}
	}
	return next, true
}

// position gives the place in the schedule of the attempt that was made. One that
// was held after its last attempt begins its schedule anew.
func position(j *job, w *dialect.Webhook) int {
	if j.source != nil {
		for i, d := range w.Schedule {
			if d == j.source.delay {
				return i
			}
		}
	}
	if j.step > 0 {
		return min(j.step, len(w.Schedule)-1)
	}
	if j.delivery.Attempts < len(w.Schedule) {
		return j.delivery.Attempts
	}
	return 0
}

// settle does what a change of an endpoint's streak or of its room brings.
func (l *Lane) settle(t *target) {
	if t.gone {
		return
	}
	if t.streak.enough(t.hook) {
		l.disable(t)
	}
	if !t.open() || t.failing() || t.spent() {
		l.shed(t)
		if t.failing() {
			l.setAlarm(t, t.probeAt())
		}
	}
	l.pump(t)
	l.wantSweep(t)
}

// bury puts a delivery that can never be sent, or a record that is none, with
// the dead letters.
func (l *Lane) bury(j *job, reason string) {
	l.cfg.Metrics.dead.Inc()
	d := j.delivery
	if d == nil {
		d = &delivery.Delivery{Event: event.Event{Environment: someEnvironment}}
	}
	hop := d.Next(j.place())
	hop.Reason = reason
	if j.raw != nil {
		hop.Keep(j.raw) // a tier is trimmed, and a later release may know what it says
	}
	l.log.Error("delivery is dead", "delivery", hop.ID, "endpoint", hop.Endpoint, "topic", hop.Origin.Topic, "offset", hop.Origin.Offset, "reason", reason)
	l.journal.delivery(l.partition(delivery.DeadTopic), hop, entry{job: j})
}

// buryRecord puts a record of the journal that can't be read with the dead
// letters.
func (l *Lane) buryRecord(at delivery.Place, reason string) {
	l.cfg.Metrics.dead.Inc()
	l.log.Error("record is dead", "topic", at.Topic, "offset", at.Offset, "reason", reason)
	hop := delivery.Delivery{Event: event.Event{Environment: someEnvironment}, Origin: at, Reason: reason}
	l.journal.delivery(l.partition(delivery.DeadTopic), &hop, entry{})
}

// count adds an attempt whose outcome is durable to what its org used. Tests are
// for nothing, and so is a delivery that goes elsewhere without an attempt.
func (l *Lane) count(j *job) {
	res := &j.result
	if res.outcome.Class == "" || res.fatal != "" || j.delivery.Test {
		return
	}
	used := l.cfg.Usage.Of(res.ep.Org, res.ep.Environment)
	used.Add(usage.Attempts, 1)
	if j.counts() {
		used.Add(usage.Metered, 1)
		l.settled(j)
	}
	if res.outcome.OK() {
		used.Add(usage.Delivered, 1)
	}
}

// logAttempt writes the one line that an attempt gets.
func (l *Lane) logAttempt(j *job, next string) {
	d, o := j.delivery, &j.result.outcome
	level := slog.LevelInfo
	if o.OK() {
		level = slog.LevelDebug
	}
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.LogAttrs(context.Background(), level, "attempt",
		slog.String("delivery", d.ID), slog.String("endpoint", d.Endpoint), slog.String("event", d.Event.ID),
		slog.String("type", d.Event.Type), slog.Int("attempt", d.Attempts+1), slog.String("class", o.Name()),
		slog.Int("status", o.Status), slog.String("detail", o.Detail), slog.Duration("took", o.Took),
		slog.Bool("test", d.Test), slog.String("next", next), slog.Int("streak", j.target.streak.count))
}
