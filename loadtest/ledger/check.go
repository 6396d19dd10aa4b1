package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// check is one look at a ledger.
type check struct {
	*Ledger
	report  *Report
	wants   map[string]bool // whether patterns match a type, by both
	matches map[string][]uint32
	tallies map[string]*tally // by endpoint, and by org
}

// Check holds everything that was written down against what must hold. It may be
// called while a run goes on; what is still on its way is then lost, or a hole.
func (l *Ledger) Check() *Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &check{Ledger: l, report: new(Report), wants: make(map[string]bool), matches: make(map[string][]uint32), tallies: make(map[string]*tally)}
	slices.SortFunc(l.faults, func(a, b Fault) int { return a.From.Compare(b.From) })
	c.theLog()
	c.theAttempts()
	c.theStates()
	c.theStreams()
	c.report.Attempts, c.report.Faults = len(l.attempts), len(l.faults)
	for _, f := range l.faults {
		if f.Repeats {
			c.report.Repeating++
		}
	}
	return c.report
}

// theLog checks that every event is in the log as it should be.
func (c *check) theLog() {
	for i := range c.events {
		e := &c.events[i]
		if e.again >= 0 {
			c.violated(Twice, e, "the log", 0, "it is at offset %d and at %d", e.offset, e.again)
		}
		if e.published == nil {
			if e.listed && c.nameless[e.data] == 0 {
				c.violated(Invented, e, "the log", 0, "nobody published it")
			}
			continue
		}
		c.report.Published++
		if e.listed && e.data != e.published.Data {
			c.violated(Altered, e, "the log", 0, "the data isn't that which was published")
		}
		if e.published.Acknowledged.IsZero() {
			continue
		}
		c.report.Acknowledged++
		if c.logged && !e.listed {
			c.violated(Unlogged, e, "the log", e.published.Acknowledged.Sub(c.began), "it was acknowledged then")
		}
	}
	for _, n := range c.nameless {
		c.report.Published += n
	}
}

// content checks what somebody got against what was published. It says whether
// the event is one that this org may have.
func (c *check) content(e *event, org, environment string, patterns []string, whom string, data uint64, canary uint16, at time.Duration) bool {
	p := e.published
	if says := c.orgs.texts[canary]; p != nil && says != p.Org {
		c.violated(Foreign, e, whom, at, "what came names %q as its org, and the event is %s's", says, p.Org)
		return false
	}
	switch {
	case p == nil && c.nameless[data] > 0:
		return false // sent, and never answered: it may come, or not
	case p == nil:
		c.violated(Invented, e, whom, at, "nobody published it")
		return false
	case !p.sees(org, environment):
		c.violated(Foreign, e, whom, at, "it is for %v in %s, and %s's in %s got it", p.Audience, p.Environment, org, environment)
		return false
	case !c.want(patterns, p.Type):
		c.violated(Unwanted, e, whom, at, "its type is %s, and %v was asked for", p.Type, patterns)
		return false
	case data != p.Data:
		c.violated(Altered, e, whom, at, "the data isn't that which was published")
	}
	return true
}

// sees says whether an org may see the event.
func (e *Event) sees(org, environment string) bool {
	return e.Environment == environment && (slices.Contains(e.Audience, org) || slices.Contains(e.Audience, Everybody))
}

// want says whether one of the patterns matches the type.
func (c *check) want(patterns []string, typ string) bool {
	key := strings.Join(patterns, ",") + " " + typ
	yes, known := c.wants[key]
	if !known {
		yes = slices.ContainsFunc(patterns, func(p string) bool { return matches(p, typ) })
		c.wants[key] = yes
	}
	return yes
}

// matches says whether a pattern, in which a star is any run of characters,
// matches the whole text.
func matches(pattern, text string) bool {
	head, tail, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	for text = text[len(head):]; ; text = text[1:] {
		if matches(tail, text) {
			return true
		}
		if text == "" {
			return false
		}
	}
}

// touched says whether something that began and ended then may have met a fault.
func (c *check) touched(from, until time.Duration) bool {
	return slices.ContainsFunc(c.faults, func(f Fault) bool {
		return f.From.Sub(c.began)-c.rules.Slack <= until && from <= f.Until.Sub(c.began)+c.rules.Settle
	})
}

// delayed says whether a fault may be why something that was due at one time was
// done at another: it was done when that had hardly settled.
func (c *check) delayed(due, done time.Duration) bool {
	return slices.ContainsFunc(c.faults, func(f Fault) bool {
		settled := f.Until.Sub(c.began) + c.rules.Settle
		return f.From.Sub(c.began)-c.rules.Slack <= done && due <= settled && done <= settled
	})
}

func (c *check) violated(kind Kind, e *event, whom string, at time.Duration, format string, args ...any) {
	c.report.Add(Violation{Kind: kind, Event: e.id, Whom: whom, At: at, Text: fmt.Sprintf(format, args...)})
}

// unnamed counts the events of a part of the log that were published, and whose
// publisher was never told their names: nobody knows who may see them.
func (c *check) unnamed(from, to int64) (n int) {
	for i := range c.events {
		if e := &c.events[i]; e.published == nil && from <= e.offset && e.offset < to && c.nameless[e.data] > 0 {
			n++
		}
	}
	return n
}

// byOffset gives the numbers of the events that somebody is to see, in the log's
// order.
func (c *check) byOffset(org, environment string, patterns []string) []uint32 {
	key := strings.Join(append([]string{org, environment}, patterns...), " ")
	found, known := c.matches[key]
	if known {
		return found
	}
	for i := range c.events {
		if e := &c.events[i]; e.offset >= 0 && e.published != nil && e.published.sees(org, environment) && c.want(patterns, e.published.Type) {
			found = append(found, uint32(i))
		}
	}
	slices.SortFunc(found, func(a, b uint32) int { return cmp.Compare(c.events[a].offset, c.events[b].offset) })
	c.matches[key] = found
	return found
}
