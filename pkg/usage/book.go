package usage

import (
	"cmp"
	"slices"
	"time"

	"sluice/pkg/event"
)

// How far back the book goes, counted with the current one.
const (
	keptMonths = 2
	keptDays   = 40
	// keptWriters is in days, longer than two months: a delta that is folded again
	// after its writer was forgotten falls into no month or day that is kept.
	keptWriters = 70
)

// book is what deltas come to. Folding the same records in the same order makes
// the same book on every node.
type book struct {
	accounts map[account]*use
	writers  map[string]seen
	deltas   int64 // folded, ever: of two books the one with more has all that the other has
	next     int64 // offset behind the newest record folded
	day      int64 // that record's

	since        int   // bytes of deltas since the newest checkpoint
	checkpointed int64 // the day of that
	size         int   // and its bytes
}

// use is what was counted of one account. Both lists are in order of time. It takes
// some 3 KB where each day has something, and 1 KB of a checkpoint.
type use struct{ months, days []span }

type span struct {
	period int64
	counts Counts
}

// seen is the newest delta of a writer.
type seen struct {
	number uint64
	day    int64
}

func newBook() *book {
	return &book{accounts: make(map[account]*use), writers: make(map[string]seen)}
}

func monthOf(t time.Time) int64 { return int64(t.UTC().Year())*12 + int64(t.UTC().Month()) - 1 }

func monthStart(m int64) time.Time {
	return time.Date(int(m/12), time.Month(m%12+1), 1, 0, 0, 0, 0, time.UTC)
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

func dayStart(d int64) time.Time { return time.Unix(d*24*60*60, 0).UTC() }

// fold takes in a record that was appended at the time.
func (b *book) fold(r *record, offset int64, at time.Time, size int) {
	b.next = offset + 1
	if day := dayOf(at); day != b.day {
		b.day = day
		b.prune(at)
	}
	switch {
	case r.Delta != nil:
		b.since += size
		b.add(r.Delta, at)
	case r.Checkpoint != nil:
		if r.Checkpoint.Part == 0 {
			b.size = 0
		}
		b.size += size
		if r.Checkpoint.Part == r.Checkpoint.Parts-1 {
			b.since, b.checkpointed = 0, b.day
		}
	}
	if b.checkpointed == 0 {
		b.checkpointed = b.day // the topic's first record
	}
}

// add counts a delta, unless it was counted before.
func (b *book) add(d *delta, at time.Time) {
	if d.Number <= b.writers[d.Writer].number {
		return
	}
	b.writers[d.Writer] = seen{d.Number, dayOf(at)}
	b.deltas++
	month, day := monthOf(at), dayOf(at)
	for name, orgs := range d.Counts {
		env, known := event.ParseEnvironment(name)
		if !known {
			continue
		}
		for org, numbers := range orgs {
			n := counts(numbers)
			u := b.accounts[account{org, env}]
			if u == nil {
				u = new(use)
				b.accounts[account{org, env}] = u
			}
			u.months = addTo(u.months, month, &n)
			u.days = addTo(u.days, day, &n)
		}
	}
}

func byPeriod(s span, period int64) int { return cmp.Compare(s.period, period) }

func addTo(spans []span, period int64, n *Counts) []span {
	i, found := slices.BinarySearchFunc(spans, period, byPeriod) // the last, or behind it
	if !found {
		spans = slices.Insert(spans, i, span{period: period})
	}
	spans[i].counts.add(n)
	return spans
}

// prune drops what is older than the book goes back.
func (b *book) prune(at time.Time) {
	for where, u := range b.accounts {
		u.months, u.days = recent(u.months, monthOf(at)-keptMonths), recent(u.days, dayOf(at)-keptDays)
		if len(u.months) == 0 {
			delete(b.accounts, where)
		}
	}
	for writer, s := range b.writers {
		if s.day <= dayOf(at)-keptWriters {
			delete(b.writers, writer)
		}
	}
}

// recent gives the spans behind a period.
func recent(spans []span, behind int64) []span {
	i, _ := slices.BinarySearchFunc(spans, behind+1, byPeriod)
	return spans[i:]
}
