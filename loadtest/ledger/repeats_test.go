package ledger

import (
	"cmp"
	"testing"
	"time"
)

// Work that a fault interrupted is taken up by somebody who may be hit by the next,
// unless it is seen that it was.
func TestFaultAfterFault(t *testing.T) {
	for name, c := range map[string]struct {
		next   time.Duration // the second fault
		behind time.Duration // an event behind it came; 0: none
		clean  bool
	}{
		"the next within the time that it takes": {next: 20 * time.Second, clean: true},
		"the next long after":                    {next: 40 * time.Second},
		"it was taken up between":                {next: 20 * time.Second, behind: 10 * time.Second},
		"it was about to be taken up":            {next: 20 * time.Second, behind: 19500 * time.Millisecond, clean: true},
		"what lies behind it began before":       {next: 20 * time.Second, behind: 1500 * time.Millisecond, clean: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(Rules{Slack: time.Second, Settle: 30 * time.Second})
			at := func(d time.Duration) time.Time { return l.began.Add(d) }
			l.Registered(Endpoint{ID: "w", Org: "o", Environment: "live", Patterns: []string{"*"}, InFlight: 1})
			attempted := func(event string, d time.Duration) {
				l.Attempted(Attempt{Event: event, Endpoint: "w", Delivery: event, Number: 1, Canary: "o", Verified: true, Started: at(d), Ended: at(d), Status: 200})
			}
			for offset, id := range []string{"a", "b"} {
				l.Published(Event{ID: id, Org: "o", Environment: "live", Audience: []string{"o"}, Type: "a.b", Sent: at(0), Acknowledged: at(0)})
				l.Logged(id, int64(offset), 0)
			}
			attempted("a", time.Second)
			attempted("b", cmp.Or(c.behind, 50*time.Second))
			attempted("a", 45*time.Second)
			l.Broke(Fault{From: at(time.Second), Until: at(2 * time.Second), Repeats: true})
			l.Broke(Fault{From: at(c.next), Until: at(c.next + time.Second), Repeats: true})
			// Only the first can be why.
			if r := l.Check(); r.OK() != c.clean {
				t.Errorf("\n%s", r)
			}
		})
	}
}

// What two faults may be the cause of is put down to the one that others don't need.
func TestEachRepeatHasItsFault(t *testing.T) {
	for _, inFlight := range []int{1, 2} {
		l := New(Rules{Slack: time.Second, Settle: 30 * time.Second})
		at := func(d time.Duration) time.Time { return l.began.Add(d) }
		l.Registered(Endpoint{ID: "w", Org: "o", Environment: "live", Patterns: []string{"*"}, InFlight: inFlight})
		attempted := func(event string, d time.Duration) {
			l.Attempted(Attempt{Event: event, Endpoint: "w", Delivery: event, Number: 1, Canary: "o", Verified: true, Started: at(d), Ended: at(d), Status: 200})
		}
		for offset, id := range []string{"a", "b"} {
			l.Published(Event{ID: id, Org: "o", Environment: "live", Audience: []string{"o"}, Type: "a.b", Sent: at(0), Acknowledged: at(0)})
			l.Logged(id, int64(offset), 0)
			attempted(id, time.Second)
		}
		l.Broke(Fault{From: at(time.Second), Until: at(2 * time.Second), Repeats: true})
		attempted("a", 2500*time.Millisecond)
		l.Broke(Fault{From: at(3 * time.Second), Until: at(4 * time.Second), Repeats: true})
		attempted("a", 20*time.Second) // by either of them
		attempted("b", 21*time.Second) // by the first
		if r := l.Check(); r.OK() != (inFlight == 2) {
			t.Errorf("%d in flight:\n%s", inFlight, r)
		}
	}
}
