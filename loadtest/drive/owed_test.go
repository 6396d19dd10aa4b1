package drive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/loadtest/ledger"
)

// owing is a run in which one event was published and hasn't come, of which the
// deployment says something.
func owing(t *testing.T, ordered bool, status string, next time.Duration) (r *run, e *endpoint) {
	s, err := Parse(fmt.Appendf(nil, "duration: 1s\npublishers: [{name: a, rate: 2}]\nreceivers: [{name: b, endpoints: 1, ordered: %v}]\n", ordered))
	if err != nil {
		t.Fatal(err)
	}
	r = &run{scenario: s, peers: alone{}, share: share{of: 1}, wanted: t.Context(), settled: make(chan struct{}), notes: make(map[string]int)}
	r.Keys = []string{"k"}
	r.book = s.book(1, func(n int) string { return fmt.Sprint(n) })
	r.marks = newMarks("rtest", s, 1, r.book)
	e = &endpoint{of: &receivers{Receivers: &s.Receivers[0], run: r, meter: newMeter()}, book: r.book.Endpoint("b-1", 0, []bool{true}, ordered)}
	e.of.endpoints = []*endpoint{e}
	r.receivers = []*receivers{e.of}
	began := time.Now()
	r.Call = func(_ context.Context, _ int, _, path string, _, out any) error {
		text := `{"data":[]}`
		switch {
		case strings.Contains(path, "status="+status+"&"):
			text = `{"data":[{"eventId":"load_rtest_0","status":"` + status + `"}]}`
			if status == "retrying" {
				text = fmt.Sprintf(`{"data":[{"eventId":"load_rtest_0","status":"retrying","nextAttemptAt":%q}]}`, began.Add(next).Format(time.RFC3339Nano))
			}
		case next > 0 && strings.Contains(path, "status=retrying&"): // another, of the same key perhaps
			text = fmt.Sprintf(`{"data":[{"eventId":"load_rtest_1","status":"retrying","nextAttemptAt":%q}]}`, began.Add(next).Format(time.RFC3339Nano))
		}
		return json.Unmarshal([]byte(text), out)
	}
	r.book.Sent(0, began)
	r.book.Acknowledged(0)
	return r, e
}

// TestOwed believes what the deployment says it owes as long as it may be so.
func TestOwed(t *testing.T) {
	const settle = 40 * time.Second
	for _, c := range []struct {
		name    string
		ordered bool
		status  string
		next    time.Duration // of what is retried
		do      func(r *run, e *endpoint)
		lost    bool
		silent  bool // and that nobody says
		early   bool // it is believed before patience ends
	}{
		{name: "it is pending, and everything else was taken long ago", status: "pending", lost: true},
		{name: "it is held, and everything else was taken long ago", status: "held", lost: true},
		{name: "it is pending, and the last was refused", status: "pending", early: true, do: func(_ *run, e *endpoint) {
			e.began(false)
			e.ended(true)
		}},
		{name: "it is pending, and one hangs", status: "pending", early: true, do: func(_ *run, e *endpoint) { e.began(true) }},
		{name: "it is pending, and one is under way", status: "pending", do: func(_ *run, e *endpoint) { e.began(false) }},
		{name: "it is pending, and others come still", status: "pending", do: func(_ *run, e *endpoint) {
			time.AfterFunc(settle-5*time.Second, func() {
				e.began(false)
				e.ended(false)
			})
		}},
		{name: "it is pending, and the run was interrupted", status: "pending", do: func(r *run, _ *endpoint) {
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			r.wanted = gone
		}},
		{name: "it will be retried", status: "retrying", next: 5 * time.Minute, early: true},
		{name: "it was to be retried", status: "retrying", next: -20 * time.Second, lost: true},
		{name: "it is held behind another of its key", ordered: true, status: "held", next: 5 * time.Minute, early: true},
		{name: "it is held, and nothing is before it", ordered: true, status: "held", lost: true},
		{name: "another is retried, and they come in any order", status: "held", next: 5 * time.Minute, lost: true},
		{name: "it is dead", status: "dead", early: true, do: func(_ *run, e *endpoint) { e.book.Attempt(0, 1, time.Now(), time.Now(), false) }},
		{name: "it is dead, and was never tried", status: "dead", lost: true},
		{name: "nothing is said of it", status: "none", lost: true},
		{name: "nobody says what is owed", status: "none", silent: true, do: func(r *run, _ *endpoint) {
			r.Call = func(context.Context, int, string, string, any, any) error { return errors.New("503") }
		}},
		{name: "it is said at last", status: "held", lost: true, do: func(r *run, _ *endpoint) {
			says, from := r.Call, time.Now().Add(settle-10*time.Second)
			r.Call = func(ctx context.Context, org int, method, path string, in, out any) error {
				if time.Now().Before(from) {
					return errors.New("503")
				}
				return says(ctx, org, method, path, in, out)
			}
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, e := owing(t, c.ordered, c.status, c.next)
			if c.do != nil {
				c.do(r, e)
			}
			patience, forgo := context.WithTimeout(t.Context(), settle)
			r.patience = patience
			began := time.Now()
			report := r.settle(t.Context(), forgo)
			if lost := report.Count[ledger.Lost] == 1; lost != c.lost || len(report.Count) > 1 || c.silent != (report.NotKnown == 1) || report.OK() == (c.lost || c.silent) {
				t.Errorf("%s: %s", c.name, report)
			}
			if took := time.Since(began); c.early != (took < settle-idle) {
				t.Errorf("%s: it was waited for for %v", c.name, took)
			}
			time.Sleep(settle) // what goes on of its own ends
		})
	}
}
