package usage

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/event"
)

// Quota tells how many metered deliveries orgs may still begin this month: those
// that Totals know of and those that were begun here and aren't among them yet
// count, so within a process it is exact. Of another process's it knows when a
// delta of them is in the log.
//
//	Take ─► under ─────── attempt ──► Meter ─► delta ─► the book of Totals
//	          └─ Return: it came to nothing             and out of under
//
// The zero value, given to a Meter and to Totals, is ready. All methods may be called
// from any number of goroutines; with a nil one, and where Totals can't tell what was
// used, everybody may begin any number.
type Quota struct {
	totals *Totals
	writer string // the meter whose deltas have what was taken here

	mu    sync.Mutex            // within Totals'
	orgs  map[string]*Allowance // one for each org that was seen; about 100 bytes
	heard uint64                // the newest of the meter's deltas
}

// Allowance is an org's part of a Quota. It is good for as long as that; whoever begins
// deliveries keeps it. All methods may be called from any number of goroutines.
type Allowance struct {
	quota *Quota
	org   string
	under atomic.Int64 // taken, and not in the book
}

// Of gives an org's allowance, once Totals have the Quota; nil before, and of a nil one:
// any number may be taken of that.
func (q *Quota) Of(org string) *Allowance {
	if q == nil || q.totals == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.orgs[org]
	if a == nil {
		if q.orgs == nil {
			q.orgs = make(map[string]*Allowance)
		}
		a = &Allowance{quota: q, org: org}
		q.orgs[org] = a
	}
	return a
}

// Take lets a delivery begin, where the org may have so many in a month; 0: any number,
// which costs an atomic add. What is taken is counted as Metered, or given back by
// Return. Those of any number count as well: the plan may change before they are in the
// book.
func (a *Allowance) Take(most int) bool { return a.look(most, 1) }

// Left reports whether Take would let one begin.
func (a *Allowance) Left(most int) bool { return a.look(most, 0) }

func (a *Allowance) look(most int, take int64) bool {
	switch {
	case a == nil:
		return true
	case most > 0:
		return a.lookUp(int64(most), take)
	}
	a.under.Add(take)
	return true
}

func (a *Allowance) lookUp(most, take int64) bool {
	t := a.quota.totals
	t.mu.RLock() // nothing comes from under into the book meanwhile
	defer t.mu.RUnlock()
	if t.failed != nil || t.book == nil {
		a.under.Add(take)
		return true
	}
	most -= t.book.metered(a.org, monthOf(time.Now()))
	for {
		under := a.under.Load()
		if under >= most {
			return false
		}
		if a.under.CompareAndSwap(under, under+take) {
			return true
		}
	}
}

// Return gives n back that were taken and came to nothing.
func (a *Allowance) Return(n int) {
	if a != nil {
		a.under.Add(-int64(n))
	}
}

// hear notes that a delta is in the book: whoever reads the book sees both or
// neither.
func (q *Quota) hear(d *delta) {
	if q == nil || d.Writer != q.writer {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if d.Number <= q.heard {
		return
	}
	q.heard = d.Number
	for _, orgs := range d.Counts {
		for org, numbers := range orgs {
			if a := q.orgs[org]; a != nil {
				n := counts(numbers)
				a.under.Add(-n[Metered])
			}
		}
	}
}

// metered is what an org used in a month, in both environments.
func (b *book) metered(org string, month int64) (n int64) {
	for _, env := range event.Environments {
		if u := b.accounts[account{org, env}]; u != nil {
			for _, s := range u.months {
				if s.period == month {
					n += s.counts[Metered]
				}
			}
		}
	}
	return n
}

// NextMonth gives when the month that a moment lies in is over, and what it used with
// it: usage is counted by months of UTC.
func NextMonth(now time.Time) time.Time { return monthStart(monthOf(now) + 1) }
