package book

import (
	"net/http"
	"time"

	"sluice/loadtest/ledger"
)

// judging is what it takes to tell whether a fault is why a delivery came again.
type judging struct {
	rules    ledger.Rules
	inFlight int // how many deliveries of an endpoint one fault may repeat
	faults   []ledger.Fault
}

// span32 is from when until when an attempt was under way, in milliseconds since the
// book began.
type span32 struct{ from, until uint32 }

// repeat is an attempt that came again.
type repeat struct {
	number, attempt int
	arrived         bool // the one before had
	before, again   span32
}

// mostRepeats of one endpoint are held against faults.
const mostRepeats = 100_000

// Judge has what comes again held against what broke: deliveries that were in flight
// then may, at most so many of each endpoint (Repeated). It is called before there are
// endpoints; each event takes 12 bytes more at each.
func (b *Book) Judge(rules ledger.Rules, inFlight int) {
	b.judging = &judging{rules: rules, inFlight: inFlight}
}

// Broke writes down a fault, when it is over.
func (b *Book) Broke(f ledger.Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.judging.faults = append(b.judging.faults, f)
}

func (b *Book) millis(t time.Time) uint32 { return uint32(max(0, t.Sub(b.began).Milliseconds())) }

func (b *Book) at(millis uint32) time.Time {
	return b.began.Add(time.Duration(millis) * time.Millisecond)
}

// again writes down that an attempt came again; e.mu is held.
func (e *Endpoint) again(number, attempt int, at span32) {
	e.repeats++
	switch {
	case e.times == nil:
	case len(e.repeated) < mostRepeats:
		e.repeated = append(e.repeated, repeat{number, attempt, e.arrived.has(number), e.times[number], at})
	default:
		e.book.Violated(ledger.Repeated, number, e.name, "attempt %d is one of more than %d that came again", attempt, mostRepeats)
	}
}

// judge has a ledger say which of what came again no fault accounts for: it knows these
// attempts, and of first ones as many as it takes to see how far each endpoint had come in
// the log, and judges them as those of any load.
func (b *Book) judge(r *ledger.Report, classes []*Class, endpoints []*Endpoint) {
	b.mu.Lock()
	faults := b.judging.faults
	b.mu.Unlock()
	l, made := ledger.New(b.judging.rules), time.Now()
	for _, f := range faults {
		l.Broke(f)
	}
	offsets := b.offsets(classes)
	for _, e := range endpoints {
		e.judge(l, offsets)
	}
	judged := l.Check()
	r.Faults, r.Repeating, r.Worst = judged.Faults, judged.Repeating, judged.Worst
	known := r.Count[ledger.Repeated]
	for _, v := range judged.Violations {
		if v.Kind == ledger.Repeated {
			v.At += made.Sub(b.began)
			r.Add(v)
		}
	}
	if more := judged.Count[ledger.Repeated]; more > 0 { // of which the first are there
		r.Count[ledger.Repeated] = known + more
	}
}

// offsets gives the places of events in the log, plus 1, as far as any stream saw them.
func (b *Book) offsets(classes []*Class) []int64 {
	offsets := make([]int64, len(b.events))
	for i := range b.places {
		offsets[i] = b.places[i].Load()
	}
	for _, c := range classes {
		c.mu.Lock()
		for _, p := range c.log {
			offsets[p.number] = p.offset + 1
		}
		c.mu.Unlock()
	}
	return offsets
}

// judge writes what came again into a ledger, and what it repeats.
func (e *Endpoint) judge(l *ledger.Ledger, offsets []int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.repeated) == 0 {
		return
	}
	l.Registered(ledger.Endpoint{ID: e.name, InFlight: e.book.judging.inFlight})
	last := make(map[int]span32) // what is there of an event
	for _, r := range e.repeated {
		if at := offsets[r.number]; at > 0 {
			l.Logged(e.book.name(r.number), at-1, 0)
		}
		a := ledger.Attempt{Event: e.book.name(r.number), Endpoint: e.name, Number: r.attempt, Verified: true}
		if r.arrived {
			a.Status = http.StatusOK
		}
		if last[r.number] != r.before {
			a.Started, a.Ended = e.book.at(r.before.from), e.book.at(r.before.until)
			l.Attempted(a)
		}
		a.Started, a.Ended = e.book.at(r.again.from), e.book.at(r.again.until)
		l.Attempted(a)
		last[r.number] = r.again
	}
	e.progress(l, offsets, last)
}

// apart is how finely it is told how far an endpoint had come, in milliseconds.
const apart = 100

// progress writes down how far in the log the endpoint had come when: who sends what lies
// behind a repeated event has taken that up. It takes, of the first attempts that began
// within a moment, the one that lies farthest. known are events that are there already.
func (e *Endpoint) progress(l *ledger.Ledger, offsets []int64, known map[int]span32) {
	farthest := make(map[uint32]int) // event, by moment
	for number, began := range e.firsts {
		if _, there := known[number]; there || began == 0 || offsets[number] == 0 {
			continue
		}
		if other, any := farthest[began/apart]; !any || offsets[other] < offsets[number] {
			farthest[began/apart] = number
		}
	}
	for _, number := range farthest {
		id, began := e.book.name(number), e.book.at(e.firsts[number])
		l.Logged(id, offsets[number]-1, 0)
		l.Attempted(ledger.Attempt{Event: id, Endpoint: e.name, Number: 1, Verified: true, Started: began, Ended: began, Status: http.StatusOK})
	}
}
