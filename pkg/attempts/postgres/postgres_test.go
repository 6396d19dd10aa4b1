package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/attempts/attemptstest"
	"sluice/pkg/attempts/postgres"
	"sluice/pkg/event"
)

var number atomic.Int64

// open gives stores of one deployment, which is forgotten when the test ends.
func open(t *testing.T, url string) func(t *testing.T) attempts.Store {
	name := fmt.Sprintf("test.%d.%d", time.Now().UnixNano(), number.Add(1))
	t.Cleanup(func() {
		s, err := postgres.Open(postgres.Config{URL: url, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := postgres.Drop(context.Background(), s); err != nil {
			t.Error(err)
		}
	})
	return func(t *testing.T) attempts.Store {
		s, err := postgres.Open(postgres.Config{URL: url, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestPostgres(t *testing.T) {
	url := attemptstest.Postgres(t)
	t.Run("Suite", func(t *testing.T) {
		stores := make(map[string]func(t *testing.T) attempts.Store)
		attemptstest.Run(t, func(t *testing.T) attempts.Store {
			if stores[t.Name()] == nil {
				stores[t.Name()] = open(t, url)
			}
			return stores[t.Name()](t)
		})
	})
	t.Run("Leaders", func(t *testing.T) { leaders(t, open(t, url)) })
	t.Run("Days", func(t *testing.T) { days(t, open(t, url)) })
}

func row(n int64) attempts.Row {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	return attempts.Row{Key: attempts.Key{Endpoint: "wh_a", Event: n, Delivery: fmt.Sprintf("dlv_%032x", n)}, Environment: event.Live, EventID: "e", Type: "a.b", Created: at, Updated: at}
}

// leaders: one writes at a time, and one that was replaced unawares writes nothing.
func leaders(t *testing.T, open func(t *testing.T) attempts.Store) {
	first, second := open(t), open(t)
	defer first.Close()
	defer second.Close()
	if _, err := second.Find(t.Context(), "wh_a", "dlv_1"); !errors.Is(err, attempts.ErrUnready) {
		t.Errorf("before there is a table: %v", err)
	}
	_, release, err := first.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Begin(t.Context(), "log"); err != nil {
		t.Fatal(err)
	}
	if err := first.Merge(t.Context(), []attempts.Row{row(1)}, nil); err != nil {
		t.Fatal(err)
	}
	leads := make(chan func(), 1)
	go func() {
		_, release, err := second.Lead(t.Context())
		if err != nil {
			t.Error(err)
			release = func() {}
		}
		leads <- release
	}()
	select {
	case <-leads:
		t.Fatal("two lead at once")
	case <-time.After(300 * time.Millisecond):
	}
	release()
	defer (<-leads)()
	if err := first.Merge(t.Context(), []attempts.Row{row(2)}, nil); !errors.Is(err, attempts.ErrBehind) {
		t.Errorf("one that was replaced: %v", err)
	}
	if err := first.Forget(t.Context(), "wh_a"); !errors.Is(err, attempts.ErrBehind) {
		t.Errorf("one that was replaced: %v", err)
	}
	for n, there := range map[int64]bool{1: true, 2: false} {
		if got, err := first.Find(t.Context(), "wh_a", row(n).Delivery); err != nil || (got != nil) != there {
			t.Errorf("row %d: %+v, %v", n, got, err)
		}
	}
}

// days: a table that has nothing left to be shown goes as a whole, and what comes
// late for it goes into the next.
func days(t *testing.T, open func(t *testing.T) attempts.Store) {
	s := open(t)
	defer s.Close()
	_, release, err := s.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.Begin(t.Context(), "log"); err != nil {
		t.Fatal(err)
	}
	merge := func(rows ...attempts.Row) {
		t.Helper()
		if err := s.Merge(t.Context(), rows, nil); err != nil {
			t.Fatal(err)
		}
	}
	merge(row(1), row(2))
	if err := postgres.AgeTables(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	merge(row(2), row(3)) // 2 stays where it is
	list := func() string {
		page, err := s.List(t.Context(), attempts.Query{Endpoint: "wh_a", Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range page.Rows {
			out = append(out, fmt.Sprint(r.Event))
		}
		return strings.Join(out, " ")
	}
	if got := list(); got != "3 2 1" {
		t.Errorf("over two days: %s", got)
	}
	if err := s.Expire(t.Context(), event.Live, 2); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "3 2 1" {
		t.Errorf("a part of the first day expires: %s", got)
	}
	if err := s.Expire(t.Context(), event.Live, 3); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "3" {
		t.Errorf("the first day expires: %s", got)
	}
	merge(row(1))
	if got := list(); got != "3 1" {
		t.Errorf("one comes late: %s", got)
	}
}
