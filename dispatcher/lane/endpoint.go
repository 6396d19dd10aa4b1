package lane

import (
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// target is what a lane knows of one endpoint.
type target struct {
	id   string
	ep   *endpoint.Endpoint // as control has it
	hook *dialect.Webhook
	gone bool // deleted: what is still under way for it ends without a successor

	// Kept in snapshots.
	high   int64     // offset of the newest event that fan-out gave it
	seen   uint64    // the epoch up to which its enabling was acted upon
	shut   bool      // it wasn't active when last seen
	since  time.Time // its first failure, from when it was disabled until it is enabled
	streak streak
	held   held
	again  again  // dead letters to be sent again
	unread string // what a later release's snapshot says of it

	// Of this life.
	inflight  int
	queue     []*job // wait for room, in order
	queued    int    // bytes of them
	fresh     int    // of them, those that aren't retries and weren't read from held
	waits     bool   // in the lane's waiting
	swept     bool   // in the sweep's ring
	alarm     time.Time
	disabling bool // the command is under way
	missed    int64
	missing   bool // the command is under way
}

// target finds or makes what is known of an endpoint; nil: there is none.
func (l *Lane) target(id string) *target {
	if t := l.targets[id]; t != nil {
		return t
	}
	ep := l.cfg.Control.Endpoint(id)
	if ep == nil {
		return nil
	}
	t := newTarget(id)
	t.seen = ep.Epoch
	l.targets[id] = t
	l.sync(t, ep)
	return t
}

func newTarget(id string) *target { return &target{id: id, high: -1} }

// open reports whether the endpoint gets anything now.
func (t *target) open() bool {
	return !t.gone && t.ep.Status == endpoint.Active && t.hook != nil && !t.condemned()
}

// condemned reports whether its failures are enough to disable it, whether or
// not control has been told.
func (t *target) condemned() bool {
	return t.disabling || t.streak.enough(t.hook)
}

// failing reports whether new deliveries wait: only retries that are due and one
// probe at the pace of the schedule go out.
func (t *target) failing() bool { return t.streak.count >= failingFrom }

// failingFrom is how many counted failures hold new deliveries.
const failingFrom = 2

// probeGrace is how much later than a retry in its place a probe goes out, so
// that there is a probe only where there is no retry.
const probeGrace = time.Second

func (t *target) probeAt() time.Time {
	return t.streak.last.Add(pace(t.hook, t.streak.count) + probeGrace)
}

func (t *target) mayProbe(now time.Time) bool {
	return t.inflight == 0 && len(t.queue) == 0 && !now.Before(t.probeAt())
}

// route decides where a delivery goes that is due: out, behind others in memory,
// or to held.
func (l *Lane) route(j *job, now time.Time) {
	t := j.target
	switch {
	case t.gone:
		l.drop(j, "its endpoint was deleted")
	case j.delivery.Test && t.hook == nil:
		l.bury(j, "its endpoint's dialect isn't known here")
	case j.delivery.Test:
		t.queue = append([]*job{j}, t.queue...)
		t.queued += j.bytes
		l.queued += j.bytes
		l.pump(t)
	case l.skipped(j):
		l.miss(j)
	case j.delivery.ByHand() && !t.open():
		l.drop(j, "it was asked for by hand, and its endpoint gets nothing now")
	case !t.open(), t.failing() && !j.retry() && (t.behind() || !t.mayProbe(now)):
		l.hold(j)
	case !j.retry() && t.behind(): // behind those that are held
		l.hold(j)
	case len(t.queue) >= l.cfg.Queue, t.queued+j.bytes > l.cfg.QueueBytes/16, l.queued+j.bytes > l.cfg.QueueBytes:
		l.hold(j) // it is slower than what it is owed
	default:
		if !j.retry() {
			t.fresh++
		}
		l.enqueue(j)
		l.pump(t)
	}
}

// skipped reports whether the endpoint was enabled without what this is a part
// of. What a person asks for after that has no origin yet.
func (l *Lane) skipped(j *job) bool {
	d := j.delivery
	byHand := !d.First && d.Origin.Topic == ""
	return !byHand && d.Event.Offset < j.target.ep.Skip
}

func (l *Lane) enqueue(j *job) {
	t := j.target
	t.queue = append(t.queue, j)
	t.queued += j.bytes
	l.queued += j.bytes
}

// limit is how many requests the endpoint may have under way. As room in the lane
// gets scarce it shrinks for all, so that some hanging endpoints never take the
// last of it: whoever has nothing under way always finds room.
func (l *Lane) limit() int {
	return min(l.cfg.PerEndpoint, max(1, (l.cfg.PerLane-l.inflight)/4))
}

// pump sends what the endpoint has room for.
func (l *Lane) pump(t *target) {
	if l.winding {
		return
	}
	for len(t.queue) > 0 {
		j := t.queue[0]
		if l.inflight >= l.cfg.PerLane || t.inflight >= l.limit() {
			if t.inflight < l.cfg.PerEndpoint && !t.waits {
				t.waits = true
				l.waiting = append(l.waiting, t)
			}
			return
		}
		t.queue[0] = nil
		t.queue = t.queue[1:]
		l.unqueued(j)
		l.start(j)
	}
	t.queue = nil
}

func (l *Lane) unqueued(j *job) {
	t := j.target
	t.queued -= j.bytes
	l.queued -= j.bytes
	if j.source != nil && !j.retry() && !j.delivery.Test {
		t.fresh--
	}
}

// pumpWaiting gives room that has come free to those that wait for it, in turn.
func (l *Lane) pumpWaiting() {
	for n := len(l.waiting); n > 0 && l.inflight < l.cfg.PerLane; n-- {
		t := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		t.waits = false
		l.pump(t)
	}
	if len(l.waiting) == 0 {
		l.waiting = nil
	}
}

// shed takes out of memory what may not go out any more: when the endpoint isn't
// open, all but tests; when it fails, all but retries, too. What was read from
// held is there still; the rest goes there.
func (l *Lane) shed(t *target) {
	if len(t.queue) == 0 {
		return
	}
	open := t.open()
	var kept []*job
	for _, j := range t.queue {
		switch {
		case j.delivery.Test, open && j.retry():
			kept = append(kept, j)
			continue
		case j.source == nil:
			t.held.giveBack(j.offset)
			l.unqueued(j)
			continue
		}
		l.unqueued(j)
		if j.delivery.ByHand() {
			l.drop(j, "it was asked for by hand, and its endpoint gets nothing now")
			continue
		}
		l.hold(j)
	}
	t.queue = kept
}
