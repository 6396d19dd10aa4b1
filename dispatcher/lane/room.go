package lane

import (
	"math"
	"slices"
	"time"

	"sluice/pkg/usage"
)

// Room is what may be under way at once. A request to whoever answers within
// milliseconds gives its room back at once; one that hangs keeps it for half a
// minute. So the two have bounds of their own, by how fast an endpoint answered so
// far, and nobody can use up what others need, be it an endpoint or a whole org:
//
//	PerLane ┌────────────────────────────────────────────┬──────────────────┐
//	        │ to those that answer slowly, or aren't     │ only to those    │
//	        │ known yet: 3/4, and an org gets no more    │ that are quick,  │
//	        │ when it has half of what is left of that   │ an org 1/8 of all│
//	        └────────────────────────────────────────────┴──────────────────┘
//
// Whoever was quick may begin to hang: a request that takes longer than that has its
// room among the slow, and so has what its endpoint gets meanwhile.
//
// Of the quick, retries are a part, so that a million of them, due at one instant,
// leave first attempts their turn. An endpoint's own bound is PerEndpoint while it
// answers within a second, and shrinks to 1 as it takes longer; that is for new
// deliveries: retries go when they are due, up to PerEndpoint.
//
// There is no account over the lanes of a process: each has its own, so a
// process's bound, and an org's there, is the sum of those of its lanes.
const (
	quick = 250 * time.Millisecond // who takes longer on average keeps room for too long
	brisk = time.Second            // who takes longer on average gets less new at once
)

// org is what a lane knows of the endpoints of one org together.
type org struct {
	id                   string
	targets              []*target
	quick, retries, slow int                // under way: to quick ones, retries of them, to others
	waiting              [classes][]*target // for room that the org or the lane lacks, by class
	turn                 class              // which of them is first to get what comes free
	listed               bool               // in the lane's crowded
	most                 int                // deliveries in a month before more are held, as its plan says; 0: any number
	allowance            *usage.Allowance   // of them; nil: nobody counts
	spent                bool               // they were used up when the lane last looked
	taken                int                // of them, by what is under way
}

// class tells apart what has bounds of its own.
type class int

const (
	slowly  class = 1 << iota // the endpoint isn't known to be quick
	retried                   // they come behind first attempts
	classes                   // how many there are of both
)

// queue is what waits in memory to be sent to an endpoint, in order.
type queue struct {
	jobs  []*job
	waits bool // in its org's waiting
}

func (q *queue) pop() {
	q.jobs[0] = nil
	if q.jobs = q.jobs[1:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
}

// join has an endpoint be one of the org's.
func (l *Lane) join(t *target, id string) {
	o := l.orgs[id]
	if o == nil {
		o = &org{id: id, most: l.most(id), allowance: l.cfg.Quota.Of(id)}
		l.orgs[id] = o
	}
	t.org = o
	o.targets = append(o.targets, t)
}

func (l *Lane) leave(t *target) {
	o := t.org
	at, last := slices.Index(o.targets, t), len(o.targets)-1
	o.targets[at], o.targets[last] = o.targets[last], nil
	o.targets = o.targets[:last]
	l.forgetOrg(o)
}

// forgetOrg gives up what is known of an org that has no endpoints, once nothing of
// it is under way.
func (l *Lane) forgetOrg(o *org) {
	if len(o.targets) == 0 && o.quick == 0 && o.slow == 0 {
		delete(l.orgs, o.id)
	}
}

// atOnce is how many seconds' worth of requests may go at once to an endpoint
// that asked for a rate: the rest comes evenly behind.
const atOnce = 10 * time.Millisecond

// began notes that a request begins, for the rate that the endpoint asked for. It
// is of this life: a lane that moves begins with one request.
func (t *target) began(now time.Time) {
	if rate := t.ep.Options.RatePerSecond; rate > 0 {
		if earliest := now.Add(-atOnce); t.next.Before(earliest) {
			t.next = earliest
		}
		t.next = t.next.Add(time.Duration(min(float64(time.Second)/rate, float64(math.MaxInt64/2))))
	}
}

// quick reports whether the endpoint is known to answer fast, and does.
func (t *target) quick() bool { return t.known && t.takes <= quick && t.overdue == 0 }

// answered notes how long a request kept its room.
func (l *Lane) answered(t *target, took time.Duration) {
	if t.known {
		t.takes += (took - t.takes) / 4
	} else {
		t.known, t.takes = true, took
	}
	l.drains(t)
}

// drains finds out whether what waits for the endpoint in memory is gone in no
// time: it is so fast, and its owner hasn't slowed it down.
func (l *Lane) drains(t *target) {
	o := &t.ep.Options
	was := t.swift
	t.slowed = o.MaxInFlight > 0 || o.RatePerSecond > 0 || o.Ordered
	t.swift = t.known && t.takes <= quick/5 && !t.slowed
	switch {
	case t.swift && !was:
		l.queuedSwift += t.queued
	case was && !t.swift:
		l.queuedSwift -= t.queued
	}
}

// limit is how many requests the endpoint itself may have under way before it
// gets one more.
func (l *Lane) limit(t *target, retry bool) int {
	most := l.cfg.PerEndpoint
	if own := t.ep.Options.MaxInFlight; own > 0 {
		most = min(most, own)
	}
	switch {
	case retry:
		return most
	case !t.known:
		return max(1, most/4)
	case t.takes <= brisk:
		return most
	}
	return max(1, int(int64(most)*int64(brisk)/int64(t.takes)))
}

// room reports whether the org and the lane have room for one more request to the
// endpoint. As it gets scarce, those that have some already get less.
func (l *Lane) room(t *target, retry bool) bool {
	all, o := l.cfg.PerLane, t.org
	if l.inflight >= all {
		return false
	}
	if t.quick() {
		return o.quick < max(1, all/8) && (!retry || o.retries < max(1, all/16) && l.retries < max(1, all/8)) &&
			(t.inflight == 0 || t.inflight < (all-l.inflight)/4)
	}
	left := all*3/4 - l.slow
	return left > 0 && (o.slow == 0 || o.slow < left/2) && (t.inflight == 0 || t.inflight < (left/2-o.slow)/4)
}

// occupy gives a delivery its room.
func (l *Lane) occupy(j *job, now time.Time) {
	t := j.target
	j.under, j.class = true, t.class(j.retry())
	t.inflight++
	l.inflight++
	if j.class&retried == 0 {
		t.probes++
	}
	l.share(j, j.class, 1)
	if j.class&slowly == 0 {
		l.young = append(l.young, young{j, now})
	}
}

// young is a request that has its room among those of the quick, or had, and when it
// began.
type young struct {
	job *job
	at  time.Time
}

// overdue moves requests to the slow that have been under way for too long to be a
// quick one's: others of their org wait for the room.
func (l *Lane) overdue(now time.Time) {
	for len(l.young) > 0 && now.Sub(l.young[0].at) > quick {
		j := l.young[0].job
		l.young[0] = young{}
		l.young = l.young[1:]
		if !j.under || j.class&slowly != 0 {
			continue
		}
		l.share(j, j.class|slowly, 1)
		l.share(j, j.class, -1)
		j.class |= slowly
		j.overdue, l.freed = true, true
		j.target.overdue++
	}
}

// release gives the room of an attempt back. It is kept until the outcome is
// durable: a kill repeats what is under way, so that is what the bound must bound.
func (l *Lane) release(j *job) {
	if !j.under {
		return
	}
	j.under, l.freed = false, true
	j.target.inflight--
	l.inflight--
	if j.class&retried == 0 {
		j.target.probes--
	}
	l.refund(j)
	l.share(j, j.class, -1)
	if j.overdue {
		j.overdue = false
		j.target.overdue--
	}
}

func (l *Lane) share(j *job, of class, n int) {
	o := j.target.org
	if j.replay != nil {
		j.replay.inflight += n
		l.replays.inflight[of&slowly] += n
	}
	switch {
	case of&slowly != 0:
		o.slow += n
		l.slow += n
	case of&retried != 0:
		o.retries += n
		l.retries += n
		fallthrough
	default:
		o.quick += n
	}
	l.forgetOrg(o)
}

// pump sends what the endpoint has room for: new ones and retries in turn.
func (l *Lane) pump(t *target) {
	if l.winding {
		return
	}
	for sent := true; sent; {
		sent = l.sendNext(t, &t.queue, false)
		sent = l.sendNext(t, &t.retries, false) || sent
	}
}

// sendNext sends the next of a queue of the endpoint's, and reports whether there
// was one and room for it. Where others of the org wait for the same it waits
// behind them, until it is its turn.
func (l *Lane) sendNext(t *target, q *queue, turn bool) bool {
	retry := q == &t.retries
	if len(q.jobs) == 0 || t.inflight >= l.limit(t, retry) {
		return false // what it has under way comes back here
	}
	now := l.cfg.Clock.now()
	if retry && t.failing() && !q.jobs[0].delivery.ByHand() && l.probesFirst(t, now) {
		return false
	}
	if t.ep.Options.RatePerSecond > 0 && now.Before(t.next) {
		l.setAlarm(t, t.next)
		return false
	}
	if c := t.class(retry); !turn && len(t.org.waiting[c]) > 0 || !l.room(t, retry) {
		l.await(t, q)
		return false
	}
	j, nobody := q.jobs[0], ""
	switch {
	case l.cancelled(j.delivery):
		nobody = reasonCancelled
	case l.afford(j):
	case retry:
		nobody = reasonByHand // a retry was counted with its first attempt
	default:
		return false
	}
	q.pop()
	l.unqueued(j)
	if nobody != "" {
		l.drop(j, nobody)
		return true
	}
	t.began(now)
	l.start(j)
	return true
}

func (t *target) class(retry bool) class {
	var c class
	if !t.quick() {
		c |= slowly
	}
	if retry {
		c |= retried
	}
	return c
}

// await has the endpoint wait for room that its org or the lane lacks.
func (l *Lane) await(t *target, q *queue) {
	if q.waits {
		return
	}
	q.waits = true
	o, c := t.org, t.class(q == &t.retries)
	o.waiting[c] = append(o.waiting[c], t)
	l.list(o)
}

func (l *Lane) list(o *org) {
	if !o.listed {
		o.listed = true
		l.crowded = append(l.crowded, o)
	}
}

// pumpWaiting gives room that has come free to those that wait for it: to each org
// in turn.
func (l *Lane) pumpWaiting() {
	if !l.freed {
		return
	}
	l.freed = false
	for n := len(l.crowded); n > 0 && !l.winding && l.inflight < l.cfg.PerLane; n-- {
		o := l.crowded[0]
		l.crowded[0] = nil
		l.crowded = l.crowded[1:]
		o.listed = false
		first := o.turn
		for n := range class(len(o.waiting)) {
			c := (first + n) % class(len(o.waiting))
			if l.pumpOrg(o, c) {
				o.turn = c + 1
			}
		}
	}
}

// pumpOrg gives the endpoints that wait what the org has room for, each one
// delivery in its turn, until a whole round was in vain. It reports whether any got
// something.
func (l *Lane) pumpOrg(o *org, c class) (sent bool) {
	for left := len(o.waiting[c]); left > 0; left-- { // of a round
		t := o.waiting[c][0]
		q, retry := &t.queue, c&retried != 0
		if retry {
			q = &t.retries
		}
		if t.class(retry) == c && t.inflight == 0 && len(q.jobs) > 0 && !l.room(t, retry) {
			l.list(o)
			return sent // nor is there for those behind it
		}
		o.waiting[c][0] = nil
		if o.waiting[c] = o.waiting[c][1:]; len(o.waiting[c]) == 0 {
			o.waiting[c] = nil
		}
		q.waits = false
		if l.sendNext(t, q, true) {
			sent = true
			if len(q.jobs) > 0 {
				l.await(t, q)
			}
			left = len(o.waiting[c]) + 1
		}
	}
	if len(o.waiting[c]) > 0 {
		l.list(o)
	}
	return sent
}
