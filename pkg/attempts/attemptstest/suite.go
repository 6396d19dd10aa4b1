// Package attemptstest holds the suite that every store of deliveries passes, and
// a PostgreSQL for those who need one.
package attemptstest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Run holds what every store must do. open opens the store of a test, the same one
// when it is called again by that test.
func Run(t *testing.T, open func(t *testing.T) attempts.Store) {
	t.Run("Random", func(t *testing.T) { random(t, open) })
	t.Run("Positions", func(t *testing.T) { positions(t, open) })
	t.Run("Statuses", func(t *testing.T) { statuses(t, open) })
}

// begin opens the store and leads, until end.
func begin(t *testing.T, open func(t *testing.T) attempts.Store, log string) (s attempts.Store, end func()) {
	t.Helper()
	s = open(t)
	_, release, err := s.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(t.Context(), log); err != nil {
		release()
		t.Fatal(err)
	}
	var once sync.Once
	end = func() {
		once.Do(func() {
			release()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	return s, end
}

var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// id gives one of few ids, most of them as ours are.
func id(n int) string {
	if n%7 == 3 {
		return fmt.Sprintf("other_%d", n)
	}
	return fmt.Sprintf("dlv_%032x", uint64(n)*0x9e3779b97f4a7c15)
}

// environment is where an endpoint lives.
func environment(endpoint string) event.Environment {
	if endpoint == "wh_live" {
		return event.Live
	}
	return event.Sandbox
}

var endpoints = []string{"wh_a", "wh_aa", "wh_b", "wh_live"}

// part makes something that a record says of a delivery.
func part(r *rand.Rand) attempts.Row {
	of := r.IntN(len(endpoints))
	ep, ev := endpoints[of], r.IntN(30)
	row := attempts.Row{
		Key:         attempts.Key{Endpoint: ep, Event: int64(ev), Delivery: id(ev*100 + of*10 + r.IntN(2))},
		Environment: environment(ep), EventID: fmt.Sprintf("evt_%d", ev), Type: "rfq.created", Test: ev == 7,
		Created: start.Add(time.Duration(r.IntN(1000)) * time.Millisecond),
	}
	row.Updated = row.Created
	row.Step = attempts.Step(r.IntN(40) - 1)
	if row.Step.Status() == 0 && row.Step >= 0 || row.Step%8 > 5 {
		row.Step = 0
	}
	if r.IntN(4) == 0 {
		row.Step = 1<<31 - 1
	}
	switch row.Step.Status() {
	case attempts.Retrying:
		row.Next = start.Add(time.Duration(r.IntN(1000)) * time.Second)
	case attempts.Dead:
		row.Reason = []string{"", "out of attempts", "later on"}[r.IntN(3)]
	}
	if n := r.IntN(6); n > 0 {
		row.Number, row.Class, row.HTTP = n, delivery.HTTPError, 500+n
		row.Attempts = []int64{int64(r.IntN(200))}
		row.HTTP = 500 + int(row.Attempts[0]) // as in a log, one record says one thing
	}
	return row
}

type model map[attempts.Key]attempts.Row

func (m model) merge(parts []attempts.Row) {
	for i := range parts {
		row, found := m[parts[i].Key]
		if !found {
			m[parts[i].Key] = parts[i]
			continue
		}
		row.Merge(&parts[i])
		m[row.Key] = row
	}
}

// list gives what a whole list has, the newest events first.
func (m model) list(q attempts.Query) []attempts.Row {
	var rows []attempts.Row
	for _, row := range m {
		if row.Endpoint == q.Endpoint && row.Event >= q.From && (q.To == 0 || row.Event < q.To) &&
			(len(q.Statuses) == 0 || slices.Contains(q.Statuses, row.Step.Status())) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b attempts.Row) int { return cmp.Compare(b.Event, a.Event) })
	return rows
}

// byID is for lists whose order within an event is the store's affair.
func byID(a, b attempts.Row) int {
	return cmp.Or(cmp.Compare(b.Event, a.Event), cmp.Compare(a.Delivery, b.Delivery))
}

func random(t *testing.T, open func(t *testing.T) attempts.Store) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s, end := begin(t, open, "log")
	m := make(model)
	for round := range 60 {
		parts := make(map[attempts.Key]attempts.Row)
		for range r.IntN(25) {
			p := part(r)
			parts[p.Key] = p
		}
		list := slices.Collect(maps.Values(parts))
		if err := s.Merge(t.Context(), list, nil); err != nil {
			t.Fatal(err)
		}
		m.merge(list)
		switch r.IntN(20) {
		case 0:
			gone := endpoints[r.IntN(len(endpoints))]
			if err := s.Forget(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			maps.DeleteFunc(m, func(k attempts.Key, _ attempts.Row) bool { return k.Endpoint == gone })
		case 1:
			end()
			s, end = begin(t, open, "log")
		}
		if round%10 == 9 {
			check(t, s, m, r)
		}
		if t.Failed() {
			return
		}
	}
	// What expires may stay for a while, but nothing else goes.
	if err := s.Expire(t.Context(), event.Sandbox, 15); err != nil {
		t.Fatal(err)
	}
	for k, row := range m {
		got, err := s.Find(t.Context(), k.Endpoint, k.Delivery)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil && (row.Environment != event.Sandbox || k.Event >= 15) {
			t.Errorf("%+v has gone with what expired", k)
		}
	}
}

func check(t *testing.T, s attempts.Store, m model, r *rand.Rand) {
	t.Helper()
	there := make(map[string]bool)
	for k, want := range m {
		there[k.Endpoint] = true
		got, err := s.Find(t.Context(), k.Endpoint, k.Delivery)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil || !reflect.DeepEqual(*got, want) {
			t.Fatalf("found %+v, want %+v", got, want)
		}
	}
	if got, err := s.Find(t.Context(), "wh_", id(1)); got != nil || err != nil {
		t.Errorf("of no endpoint: %+v, %v", got, err)
	}
	var ids []string
	for after := ""; ; {
		page, err := s.Endpoints(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, page...)
		if len(page) < 2 {
			break
		}
		after = page[1]
	}
	slices.Sort(ids)
	if !slices.Equal(ids, slices.Sorted(maps.Keys(there))) {
		t.Errorf("endpoints %q, want %q", ids, slices.Sorted(maps.Keys(there)))
	}
	for _, statuses := range [][]attempts.Status{nil, {attempts.Dead}, {attempts.Delivered}, {attempts.Pending, attempts.Retrying, attempts.Held}, {attempts.Delivered, attempts.Failed}} {
		q := attempts.Query{Endpoint: endpoints[r.IntN(len(endpoints))], Statuses: statuses, Limit: 1 + r.IntN(6)}
		if r.IntN(2) == 0 {
			q.From, q.To = int64(r.IntN(20)), int64(r.IntN(30))
		}
		want := m.list(q)
		var got []attempts.Row
		whole := q
		for pages := 0; ; pages++ {
			page, err := s.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, page.Rows...); len(page.Rows) > q.Limit || pages > 1000 {
				t.Fatalf("%d rows on page %d, at most %d", len(page.Rows), pages, q.Limit)
			}
			if page.Next == (attempts.Key{}) {
				break
			}
			q.Before = page.Next
		}
		if !slices.IsSortedFunc(got, func(a, b attempts.Row) int { return cmp.Compare(b.Event, a.Event) }) {
			t.Errorf("%+v: not the newest first", whole)
		}
		if statuses == nil && q.To == 0 {
			for _, most := range []int{0, 1 + r.IntN(6), 1000} {
				if n, err := s.Count(t.Context(), q.Endpoint, q.From, most); err != nil || n != min(most, len(want)) {
					t.Errorf("%+v: counted %d up to %d, not %d: %v", whole, n, most, len(want), err)
				}
			}
		}
		slices.SortFunc(got, byID)
		slices.SortFunc(want, byID)
		if !slices.EqualFunc(got, want, func(a, b attempts.Row) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%+v:\n%+v, want\n%+v", whole, got, want)
		}
	}
	of := int64(r.IntN(30))
	var got []attempts.Row
	for after := ""; ; {
		page, err := s.Of(t.Context(), event.Sandbox, of, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		if len(page) < 2 {
			break
		}
		after = page[1].Delivery
	}
	var want []attempts.Row
	for k, row := range m {
		if k.Event == of && row.Environment == event.Sandbox {
			want = append(want, row)
		}
	}
	if len(got) != len(want) {
		t.Errorf("event %d: %d deliveries, want %d", of, len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], m[got[i].Key]) {
			t.Errorf("event %d: %+v, want %+v", of, got[i], m[got[i].Key])
		}
	}
}

func positions(t *testing.T, open func(t *testing.T) attempts.Store) {
	s, end := begin(t, open, "log")
	p, q := eventlog.Partition{Topic: "attempts", Number: 3}, eventlog.Partition{Topic: "tier.0s"}
	first := []attempts.Position{{Partition: p, Next: 5, Fence: 1 << 40}, {Partition: q, Next: 1}}
	row := part(rand.New(rand.NewPCG(1, 1)))
	if err := s.Merge(t.Context(), []attempts.Row{row}, first); err != nil {
		t.Fatal(err)
	}
	has := func(want ...attempts.Position) {
		t.Helper()
		got, err := s.Positions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if got[w.Partition] != w {
				t.Errorf("%+v, want %+v", got[w.Partition], w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("positions %+v", got)
		}
	}
	has(first...)
	end()
	s, _ = begin(t, open, "log")
	has(first...)
	moved := attempts.Position{Partition: q, Next: 9, Fence: 2}
	if err := s.Merge(t.Context(), nil, []attempts.Position{moved}); err != nil {
		t.Fatal(err)
	}
	has(first[0], moved)
	// Of another log nothing is kept.
	if err := s.Begin(t.Context(), "another"); err != nil {
		t.Fatal(err)
	}
	has()
	if got, err := s.Find(t.Context(), row.Endpoint, row.Delivery); got != nil || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// statuses: one that is found by its status is found by the next one alone when it
// has that, and a dead one is found among many that were delivered.
func statuses(t *testing.T, open func(t *testing.T) attempts.Store) {
	s, _ := begin(t, open, "log")
	row := func(ev int, step attempts.Step) attempts.Row {
		return attempts.Row{Key: attempts.Key{Endpoint: "wh_a", Event: int64(ev), Delivery: id(ev)}, Environment: event.Sandbox, EventID: "e", Type: "a.b", Step: step, Created: start, Updated: start}
	}
	var many []attempts.Row
	for i := range 2000 {
		many = append(many, row(i, 1<<31-1))
	}
	many[1000].Step = 0
	if err := s.Merge(t.Context(), many, nil); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		step   attempts.Step
		status attempts.Status
	}{{0, attempts.Pending}, {9, attempts.Retrying}, {18, attempts.Held}, {43, attempts.Dead}, {44, attempts.Retrying}, {1<<31 - 1, attempts.Delivered}, {51, attempts.Delivered}} {
		if err := s.Merge(t.Context(), []attempts.Row{row(1000, at.step)}, nil); err != nil {
			t.Fatal(err)
		}
		for status := attempts.Pending; status <= attempts.Failed; status++ {
			page, err := s.List(t.Context(), attempts.Query{Endpoint: "wh_a", Statuses: []attempts.Status{status}, Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			if found := len(page.Rows) == 1 && page.Rows[0].Event == 1000; found != (status == at.status) || len(page.Rows) > 1 {
				t.Errorf("step %d: %d rows of status %d", at.step, len(page.Rows), status)
			}
		}
	}
}
