package usage

import (
	"sync"
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

	mu    sync.Mutex       // within Totals'
	under map[string]int64 // by org: taken, and not in the book
	heard uint64           // the newest of the meter's deltas
}

// Take lets a delivery of the org's begin, where it may have so many in a month; 0:
// any number. What is taken is counted as Metered, or given back by Return.
func (q *Quota) Take(org string, most int) bool { return q.look(org, most, 1) }

// Left reports whether Take would let one begin.
func (q *Quota) Left(org string, most int) bool { return q.look(org, most, 0) }

func (q *Quota) look(org string, most int, take int64) bool {
	if q == nil || q.totals == nil {
		return true
	}
	t := q.totals
	t.mu.RLock()
	defer t.mu.RUnlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if most > 0 && t.failed == nil && t.book != nil && t.book.metered(org, monthOf(time.Now()))+q.under[org] >= int64(most) {
		return false
	}
	q.add(org, take)
	return true
}

// Return gives n back that were taken and came to nothing.
func (q *Quota) Return(org string, n int) {
	if q == nil || q.totals == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(org, -int64(n))
}

func (q *Quota) add(org string, n int64) {
	if q.under == nil {
		q.under = make(map[string]int64)
	}
	if q.under[org] += n; q.under[org] == 0 {
		delete(q.under, org)
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
			n := counts(numbers)
			q.add(org, -n[Metered])
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
