package ledger

import (
	"cmp"
	"slices"
	"time"
)

// theAttempts checks what receivers got, endpoint by endpoint.
func (c *check) theAttempts() {
	slices.SortFunc(c.attempts, func(a, b attempt) int {
		return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.event, b.event), cmp.Compare(a.started, b.started))
	})
	rest := c.attempts
	for number := range c.endpoints {
		ep := &c.endpoints[number]
		var repeats []repeat
		var first []attempt
		arrived := make(map[uint32]bool)
		all := rest
		for len(rest) > 0 && int(rest[0].endpoint) == number {
			n := 1
			for n < len(rest) && rest[n].endpoint == rest[0].endpoint && rest[n].event == rest[0].event {
				n++
			}
			of := rest[:n]
			rest = rest[n:]
			if of[0].number == 1 {
				first = append(first, of[0])
			}
			done, again := c.delivery(ep, of)
			arrived[of[0].event] = done
			repeats = append(repeats, again...)
		}
		all = all[:len(all)-len(rest)]
		c.lost(ep, uint16(number), arrived)
		c.barred(ep, uint16(number), all)
		c.counted(ep, uint16(number), all, arrived, len(repeats))
		if ep.Ordered {
			c.overtaken(ep, uint16(number), all)
		}
		slices.SortFunc(first, func(a, b attempt) int { return cmp.Compare(a.started, b.started) })
		c.repeated(ep, repeats, first)
		c.order(ep, first)
	}
}

// repeat is an attempt that came again, and the one that it repeats.
type repeat struct{ before, again attempt }

// delivery checks the attempts of one event at one endpoint, oldest first. It says
// whether one succeeded, and which came again.
func (c *check) delivery(ep *Endpoint, of []attempt) (done bool, again []repeat) {
	e := &c.events[of[0].event]
	for i, a := range of {
		if a.status/100 != 2 {
			c.report.Failed++
		}
		if !a.verified {
			c.violated(Unsigned, e, ep.ID, a.started, "attempt %d", a.number)
		}
		if off := a.started - a.signed; a.signed != 0 && off.Abs() > c.rules.Slack+time.Second { // it says whole seconds
			c.violated(Stale, e, ep.ID, a.started, "attempt %d was signed %v before it came", a.number, off)
		}
		if a.delivery != of[0].delivery {
			c.violated(Misnumbered, e, ep.ID, a.started, "attempt %d has another delivery id than the one before", a.number)
		}
		c.content(e, ep.Org, ep.Environment, ep.Patterns, ep.ID, a.data, a.canary, a.started)
		if before, repeats := repeatOf(of[:i], a); repeats {
			again = append(again, repeat{before, a})
		} else {
			c.turn(ep, e, of[:i], a)
		}
		done = done || a.status/100 == 2
	}
	return done, again
}

// repeatOf finds the attempt that a repeats: one that succeeded, or had its number,
// or a later one.
func repeatOf(before []attempt, a attempt) (attempt, bool) {
	for i := len(before) - 1; i >= 0; i-- {
		if b := before[i]; b.status/100 == 2 || b.number >= a.number {
			return b, true
		}
	}
	return attempt{}, false
}

// turn checks that an attempt follows from those before it, at its time.
func (c *check) turn(ep *Endpoint, e *event, before []attempt, a attempt) {
	if int(a.number) > len(ep.Schedule)+1 || a.number == 0 {
		c.violated(Misnumbered, e, ep.ID, a.started, "attempt %d of a schedule with %d", a.number, len(ep.Schedule)+1)
		return
	}
	last := 0 // the number before this
	var earliest, latest time.Duration
	for _, b := range before {
		if int(b.number) > last {
			last, earliest = int(b.number), b.ended
		}
		latest = b.ended
	}
	if int(a.number) != last+1 {
		if !c.touched(latest, a.started) { // else one may have been cut off on its way
			c.violated(Misnumbered, e, ep.ID, a.started, "attempt %d came after attempt %d", a.number, last)
		}
		return
	}
	if last == 0 {
		return
	}
	delay := ep.Schedule[last-1]
	if wait := a.started - earliest; wait < delay-earlyBy {
		c.violated(Early, e, ep.ID, a.started, "attempt %d came %v after the one before, and %v is its delay", a.number, wait, delay)
	}
	if wait := a.started - latest; ep.Late > 0 && wait > delay+delay/5+ep.Late && !c.delayed(latest, a.started-ep.Late) {
		c.violated(Late, e, ep.ID, a.started, "attempt %d came %v after the one before, and %v is its delay", a.number, wait, delay)
	}
}

// earlyBy is what clocks are rounded by. All that is compared is of one clock: the
// end of an attempt is noted before its sender can know it, and the next begins when
// a receiver has it. A process that sends what failed at another waits for a little
// longer than the delay.
const earlyBy = time.Millisecond

// lost checks that what an endpoint is owed has arrived.
func (c *check) lost(ep *Endpoint, number uint16, arrived map[uint32]bool) {
	for i := range c.events {
		e := &c.events[i]
		p := e.published
		if p == nil || p.Acknowledged.IsZero() || p.Sent.Before(ep.Since) || !p.sees(ep.Org, ep.Environment) || !c.want(ep.Patterns, p.Type) {
			continue
		}
		c.report.Owed++
		if arrived[uint32(i)] {
			c.report.Delivered++
		} else if state := c.owed[pair{uint32(i), number}]; state != "" {
			c.report.Admitted++
		} else {
			c.violated(Lost, e, ep.ID, p.Acknowledged.Sub(c.began), "it was acknowledged then and never arrived")
		}
	}
}

// repeated checks that what came again was in flight when something broke, and
// that no fault accounts for more than may be in flight. A repeat that several faults
// may be the cause of is put down to the one that others can do without. First are the
// endpoint's first attempts.
func (c *check) repeated(ep *Endpoint, repeats []repeat, first []attempt) {
	slices.SortFunc(repeats, func(a, b repeat) int { return cmp.Compare(a.again.started, b.again.started) })
	causes := make([][]int, len(repeats)) // of each, the faults that may be
	for i, r := range repeats {
		for f := range c.faults {
			if c.faults[f].Repeats && c.interrupted(f, r) && r.again.started <= c.settled(f, r, first) {
				causes[i] = append(causes[i], f)
			}
		}
	}
	caused := make([][]int, len(c.faults)) // by each, so far
	// place finds a fault for a repeat, if need be by finding others for those that have it.
	var place func(i int, seen []bool) bool
	place = func(i int, seen []bool) bool {
		for _, f := range causes[i] {
			if seen[f] {
				continue
			}
			seen[f] = true
			if len(caused[f]) < ep.InFlight {
				caused[f] = append(caused[f], i)
				return true
			}
			for at, other := range caused[f] {
				if place(other, seen) {
					caused[f][at] = i
					return true
				}
			}
		}
		return false
	}
	for i, r := range repeats {
		c.report.Repeats++
		if !place(i, make([]bool, len(c.faults))) {
			c.violated(Repeated, &c.events[r.again.event], ep.ID, r.again.started, "attempt %d, answered with %d, came again as attempt %d, %v after its end, and no fault accounts for it",
				r.before.number, r.before.status, r.again.number, (r.again.started - r.before.ended).Round(time.Millisecond))
		}
	}
	for _, of := range caused {
		c.report.Worst = max(c.report.Worst, len(of))
	}
}

// interrupted says whether a fault may be why an attempt came again: the first had
// begun when the fault was over, its outcome wasn't durable long before the fault
// began, and the second came behind that.
func (c *check) interrupted(fault int, r repeat) bool {
	f := &c.faults[fault]
	from, until := f.From.Sub(c.began), f.Until.Sub(c.began)
	return r.before.started <= until+c.rules.Slack && r.before.ended >= from-c.rules.Slack && r.again.started >= from-c.rules.Slack
}

// settled finds out by when what a fault interrupted is taken up at the latest.
// Whoever is about to may be hit by the next fault. Whoever sends what lies behind
// it in the log has taken it up: then no later fault is why it comes again.
//
//	fault ▒▒▒├── Settle ──┤
//	               ▒▒▒├── Settle ──┤
//	                          ▒▒▒├── Settle ──┤ settled
func (c *check) settled(fault int, r repeat, first []attempt) time.Duration {
	over := c.faults[fault].Until.Sub(c.began)
	for _, next := range c.faults[fault+1:] {
		from := next.From.Sub(c.began)
		if from > over+c.rules.Settle || c.resumed(r, first, over, from-c.rules.Slack) {
			break
		}
		if next.Repeats {
			over = max(over, next.Until.Sub(c.began))
		}
	}
	return over + c.rules.Settle
}

// resumed says whether the endpoint was sent, for the first time, what lies behind
// an attempt's event in the log, and when. First is in the order of time.
func (c *check) resumed(r repeat, first []attempt, from, until time.Duration) bool {
	at, _ := slices.BinarySearchFunc(first, from, func(a attempt, t time.Duration) int { return cmp.Compare(a.started, t) })
	for _, a := range first[at:] {
		if a.started > until {
			break
		}
		if c.events[a.event].offset > c.events[r.before.event].offset {
			return true
		}
	}
	return false
}

// order checks that first attempts of one key began in the log's order. What is
// sent at the same time arrives in any: only what began when a later one had
// already ended is out of order.
func (c *check) order(ep *Endpoint, first []attempt) {
	type keyed struct {
		running []attempt // begun, and perhaps not ended
		newest  attempt   // of those that have ended, the last in the log
		offset  int64
	}
	keys := make(map[string]*keyed)
	for _, a := range first {
		e := &c.events[a.event]
		if e.published == nil || e.offset < 0 {
			continue
		}
		k := keys[e.published.Key]
		if k == nil {
			k = &keyed{offset: -1}
			keys[e.published.Key] = k
		}
		k.running = slices.DeleteFunc(k.running, func(b attempt) bool {
			if b.ended+c.rules.Slack >= a.started {
				return false
			}
			if o := c.events[b.event].offset; o > k.offset {
				k.newest, k.offset = b, o
			}
			return true
		})
		if k.offset > e.offset && !c.delayed(k.newest.started, a.started) {
			c.violated(Reordered, e, ep.ID, a.started, "key %q: it lies before %s in the log, and came %v after that had ended",
				e.published.Key, c.events[k.newest.event].id, (a.started - k.newest.ended).Round(time.Millisecond))
		}
		k.running = append(k.running, a)
	}
}
