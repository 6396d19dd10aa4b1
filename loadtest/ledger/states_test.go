package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// life is what became of three endpoints of an org, that was thought up: an ordered
// one, one that was closed for a while, and one of another org.
type life struct {
	events   []Event
	attempts []Attempt
	closed   []closing
	stood    []Standing
	owed     [][3]string
	counts   []count
}

type closing struct {
	endpoint    string
	from, until time.Duration
}

// lead is a life in which everything holds.
func lead(at func(time.Duration) time.Time) *life {
	l := new(life)
	for i := range 6 {
		id := fmt.Sprintf("evt_%d", i)
		l.events = append(l.events, Event{ID: id, Org: "org_a", Environment: "live", Type: "a.b", Key: fmt.Sprint("k", i%2), Data: 7,
			Sent: at(time.Second), Acknowledged: at(time.Second)})
		came := func(endpoint string, number, status int, from time.Duration) {
			l.attempts = append(l.attempts, Attempt{Event: id, Endpoint: endpoint, Delivery: id + endpoint, Number: number, Data: 7, Canary: "org_a",
				Verified: true, Signed: at(from).Truncate(time.Second), Started: at(from), Ended: at(from + time.Second), Status: status})
		}
		stood := func(endpoint, status string, attempts int, when time.Duration) {
			l.stood = append(l.stood, Standing{id + endpoint, id, endpoint, status, attempts, at(when)})
		}
		begin := time.Duration(10+40*(i/2)) * time.Second
		if i == 2 { // its first attempt fails; those behind it of its key wait
			came("ordered", 1, 500, begin)
			came("ordered", 2, 200, begin+7*time.Second)
			stood("ordered", "pending", 0, begin-time.Second)
			stood("ordered", "held", 0, begin)
			stood("ordered", "retrying", 1, begin+2*time.Second)
			stood("ordered", "delivered", 2, begin+9*time.Second)
		} else {
			came("ordered", 1, 200, begin)
		}
		switch {
		case i < 4:
			came("closed", 1, 200, begin)
		case i == 4: // it came when that was open again
			came("closed", 1, 200, 150*time.Second)
		default:
			l.owed = append(l.owed, [3]string{id, "closed", "held"})
			stood("closed", "held", 0, 160*time.Second)
			stood("closed", "dead", 5, 170*time.Second)
			stood("closed", "retrying", 5, 171*time.Second) // it was sent again
		}
	}
	l.closed = []closing{{"closed", 80 * time.Second, 140 * time.Second}, {"closed", 200 * time.Second, 0}}
	l.counts = []count{{"ordered", Attempts, 7}, {"ordered", Delivered, 6}, {"closed", "held", 1}, {"closed", Delivered, 5}, {"org_a", Attempts, 12}, {"foreign", Attempts, 0}}
	return l
}

func (l *life) write(to *Ledger) *Ledger {
	for _, ep := range []Endpoint{{ID: "ordered", Org: "org_a", Ordered: true}, {ID: "closed", Org: "org_a"}, {ID: "foreign", Org: "org_b"}} {
		ep.Environment, ep.Patterns, ep.Schedule, ep.InFlight = "live", []string{"*"}, []time.Duration{5 * time.Second}, 4
		to.Registered(ep)
	}
	for i, e := range l.events {
		to.Published(e)
		to.Logged(e.ID, int64(i), e.Data)
	}
	for _, a := range l.attempts {
		to.Attempted(a)
	}
	for _, c := range l.closed {
		until := time.Time{}
		if c.until > 0 {
			until = to.began.Add(c.until)
		}
		to.Closed(c.endpoint, "paused", to.began.Add(c.from), until)
	}
	for _, s := range l.stood {
		to.Stood(s)
	}
	for _, o := range l.owed {
		to.Owed(o[0], o[1], o[2])
	}
	for _, c := range l.counts {
		to.Counted(c.whom, c.what, c.n)
	}
	return to
}

// attempt finds the n-th of an endpoint.
func (l *life) attempt(endpoint string, n int) *Attempt {
	for i := range l.attempts {
		if l.attempts[i].Endpoint == endpoint {
			if n--; n < 0 {
				return &l.attempts[i]
			}
		}
	}
	panic("no such attempt")
}

func (l *life) shows(event, endpoint, status string, attempts int, at time.Time) {
	l.stood = append(l.stood, Standing{event + endpoint, event, endpoint, status, attempts, at})
}

// TestEveryStateIsChecked: in a life in which everything holds nothing is found; and
// of each wrong thing that is put into it the event, and who saw it.
func TestEveryStateIsChecked(t *testing.T) {
	end := func(to *Ledger) time.Time { return to.began.Add(180 * time.Second) }
	for name, c := range map[string]struct {
		spoil func(l *life, to *Ledger)
		want  Violation
	}{
		"nothing": {func(*life, *Ledger) {}, Violation{}},
		"signed long before it came": {func(l *life, _ *Ledger) {
			l.attempt("closed", 1).Signed = l.attempt("closed", 1).Started.Add(-time.Minute)
		},
			Violation{Kind: Stale, Event: "evt_1", Whom: "closed"}},
		"signed for later": {func(l *life, _ *Ledger) {
			l.attempt("closed", 1).Signed = l.attempt("closed", 1).Started.Add(time.Minute)
		},
			Violation{Kind: Stale, Event: "evt_1", Whom: "closed"}},
		"a retry with the signature of the first attempt": {func(l *life, _ *Ledger) { l.attempt("ordered", 3).Signed = l.attempt("ordered", 2).Signed },
			Violation{Kind: Stale, Event: "evt_2", Whom: "ordered"}},
		"the next of a key while one is tried again": {func(l *life, _ *Ledger) {
			a := l.attempt("ordered", 5) // of evt_4, behind evt_2
			a.Started = l.attempt("ordered", 3).Started.Add(-time.Second)
			a.Signed, a.Ended = a.Started, a.Started
		}, Violation{Kind: Overtaken, Event: "evt_4", Whom: "ordered"}},
		"the next of a key beside one that is under way": {func(l *life, _ *Ledger) {
			a := l.attempt("ordered", 5)
			a.Started = l.attempt("ordered", 3).Ended.Add(-100 * time.Millisecond)
			a.Signed, a.Ended = a.Started, a.Started
		}, Violation{Kind: Overtaken, Event: "evt_4", Whom: "ordered"}},
		"the next of a key though one never came": {func(l *life, _ *Ledger) {
			l.attempts = slices.DeleteFunc(l.attempts, func(a Attempt) bool { return a.Event == "evt_2" && a.Endpoint == "ordered" })
		}, Violation{Kind: Overtaken, Event: "evt_4", Whom: "ordered"}},
		"an attempt while it is closed": {func(l *life, to *Ledger) { l.attempt("closed", 4).Started = to.began.Add(100 * time.Second) },
			Violation{Kind: Barred, Event: "evt_4", Whom: "closed"}},
		"an attempt after it was closed for good": {func(l *life, to *Ledger) { l.attempt("closed", 4).Started = to.began.Add(time.Hour) },
			Violation{Kind: Barred, Event: "evt_4", Whom: "closed"}},
		"delivered, and then not": {func(l *life, to *Ledger) { l.shows("evt_2", "ordered", "retrying", 2, end(to)) },
			Violation{Kind: Regressed, Event: "evt_2", Whom: "ordered"}},
		"pending again": {func(l *life, to *Ledger) { l.shows("evt_5", "closed", "pending", 5, end(to)) },
			Violation{Kind: Regressed, Event: "evt_5", Whom: "closed"}},
		"pending after it was dead": {func(l *life, to *Ledger) {
			l.shows("evt_5", "closed", "dead", 5, end(to))
			l.shows("evt_5", "closed", "pending", 5, end(to))
		}, Violation{Kind: Regressed, Event: "evt_5", Whom: "closed"}},
		"attempts taken back": {func(l *life, to *Ledger) { l.shows("evt_5", "closed", "retrying", 4, end(to)) },
			Violation{Kind: Regressed, Event: "evt_5", Whom: "closed"}},
		"delivered, it says, and nothing came": {func(l *life, to *Ledger) { l.shows("evt_5", "closed", "delivered", 6, end(to)) },
			Violation{Kind: Disagrees, Event: "evt_5", Whom: "closed"}},
		"shown to another org": {func(l *life, to *Ledger) { l.shows("evt_1", "foreign", "pending", 0, end(to)) },
			Violation{Kind: Foreign, Event: "evt_1", Whom: "foreign"}},
		"more attempts counted than came":  {func(l *life, _ *Ledger) { l.counts[0].n++ }, Violation{Kind: Disagrees, Whom: "ordered"}},
		"fewer attempts counted than came": {func(l *life, _ *Ledger) { l.counts[0].n-- }, Violation{Kind: Disagrees, Whom: "ordered"}},
		"fewer delivered than came":        {func(l *life, _ *Ledger) { l.counts[3].n-- }, Violation{Kind: Disagrees, Whom: "closed"}},
		"more held than are owed":          {func(l *life, _ *Ledger) { l.counts[2].n++ }, Violation{Kind: Disagrees, Whom: "closed"}},
		"an org's sum":                     {func(l *life, _ *Ledger) { l.counts[4].n++ }, Violation{Kind: Disagrees, Whom: "org_a"}},
		"dead letters of nobody":           {func(l *life, _ *Ledger) { l.counts = append(l.counts, count{"foreign", "dead", 1}) }, Violation{Kind: Disagrees, Whom: "foreign"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := New(Rules{Slack: time.Second, Settle: time.Second})
			l := lead(to.began.Add)
			c.spoil(l, to)
			r := l.write(to).Check()
			if c.want.Kind == "" {
				if !r.OK() {
					t.Errorf("\n%s", r)
				}
				return
			}
			if !slices.ContainsFunc(r.Violations, func(v Violation) bool {
				return v.Kind == c.want.Kind && (c.want.Event == "" || v.Event == c.want.Event) && v.Whom == c.want.Whom
			}) {
				t.Errorf("%s of %s at %s isn't found:\n%s", c.want.Kind, c.want.Event, c.want.Whom, r)
			}
		})
	}
}

// An attempt that came again after a fault may be counted or not.
func TestRepeatsMayNotCount(t *testing.T) {
	for n, clean := range map[int]bool{11: false, 12: true, 13: true, 14: false} {
		to := New(Rules{Slack: time.Second, Settle: 20 * time.Second})
		l := lead(to.began.Add)
		again := *l.attempt("closed", 0)
		again.Signed, again.Started, again.Ended = again.Ended, again.Ended.Add(time.Second), again.Ended.Add(time.Second)
		l.attempts = append(l.attempts, again)
		to.Broke(Fault{What: "kill -9", From: again.Started.Add(-time.Second), Until: again.Started, Repeats: true})
		l.counts = []count{{"org_a", Attempts, n}}
		if r := l.write(to).Check(); r.OK() != clean {
			t.Errorf("%d counted:\n%s", n, r)
		}
	}
}
