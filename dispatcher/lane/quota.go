package lane

import (
	"slices"
	"time"

	"sluice/pkg/usage"
)

// A plan may hold what is past its deliveries of a month. A delivery of a metered
// dialect takes one of them when its first attempt begins, and gives it back if that
// comes to nothing; its retries take none. Once one is refused the org is spent: what is
// new for its metered endpoints waits in held, as while an endpoint fails, and retries
// go on. Nothing of it is kept in snapshots: the next owner is refused, too.
//
//	afford ─ refused ─► spent ─► shed (to held) ─► … ─► look ─ some are left ─► fed from held, in order
//	                                                     ▲
//	            another plan, a new month, each minute ──┘
//
// All lanes and processes take from one account (usage.Quota). What is given back to
// it by another is found within a minute.
type quotas struct {
	spent []*org
	fresh []*org    // of them, those whose endpoints have yet to be shed
	again time.Time // when they are looked at next; zero: nobody is spent
}

// counts reports whether the delivery's attempt is the one that it is counted with.
func (j *job) counts() bool {
	return j.target.metered() && !j.delivery.Test && j.delivery.Attempts == 0
}

func (t *target) metered() bool { return t.hook != nil && t.hook.Metered }

// spent reports whether nothing new goes to the endpoint because its org's quota is
// used up.
func (t *target) spent() bool { return t.org.spent && t.metered() }

// quota is how many deliveries the org may have in a month before more are held; 0:
// any number.
func (l *Lane) quota(o *org) int {
	if org := l.cfg.Control.Org(o.id); org != nil {
		return org.Plan.Limits().HoldsFrom()
	}
	return 0
}

// afford takes one of its org's quota for a delivery that would begin. Whoever is
// refused is left where it is: it is shed before anything of its endpoint is held.
func (l *Lane) afford(j *job) bool {
	if j.taken || !j.counts() {
		return true
	}
	o := j.target.org
	if o.spent {
		return false
	}
	if !l.cfg.Quota.Take(o.id, l.quota(o)) {
		o.spent = true
		l.quotas.spent = append(l.quotas.spent, o)
		l.quotas.fresh = append(l.quotas.fresh, o)
		l.log.Info("the month's quota is used up: deliveries are held", "org", o.id, "quota", l.quota(o))
		return false
	}
	j.taken = true
	o.taken++
	return true
}

// refund gives back what a delivery took, unless it was counted.
func (l *Lane) refund(j *job) {
	if j.taken {
		l.settled(j)
		l.cfg.Quota.Return(j.target.org.id, 1)
	}
}

// settled notes that what a delivery took isn't the lane's any more.
func (l *Lane) settled(j *job) {
	if j.taken {
		j.taken = false
		j.target.org.taken--
	}
}

// refundAll gives back, at the end of a life, what was taken for attempts that it
// doesn't see the end of.
func (l *Lane) refundAll() {
	for _, o := range l.orgs {
		l.cfg.Quota.Return(o.id, o.taken)
		o.taken = 0
	}
}

// shedSpent takes out of memory what may not go out any more.
func (l *Lane) shedSpent(now time.Time) {
	fresh := l.quotas.fresh
	if len(fresh) == 0 {
		return
	}
	l.quotas.fresh = nil
	for _, t := range l.targets {
		if t.spent() && slices.Contains(fresh, t.org) {
			l.shed(t)
			l.pump(t) // tests
		}
	}
	if l.quotas.again.IsZero() {
		l.lookAgain(now)
	}
}

// look finds out whose quota isn't used up any more.
func (l *Lane) look(now time.Time) {
	if l.quotas.again.IsZero() || now.Before(l.quotas.again) {
		return
	}
	l.quotas.spent = slices.DeleteFunc(l.quotas.spent, func(o *org) bool {
		switch {
		case o.targets == 0:
			return true
		case !l.cfg.Quota.Left(o.id, l.quota(o)):
			return false
		}
		o.spent = false
		l.log.Info("there is quota again: what is held goes out", "org", o.id)
		for _, t := range l.targets {
			if t.org == o && t.metered() {
				l.pump(t)
				l.wantSweep(t)
			}
		}
		return true
	})
	l.lookAgain(now)
}

// lookAgain sets when the lane looks next, if anybody is spent: when the month turns, by
// the wall clock, or in a minute.
func (l *Lane) lookAgain(now time.Time) {
	l.quotas.again = time.Time{}
	if len(l.quotas.spent) > 0 {
		wall := l.cfg.Clock.wall()
		l.quotas.again = now.Add(min(ageEvery, usage.NextMonth(wall).Sub(wall)))
	}
}

// hurry has the lane look at once: a plan has changed.
func (q *quotas) hurry() {
	if len(q.spent) > 0 {
		q.again = time.Unix(0, 0)
	}
}
