package lane

import (
	"slices"
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
	again  again          // dead letters to be sent again
	replay *cursor        // of the replay that runs; nil: none does
	tries  map[int64]*try // by offset in held
	unread string         // what a later release's snapshot says of it

	// Of this life.
	org       *org
	inflight  int
	probes    int           // of them, those that are no retries
	takes     time.Duration // how long a request keeps its room, on average over the last few
	known     bool          // one has ended
	asked     time.Time     // until then: when the first was to be made
	overdue   int           // under way for too long to be a quick one's
	swift     bool          // what waits for it is gone in no time
	slowed    bool          // by its owner: it never is
	next      time.Time     // with a rate of its own: when the next request may begin
	queue     queue         // new deliveries that wait for room
	retries   queue
	queued    int              // bytes of both
	fresh     int              // of the queue, those that weren't read from held
	swept     bool             // in the sweep's ring
	lines     map[string]*line // by key, of an ordered endpoint
	lined     int              // jobs of them that wait behind others
	ripe      []*line          // have one in held whose turn it is
	alarm     time.Time
	disabling bool // the command is under way
	missed    int64
	missing   bool // the command is under way
	noticed   noticed
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
	l.join(t, ep.Org)
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

// waiting counts what waits in memory for room.
func (t *target) waiting() int { return len(t.queue.jobs) + len(t.retries.jobs) + t.lined }

// failing reports whether new deliveries wait: only retries that are due and one
// probe at the pace of the schedule go out.
func (t *target) failing() bool { return t.streak.count >= failingFrom }

// failingFrom is how many counted failures hold new deliveries.
const failingFrom = 2

func (t *target) probeAt() time.Time {
	return t.streak.last.Add(pace(t.hook, t.streak.count))
}

func (t *target) mayProbe(now time.Time) bool {
	return t.probes == 0 && len(t.queue.jobs) == 0 && !now.Before(t.probeAt())
}

// probesFirst reports whether a retry to an endpoint that fails waits for a probe:
// for its outcome, or until it is read, where one is due. A success takes the failures
// back. Were the retry first, a delivery that is refused at once would count alone
// each time, and disable an endpoint that takes all others.
func (l *Lane) probesFirst(t *target, now time.Time) bool {
	if t.probes > 0 {
		return true
	}
	if !t.mayProbe(now) || !(t.held.unfed() && l.wants(t, now)) && !t.mayUnparkNew() {
		return false
	}
	l.wantSweep(t)
	return true
}

// route decides where a delivery goes that is due: out, behind others in memory,
// or to held.
func (l *Lane) route(j *job, now time.Time) {
	t := j.target
	switch {
	case t.gone:
		l.drop(j, reasonDeleted)
	case j.delivery.Test && t.hook == nil:
		l.bury(j, "its endpoint's dialect isn't known here")
	case j.delivery.Test:
		t.queue.jobs = append([]*job{j}, t.queue.jobs...)
		l.weigh(j, j.bytes)
		l.pump(t)
	case l.cancelled(j.delivery):
		l.drop(j, reasonCancelled)
	case l.skipped(j):
		l.miss(j)
	case j.delivery.ByHand() && (!t.open() || t.spent() && j.counts()):
		l.drop(j, reasonByHand)
	case t.spent() && j.counts():
		l.shedSpent(now) // they are older
		l.hold(j)
	case !t.open(), t.failing() && !j.retry() && (t.behind() || !t.mayProbe(now)):
		l.hold(j)
	case !j.retry() && (t.behind() && !j.older() || t.ep.Options.Ordered): // behind those that are held
		l.hold(j)
	case l.glut(t, j.bytes):
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
// of. What a person asks for after that has no origin yet, or is of a replay.
func (l *Lane) skipped(j *job) bool {
	d := j.delivery
	byHand := !d.First && d.Origin.Topic == "" || d.Replay() != ""
	return !byHand && d.Event.Offset < j.target.ep.Skip
}

func (l *Lane) enqueue(j *job) {
	t := j.target
	if t.asked.IsZero() {
		t.asked = l.cfg.Clock.now()
	}
	l.weigh(j, j.bytes)
	if t.inOrder(j) && !t.enter(j) {
		return
	}
	q := t.queueOf(j)
	q.jobs = append(q.jobs, j)
}

func (t *target) queueOf(j *job) *queue {
	if j.retry() {
		return &t.retries
	}
	return &t.queue
}

func (l *Lane) unqueued(j *job) {
	l.weigh(j, -j.bytes)
	if j.fresh() {
		j.target.fresh--
	}
}

// weigh counts the bytes of deliveries that wait in memory.
func (l *Lane) weigh(j *job, bytes int) {
	t := j.target
	t.queued += bytes
	l.queued += bytes
	if t.swift {
		l.queuedSwift += bytes
	}
}

// glut reports whether an endpoint is owed more than is kept in memory for it.
// What doesn't drain in no time may fill half of the room at most.
func (l *Lane) glut(t *target, bytes int) bool {
	most := l.cfg.QueueBytes
	return t.waiting() >= l.cfg.Queue || t.queued+bytes > most/8 || l.queued+bytes > most ||
		!t.swift && l.queued-l.queuedSwift+bytes > most/2
}

// stays reports whether a retry that is due stays in its tier for a moment, and
// all behind it: there are so many at one instant that they had to go to held,
// and new deliveries behind them, although their endpoint takes them in no time.
// One that hasn't answered yet has a moment to show that; until tells when it is
// over. Zero: something that is under way ends before.
func (l *Lane) stays(j *job, now time.Time) (until time.Time, stays bool) {
	if j.delivery == nil || j.source.delay == 0 {
		return until, false
	}
	t := l.targets[j.delivery.Endpoint]
	if t == nil || !t.open() {
		return until, false
	}
	enough := len(t.retries.jobs) >= max(1, l.cfg.Queue/4)
	if t.known || t.slowed {
		return until, t.swift && (enough || l.queuedSwift > l.cfg.QueueBytes/4)
	}
	until = t.asked.Add(quick)
	return until, now.Before(until) && (enough || l.queued > l.cfg.QueueBytes/4)
}

// shed takes out of memory what may not go out any more: when the endpoint isn't
// open, all but tests; when it fails, or its org's quota is used up, all but retries, too. What was read from
// held is there still; the rest goes there.
func (l *Lane) shed(t *target) {
	l.shedQueue(t, &t.queue)
	if !t.open() {
		l.shedQueue(t, &t.retries)
	}
	if t.lined > 0 {
		for _, k := range t.lines {
			l.unline(t, k)
		}
	}
}

func (l *Lane) shedQueue(t *target, q *queue) {
	if len(q.jobs) == 0 {
		return
	}
	var kept []*job
	jobs := q.jobs
	q.jobs = nil
	var fed []int64 // of those that are left, read from held: what couldn't be made came back in any order
	for _, j := range jobs {
		if j.source == nil {
			fed = append(fed, j.offset)
		}
	}
	slices.Sort(fed)
	for _, j := range jobs {
		if j.delivery.Test {
			kept = append(kept, j)
			continue
		}
		if j.line != nil {
			l.shedHead(j)
			continue
		}
		l.unqueued(j)
		switch {
		case j.source == nil && len(t.lines) > 0:
			l.parkBack(j)
		case j.source == nil:
			if !t.held.giveBack(j.offset, fed) {
				l.hold(j)
			}
			at, _ := slices.BinarySearch(fed, j.offset)
			fed = slices.Delete(fed, at, at+1)
		case j.delivery.ByHand():
			l.drop(j, reasonByHand)
		default:
			l.hold(j)
		}
	}
	q.jobs = kept
}
