package usage

import (
	"fmt"
	"testing"
	"time"

	"sluice/pkg/event"
)

// This month and the one before stay whole, and days for 40 days, over any number
// of ways through a checkpoint; what is older goes, and writers with it.
func TestMonthsGoBy(t *testing.T) {
	b := newBook()
	at := account{"org_a", event.Live}
	begun := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)
	months, days := make(map[int64]int64), make(map[int64]int64)
	for day := range 200 {
		now := begun.AddDate(0, 0, day)
		for i := range 3 {
			d := newDelta()
			d.Writer, d.Number = fmt.Sprint("w", day), uint64(i+1)
			d.add(at, &Counts{Published: int64(day + i)})
			r := &record{Delta: d}
			b.fold(r, int64(day), now, 100)
			b.fold(r, int64(day), now, 100) // a second time is none
			months[monthOf(now)] += int64(day + i)
			days[dayOf(now)] += int64(day + i)
		}
		if day%7 == 0 {
			next := b.next
			b = restore(b.parts())
			b.next = next
		}
		u := b.accounts[at]
		for _, list := range []struct {
			spans []span
			want  map[int64]int64
			most  int
		}{{u.months, months, keptMonths}, {u.days, days, keptDays}} {
			if n := min(list.most, len(list.want)); len(list.spans) != n {
				t.Fatalf("day %d: %d periods, not %d", day, len(list.spans), n)
			}
			for _, s := range list.spans {
				if s.counts != (Counts{list.want[s.period]}) {
					t.Fatalf("day %d: period %d has %v, not %d", day, s.period, s.counts, list.want[s.period])
				}
			}
		}
		if monthStart(u.months[len(u.months)-1].period).Month() != now.Month() || !dayStart(u.days[len(u.days)-1].period).Equal(now) {
			t.Fatalf("day %d is shown as another", day)
		}
	}
	if len(b.writers) != keptWriters {
		t.Errorf("%d writers are remembered", len(b.writers))
	}
	b.fold(&record{}, 1000, begun.AddDate(2, 0, 0), 0)
	if len(b.accounts) != 0 || len(b.writers) != 0 {
		t.Errorf("years later: %v, %v", b.accounts, b.writers)
	}
}

// A checkpoint outlives what the book has, also where nothing was counted since: who
// starts shows what those do that ran all the time.
func TestCheckpointsOutliveTheirMonths(t *testing.T) {
	if most := (keptMonths*31 + 1) * 24 * time.Hour; Topic.Retention < most {
		t.Errorf("the log keeps them for %v, the book for up to %v", Topic.Retention, most)
	}
}

// Whatever lies in the topic, it is read or refused, and folding it breaks nothing.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"delta":{"writer":"w","number":7,"counts":{"sandbox":{"org_a":[12,3,3,40]}}}}`,
		`{"v":1,"checkpoint":{"id":"c","part":0,"parts":1,"deltas":8,"writers":{"w":[7,20779]},"accounts":[{"org":"org_a","env":"sandbox","months":[[24322,12]],"days":[[20779,12]]}]}}`,
		`{"v":2}`, `{}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decode(value)
		if err != nil {
			return
		}
		b := newBook()
		if r.Checkpoint != nil {
			var g gather
			if g.add(r.Checkpoint); g.best != nil {
				b = restore(g.best)
			}
		}
		b.fold(r, 1, time.Unix(1_700_000_000, 0), len(value))
		b.fold(r, 2, time.Unix(1_700_000_000, 0), len(value))
		back := restore(b.parts())
		for at, u := range b.accounts {
			if len(back.accounts[at].months) != len(u.months) {
				t.Errorf("%v came back as %v", u, back.accounts[at])
			}
		}
	})
}
