package lane

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// changes gathers the endpoints of a lane that control changed, and the orgs that have
// another plan. It is told from outside the lane's goroutine and never makes
// control wait.
type changes struct {
	lane int32
	news chan struct{} // capacity 1

	mu   sync.Mutex
	ids  map[string]struct{}
	orgs map[string]struct{}
}

func (c *changes) note(ch control.Change) {
	var id string
	switch {
	case ch.Endpoint != nil:
		id = ch.Endpoint.ID
	case ch.EndpointBefore != nil:
		id = ch.EndpointBefore.ID
	case ch.Replay != nil:
		id = ch.Replay.Endpoint
	}
	plan := ch.Org != nil && ch.OrgBefore != nil && ch.Org.Plan != ch.OrgBefore.Plan
	if !plan && (id == "" || delivery.Lane(id) != c.lane) {
		return
	}
	all := &c.ids
	if plan {
		all, id = &c.orgs, ch.Org.ID
	}
	c.mu.Lock()
	if *all == nil {
		*all = make(map[string]struct{})
	}
	(*all)[id] = struct{}{}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *changes) take() (ids, orgs map[string]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids, orgs = c.ids, c.orgs
	c.ids, c.orgs = nil, nil
	return ids, orgs
}

// syncChanged brings what the lane knows of endpoints up to control's state.
func (l *Lane) syncChanged() {
	ids, orgs := l.changes.take()
	for id := range orgs {
		l.replan(id)
	}
	for id := range ids {
		if t := l.targets[id]; t != nil {
			l.sync(t, l.cfg.Control.Endpoint(id))
		} else if len(l.cfg.Control.Replays(id)) > 0 {
			l.target(id)
		}
	}
}

// sync acts on an endpoint's newest state; nil: it was deleted.
func (l *Lane) sync(t *target, ep *endpoint.Endpoint) {
	if ep == nil {
		l.forget(t)
		return
	}
	if t.ep != nil && t.ep.Options.RatePerSecond != ep.Options.RatePerSecond {
		t.next = time.Time{} // what the old one says of the next is over
	}
	t.ep, t.hook = ep, nil
	if d := l.cfg.Dialect(ep.Dialect); d != nil {
		t.hook = d.Webhook
	}
	l.drains(t)
	if ep.Options.Ordered {
		t.lineUp()
	}
	if ep.Epoch > t.streak.epoch {
		t.newEpoch(ep.Epoch)
	}
	if ep.Epoch > t.seen {
		if ep.Status == endpoint.Active && !t.since.IsZero() {
			t.owe()
			l.requeue.want(t)
		}
		t.seen = ep.Epoch
		l.dirty, l.snapshot = true, l.cfg.Clock.now()
	}
	t.shut = ep.Status == endpoint.Disabled
	switch {
	case t.shut && t.since.IsZero():
		t.since = t.streak.first
	case ep.Status == endpoint.Active:
		t.since = time.Time{}
	}
	l.syncReplay(t)
	l.settle(t)
}

// newEpoch begins a new count of failures. What is known of the old one is kept
// as long as the endpoint isn't enabled: from then on its dead letters are owed.
func (t *target) newEpoch(epoch uint64) {
	t.shut = t.shut || t.streak.enough(t.hook)
	if t.shut && t.since.IsZero() {
		t.since = t.streak.first
	}
	t.streak = streak{epoch: epoch}
}

// forget drops all that a deleted endpoint is owed.
func (l *Lane) forget(t *target) {
	t.gone = true
	delete(l.targets, t.id)
	for _, j := range slices.Concat(t.queue.jobs, t.retries.jobs) {
		l.unqueued(j)
		l.drop(j, reasonDeleted)
	}
	t.queue.jobs, t.retries.jobs = nil, nil
	l.leave(t)
	t.held, t.again = held{}, again{}
	if t.replay != nil {
		l.dropCursor(t.replay)
	}
	for _, k := range t.lines {
		for _, j := range k.jobs {
			l.unqueued(j)
			l.drop(j, reasonDeleted)
		}
	}
	t.lines, t.ripe, t.tries = nil, nil, nil
	l.dirty = true
}

// command is one to control that the lane waits for.
type command struct {
	target *target
	missed int64   // it counted these; 0: it disabled the endpoint
	cursor *cursor // it told how far this is; nil: it's none of a replay
	told   control.Progress
	over   bool // and that it has ended
	err    error
}

// tryAgain is how long a lane waits before it repeats a command to control.
const tryAgain = time.Second

// disable has control disable an endpoint whose failures are enough, in the epoch
// in which they were counted.
func (l *Lane) disable(t *target) {
	if t.disabling || t.ep.Status != endpoint.Active || t.streak.epoch != t.ep.Epoch {
		return
	}
	t.disabling = true
	since := t.streak.first.UTC().Format(time.RFC3339)
	reason := fmt.Sprintf("%d failures in a row since %s", t.streak.count, since)
	switch {
	case t.streak.refused:
		reason = "it answered 410 Gone"
	case t.streak.spent:
		reason = "a delivery ran out of attempts, and nothing was delivered since " + since
	}
	l.log.Warn("endpoint is to be disabled", "endpoint", t.id, "reason", reason)
	cmd := &control.DisableEndpoint{Endpoint: t.id, Epoch: t.ep.Epoch, Reason: reason}
	l.run(func(ctx context.Context) { l.command(ctx, cmd, command{target: t}) })
}

// tellMissed has control count what an endpoint missed, one command at a time.
func (l *Lane) tellMissed(t *target) {
	if t.missing || t.missed == 0 || t.gone {
		return
	}
	t.missing = true
	cmd := &control.AddMissed{Endpoint: t.id, Count: t.missed}
	done := command{target: t, missed: t.missed}
	t.missed = 0
	l.run(func(ctx context.Context) { l.command(ctx, cmd, done) })
}

func (l *Lane) command(ctx context.Context, cmd control.Command, done command) {
	// What only seems to be ours may fail for reasons of its own.
	err := l.confirm(ctx)
	if err == nil {
		_, err = l.cfg.Control.Do(ctx, cmd)
	}
	if err != nil && !errors.Is(err, control.ErrConflict) && !errors.Is(err, control.ErrNotFound) {
		done.err = err
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
		}
	}
	select {
	case l.told <- done:
	case <-ctx.Done():
	}
}

// commandDone goes on after a command; one that failed is given again.
func (l *Lane) commandDone(c command) {
	t := c.target
	if c.err != nil {
		l.log.Error("control wasn't told", "endpoint", t.id, "error", c.err)
	}
	if c.cursor != nil {
		l.toldReplay(c)
		return
	}
	if c.missed > 0 {
		t.missing = false
		if c.err != nil {
			t.missed += c.missed
		}
		l.tellMissed(t)
		return
	}
	t.disabling = false
	if l.targets[t.id] == t {
		// Its state is newer now, or the command is given again.
		l.sync(t, l.cfg.Control.Endpoint(t.id))
	}
}

// again is a run over the dead letters of an endpoint that was enabled: those
// since its first failure go onto the first tier once more.
type again struct {
	active bool
	since  time.Time
	next   int64 // in dead; what lies below is done
	end    int64 // where dead ended when the run began; -1: not looked up
	round  int   // of this life: rises when it is enabled again meanwhile
}

// owe begins a run over the dead letters since the endpoint's first failure. One
// under way goes on from where it is, to an end that is looked up anew.
func (t *target) owe() {
	if !t.again.active {
		t.again = again{active: true, since: t.since, round: t.again.round}
	}
	t.again.end = -1
	t.again.round++
}

// requeue reads dead for one endpoint after the other.
type requeue struct {
	ring    []*target
	reading *target
	round   int // of its run
}

func (r *requeue) want(t *target) {
	if r.reading != t && !slices.Contains(r.ring, t) {
		r.ring = append(r.ring, t)
	}
}

func (l *Lane) readDead() {
	r := &l.requeue
	for r.reading == nil && len(r.ring) > 0 {
		t := r.ring[0]
		r.ring = r.ring[1:]
		if t.gone || !t.again.active {
			continue
		}
		r.reading, r.round = t, t.again.round
		a := t.again
		l.run(func(ctx context.Context) {
			p := l.partition(delivery.DeadTopic)
			if a.end < 0 {
				_, end, err := l.cfg.Log.Bounds(ctx, p)
				// A little earlier: the log's clock may not be ours.
				from, err2 := l.cfg.Log.OffsetAt(ctx, p, a.since.Add(-time.Second))
				if err = errors.Join(err, err2); err != nil {
					l.fail(fmt.Errorf("look for dead letters of %s: %w", t.id, err))
					return
				}
				a.end, a.next = end, max(a.next, from)
			}
			l.readChunk(ctx, delivery.DeadTopic, a.next, a.end, chunkBytes)
		})
	}
}

// deadChunk sends again what was read, and marks the place once that is durable.
func (l *Lane) deadChunk(c chunk) {
	t := l.requeue.reading
	l.requeue.reading = nil
	switch {
	case t.gone || !t.again.active:
		return
	case t.again.round != l.requeue.round: // it was enabled again: its end is another
		l.requeue.want(t)
		return
	}
	var jobs int
	for i := range c.records {
		r := &c.records[i]
		if r.Offset >= c.limit || string(r.Key) != t.id {
			continue
		}
		d, err := delivery.DecodeDelivery(r.Value)
		if err != nil || !l.deadMarks.count(r.Offset, d.Generation) || d.Endpoint != t.id || d.Reason != reasonExhausted {
			continue
		}
		hop := d.Next(delivery.Place{Topic: delivery.DeadTopic, Offset: r.Offset})
		hop.FirstFail = time.Time{}
		l.journal.delivery(l.partition(l.sources[0].topic), hop, entry{})
		jobs++
	}
	t.again.end = c.limit
	next := c.limit
	if len(c.records) > 0 {
		next = min(c.to, c.limit)
	}
	if jobs == 0 {
		l.againFrom(t, next)
		return
	}
	l.journal.then(entry{again: t, to: next})
	l.log.Info("dead letters are sent again", "endpoint", t.id, "count", jobs)
}

// againFrom goes on with a run over dead letters: all below next is durable.
func (l *Lane) againFrom(t *target, next int64) {
	l.dirty = true
	t.again.next = next
	if t.again.end >= 0 && next >= t.again.end {
		t.again = again{round: t.again.round}
		return
	}
	l.requeue.want(t)
}

// alarms wake endpoints at a time: those that fail, for a probe, and those whose
// rate allows the next request. The earliest comes first. An endpoint has one at a
// time, its earliest: when it rings it sets what else it needs.
type alarms []alarm

type alarm struct {
	at     time.Time
	target *target
	line   *line // one of its keys; nil: the endpoint's own alarm
}

func (l *Lane) setAlarm(t *target, at time.Time) {
	if t.alarm.IsZero() || at.Before(t.alarm) {
		t.alarm = at
		heap.Push(&l.alarms, alarm{at, t, nil})
	}
}

// ring wakes whom it is time for.
func (l *Lane) ring(now time.Time) {
	for len(l.alarms) > 0 && !l.alarms[0].at.After(now) {
		a := heap.Pop(&l.alarms).(alarm)
		t := a.target
		if k := a.line; k != nil && !t.gone {
			if k.head == nil && len(k.parked) > 0 {
				l.free(t, k)
			}
			continue
		}
		if t.gone || !t.alarm.Equal(a.at) {
			continue
		}
		t.alarm = time.Time{}
		if at := t.probeAt(); t.failing() && at.After(now) {
			l.setAlarm(t, at)
		}
		l.pump(t)
		l.wantSweep(t)
	}
}

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}
