package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// History tells all that is written down of one event, and the faults around it,
// in the order in which it happened.
func (l *Ledger) History(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, known := l.index[id]
	if !known {
		return fmt.Sprintf("nobody spoke of event %s\n", id)
	}
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	say := func(at time.Duration, format string, args ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, args...)})
	}
	e := &l.events[number]
	if p := e.published; p != nil {
		say(p.Sent.Sub(l.began), "%s sends %s, key %q, for %v", p.Org, p.Type, p.Key, p.Audience)
		if !p.Acknowledged.IsZero() {
			say(p.Acknowledged.Sub(l.began), "it is acknowledged")
		}
	}
	for _, a := range l.attempts {
		if a.event == number {
			ep := &l.endpoints[a.endpoint]
			say(a.started, "%s (%s) gets attempt %d", ep.ID, ep.Org, a.number)
			say(a.ended, "%s has answered attempt %d with %d", ep.ID, a.number, a.status)
		}
	}
	for _, s := range l.streams {
		for _, i := range s.items {
			if i.kind == frame && i.event == number {
				say(time.Duration(i.at)*time.Millisecond, "%s (%s) sees it at offset %d", s.client.Name, s.client.Org, i.offset)
			}
		}
	}
	if len(lines) > 0 {
		first := slices.MinFunc(lines, func(a, b line) int { return int(a.at - b.at) }).at
		last := slices.MaxFunc(lines, func(a, b line) int { return int(a.at - b.at) }).at
		for _, f := range l.faults {
			if from, until := f.From.Sub(l.began), f.Until.Sub(l.began); from <= last+time.Second && first <= until+l.rules.Settle {
				say(from, "── %s %s", f.What, f.Whom)
				say(until, "── %s %s is over", f.What, f.Whom)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.at - b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "event %s, offset %d:\n", id, e.offset)
	for _, line := range lines {
		fmt.Fprintf(&b, "  %10.3fs  %s\n", line.at.Seconds(), line.text)
	}
	return b.String()
}
