package ledger

import "time"

// closure is a time in which an endpoint gets nothing.
type closure struct {
	endpoint    uint16
	from, until time.Duration // until is 0: for good
	why         string
}

// Closed writes down that an endpoint gets nothing from a time on, at which the
// deployment had said so, until another; zero: for good. What was under way may
// arrive for as long as Rules.Slack.
func (l *Ledger) Closed(endpoint, why string, from, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := closure{endpoint: uint16(l.byID[endpoint]), from: from.Sub(l.began), why: why}
	if !until.IsZero() {
		c.until = until.Sub(l.began)
	}
	l.closures = append(l.closures, c)
}

// Standing is what the deployment shows of a delivery.
type Standing struct {
	Delivery, Event, Endpoint string
	Status                    string // pending, retrying, held, delivered, dead
	Attempts                  int
	At                        time.Time
}

type standing struct {
	event    uint32
	endpoint uint16
	attempts uint16
	status   string
	at       time.Duration
}

// Stood writes down where a delivery stands. Who asks does so in turn: what is
// written down later was asked for later.
func (l *Ledger) Stood(s Standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := standing{l.event(s.Event), uint16(l.byID[s.Endpoint]), uint16(s.Attempts), s.Status, s.At.Sub(l.began)}
	seen := l.stood[s.Delivery]
	if n := len(seen); n == 0 || seen[n-1].status != now.status || seen[n-1].attempts != now.attempts {
		l.stood[s.Delivery] = append(seen, now)
	}
}

// What is counted of an endpoint, or of all of an org; any other word is a state of
// which Owed told.
const (
	Attempts  = "attempts"
	Delivered = "delivered"
)

type count struct {
	whom, what string
	n          int
}

// Counted writes down what the deployment says it has counted, in the end, of an
// endpoint or of an org.
func (l *Ledger) Counted(whom, what string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = append(l.counts, count{whom, what, n})
}

// tally is what came, of what may be counted.
type tally struct {
	states    map[string]int
	uncertain int // attempts whose outcome may not have been kept
}

// counted notes what came of an endpoint, for it and its org.
func (c *check) counted(ep *Endpoint, number uint16, all []attempt, arrived map[uint32]bool, repeats int) {
	for _, whom := range []string{ep.ID, ep.Org} {
		t := c.tallies[whom]
		if t == nil {
			t = &tally{states: make(map[string]int)}
			c.tallies[whom] = t
		}
		t.states[Attempts] += len(all)
		t.uncertain += repeats
		for _, done := range arrived {
			if done {
				t.states[Delivered]++
			}
		}
		for of, state := range c.owed {
			if of.endpoint == number {
				t.states[state]++
			}
		}
	}
}

// barred checks that an endpoint got nothing while it was closed.
func (c *check) barred(ep *Endpoint, number uint16, all []attempt) {
	for _, cl := range c.closures {
		if cl.endpoint != number {
			continue
		}
		for _, a := range all {
			if a.started > cl.from+c.rules.Slack && (cl.until == 0 || a.started < cl.until) {
				c.violated(Barred, &c.events[a.event], ep.ID, a.started, "attempt %d came %v after it was %s", a.number, (a.started - cl.from).Round(time.Millisecond), cl.why)
			}
		}
	}
}

// overtaken checks that of each key an ordered endpoint got one after the other: none
// before the one before it was delivered, or had had its last attempt, or is said to
// be owed still.
func (c *check) overtaken(ep *Endpoint, number uint16, all []attempt) {
	over := make(map[uint32]time.Duration)
	for _, a := range all {
		if _, known := over[a.event]; !known && (a.status/100 == 2 || int(a.number) > len(ep.Schedule)) {
			over[a.event] = a.ended
		}
	}
	before := make(map[uint32]uint32) // the one before, of its key
	newest := make(map[string]uint32)
	for _, i := range c.byOffset(ep.Org, ep.Environment, ep.Patterns) {
		p := c.events[i].published
		if p.Sent.Before(ep.Since) || c.owed[pair{i, number}] != "" {
			continue
		}
		if b, known := newest[p.Key]; known {
			before[i] = b
		}
		newest[p.Key] = i
	}
	for _, a := range all {
		b, known := before[a.event]
		if !known {
			continue
		}
		if end, ended := over[b]; !ended || end > a.started+earlyBy {
			c.violated(Overtaken, &c.events[a.event], ep.ID, a.started, "key %q: attempt %d came before %s was over", c.events[b].published.Key, a.number, c.events[b].id)
		}
	}
}

// theStates checks what the deployment showed of deliveries, and what it counted.
func (c *check) theStates() {
	delivered := make(map[pair]bool)
	for _, a := range c.attempts {
		if a.status/100 == 2 {
			delivered[pair{a.event, a.endpoint}] = true
		}
	}
	for _, seen := range c.stood {
		for i, now := range seen {
			e, ep := &c.events[now.event], &c.endpoints[now.endpoint]
			if p := e.published; p != nil && !p.sees(ep.Org, ep.Environment) {
				c.violated(Foreign, e, ep.ID, now.at, "it is for %v in %s, and is shown to %s in %s", p.Audience, p.Environment, ep.Org, ep.Environment)
			}
			if now.status == "delivered" && !delivered[pair{now.event, now.endpoint}] {
				c.violated(Disagrees, e, ep.ID, now.at, "it is shown as delivered and never arrived")
			}
			if i > 0 && backwards(seen[i-1], now) {
				c.violated(Regressed, e, ep.ID, now.at, "it was %s after %d attempts, and is %s after %d", seen[i-1].status, seen[i-1].attempts, now.status, now.attempts)
			}
		}
	}
	for _, said := range c.counts {
		came := c.tallies[said.whom]
		if came == nil {
			came = new(tally)
		}
		n, least := came.states[said.what], came.states[said.what]
		if said.what == Attempts {
			least -= came.uncertain
		}
		if said.n > n || said.n < least {
			c.violated(Disagrees, &event{id: "none"}, said.whom, 0, "it counts %d %s, and %d came, of which %d may not count", said.n, said.what, n, n-least)
		}
	}
}

// stages are what a delivery goes through; those of one stage come in any order.
var stages = map[string]int{"pending": 0, "retrying": 1, "held": 1, "dead": 2, "delivered": 3}

// backwards says whether a delivery can't have gone from one state to another. Only
// what is dead may be sent again.
func backwards(from, to standing) bool {
	switch {
	case to.attempts < from.attempts:
		return true
	case from.status == "dead":
		return to.status == "pending"
	}
	return stages[to.status] < stages[from.status]
}
