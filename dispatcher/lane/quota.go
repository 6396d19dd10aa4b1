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

// most is how many deliveries the org may have in a month before more are held; 0: any
// number.
func (l *Lane) most(id string) int {
	if org := l.cfg.Control.Org(id); org != nil {
		return org.Plan.Limits().HoldsFrom()
	}
	return 0
}

// replan notes that an org has another plan, and looks at once if it is spent.
func (l *Lane) replan(id string) {
	if o := l.orgs[id]; o != nil {
		if o.most = l.most(id); o.spent {
			l.quotas.again = time.Unix(0, 0)
		}
	}
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
	if !o.allowance.Take(o.most) {
		o.spent = true
		l.quotas.spent = append(l.quotas.spent, o)
		l.quotas.fresh = append(l.quotas.fresh, o)
		l.log.Info("the month's quota is used up: deliveries are held", "org", o.id, "quota", o.most)
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
		j.target.org.allowance.Return(1)
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
		o.allowance.Return(o.taken)
		o.taken = 0
	}
}

// shedSpent takes out of memory what may not go out any more.
func (l *Lane) shedSpent(now time.Time) {
	fresh := l.quotas.fresh
	l.quotas.fresh = nil
	l.settleOrgs(fresh)
	if len(fresh) > 0 && l.quotas.again.IsZero() {
		l.lookAgain(now)
	}
}

// look finds out whose quota isn't used up any more.
func (l *Lane) look(now time.Time) {
	if l.quotas.again.IsZero() || now.Before(l.quotas.again) {
		return
	}
	var left []*org
	l.quotas.spent = slices.DeleteFunc(l.quotas.spent, func(o *org) bool {
		switch {
		case len(o.targets) == 0:
		case o.allowance.Left(o.most):
			l.log.Info("there is quota again: what is held goes out", "org", o.id)
			left = append(left, o)
		default:
			return false
		}
		o.spent = false
		return true
	})
	l.settleOrgs(left) // of whom some may be spent again
	l.lookAgain(now)
}

// settleOrgs does what follows where orgs are spent, or aren't any more.
func (l *Lane) settleOrgs(orgs []*org) {
	for _, o := range orgs {
		for _, t := range o.targets {
			if t.metered() {
				l.settle(t)
			}
		}
	}
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
