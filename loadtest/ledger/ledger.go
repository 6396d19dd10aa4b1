// Package ledger holds what a deployment promised against what it did. Whoever
// loads it writes down what was acknowledged, whoever receives writes down what
// came, and who breaks it writes down when; then Check, which looks at nothing
// else, names everything that doesn't fit.
//
//	publishers ── Published ──┐
//	receivers ─── Attempted ──┤
//	clients ───── Stream ─────┼──► Ledger ──► Check ──► Report: figures, violations
//	the log ───── Logged ─────┤                           │
//	nemesis ───── Broke ──────┤                           └──► History of one event
//	the API ───── Closed, Stood, Owed, Counted
//
// What must hold, and the kind of violation when it doesn't:
//
//   - What was acknowledged reaches every endpoint that wants it (Lost), and is in
//     the log (Unlogged), once (Twice).
//   - Nothing comes that wasn't published (Invented), or in another form (Altered),
//     or unsigned (Unsigned), or to who may not see it (Foreign) or didn't ask for
//     it (Unwanted).
//   - A delivery comes again only when something broke, and then no more of them
//     than were in flight (Repeated). Attempts are numbered in turn (Misnumbered)
//     and keep to the schedule (Early, Late).
//   - What comes was signed just now (Stale).
//   - First attempts of one key begin in the log's order (Reordered); to an ordered
//     endpoint none begins before the one before it is over (Overtaken).
//   - An endpoint that is paused, disabled or deleted gets nothing (Barred).
//   - What is shown of a delivery goes forward only (Regressed); that, and what is
//     counted, is what came (Disagrees).
//   - A stream's offsets rise (Backwards), over any number of connections; between
//     two frames nothing is missing that wasn't declared (Hole), and nothing is
//     declared that wasn't missing (Miscounted).
//
// It is all in memory: about 330 bytes for an event, 56 for an attempt, 40 for a
// frame. Half an hour at 300 events a second, each delivered three times and
// streamed to ten clients, takes 450 MB, and the check of it seconds.
//
// Reading order: ledger.go stream.go states.go; check.go attempts.go frames.go;
// report.go history.go.
package ledger

import (
	"hash/maphash"
	"sync"
	"time"
)

// Rules are the tolerances of a check.
type Rules struct {
	// Slack is what may lie between something and our learning of it: the answer
	// of a receiver and the durable outcome, the begin of an attempt and its arrival.
	Slack time.Duration
	// Settle is how long after its end a fault may still be the cause of something:
	// until another has taken the work over.
	Settle time.Duration
}

// Event is one published fact.
type Event struct {
	ID           string // unique in the run; empty: nobody told us, since it was never answered
	Org          string
	Environment  string
	Audience     []string // orgs that may see it; Everybody alone: all; nil: Org
	Type, Key    string
	Data         uint64 // Hash
	Sent         time.Time
	Acknowledged time.Time // zero: never; then it may be in the log or not
}

// Everybody is the audience of all orgs.
const Everybody = "*"

// Endpoint is a receiver of webhooks. It is owed what was sent after Since.
type Endpoint struct {
	ID, Org, Environment string
	Patterns             []string
	Since                time.Time
	Schedule             []time.Duration // delays before the second attempt, the third, …
	InFlight             int             // how many deliveries may be under way at once
	Ordered              bool            // it gets one delivery of a key at a time, in the log's order
	Late                 time.Duration   // how much later than the schedule an attempt may begin; 0: any
}

// Attempt is one request that a receiver got.
type Attempt struct {
	Event, Endpoint, Delivery string
	Number                    int // as it said: 1, 2, …
	Data                      uint64
	Canary                    string    // the org that the data names as its own
	Verified                  bool      // the signature is right
	Signed                    time.Time // when, as it says; zero: nobody looked
	Started, Ended            time.Time
	Status                    int // the answer it was given; 0: none
}

// Fault is something that was broken on purpose.
type Fault struct {
	What        string // "kill -9", …
	Whom        string
	From, Until time.Time
	// Repeats says that deliveries in flight may come again, at most
	// Endpoint.InFlight of each endpoint.
	Repeats bool
}

// Ledger is what was written down so far. All its methods may be called
// concurrently, those of one Stream from one goroutine.
type Ledger struct {
	rules Rules
	began time.Time

	mu        sync.Mutex
	index     map[string]uint32 // of events, by id
	events    []event
	nameless  map[uint64]int // hashes of data that was published without an answer
	orgs      names
	endpoints []Endpoint
	byID      map[string]int // endpoints
	attempts  []attempt
	owed      map[pair]string
	closures  []closure
	stood     map[string][]standing // by delivery, in the order in which it was seen
	counts    []count
	streams   []*Stream
	faults    []Fault
	logged    bool // the log was read to its end
}

// event is what is known of one id, from whoever spoke of it first.
type event struct {
	id        string
	published *Event // nil: nobody has published it, so far
	offset    int64  // in the log; unknown: -1
	again     int64  // another offset that it was seen at; -1: none
	listed    bool   // it is in the log
	data      uint64 // there
}

// attempt is an Attempt, compact.
type attempt struct {
	started, ended time.Duration // since the ledger began
	signed         time.Duration // 0: nobody looked
	data           uint64
	delivery       uint64 // hash of its id
	event          uint32
	endpoint       uint16
	canary         uint16
	number         uint16
	status         uint16
	verified       bool
}

// pair is an event and an endpoint.
type pair struct {
	event    uint32
	endpoint uint16
}

// New makes an empty ledger.
func New(rules Rules) *Ledger {
	return &Ledger{rules: rules, began: time.Now(), index: make(map[string]uint32), nameless: make(map[uint64]int),
		byID: make(map[string]int), owed: make(map[pair]string), stood: make(map[string][]standing)}
}

var seed = maphash.MakeSeed()

// Hash stands for data in this process.
func Hash(data []byte) uint64 { return maphash.Bytes(seed, data) }

// Published writes down an event when it is acknowledged, or given up.
func (l *Ledger) Published(e Event) {
	if e.Audience == nil {
		e.Audience = []string{e.Org}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.ID == "" {
		l.nameless[e.Data]++
		return
	}
	l.events[l.event(e.ID)].published = &e
}

// Logged writes down an event that was found in the log, and where. LogRead says
// that all of them were.
func (l *Ledger) Logged(id string, offset int64, data uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.event(id)
	l.events[i].listed, l.events[i].data = true, data
	l.at(i, offset)
}

// LogRead says that every event in the log is Logged.
func (l *Ledger) LogRead() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logged = true
}

// Registered writes down an endpoint.
func (l *Ledger) Registered(e Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byID[e.ID] = len(l.endpoints)
	l.endpoints = append(l.endpoints, e)
}

// Attempted writes down a request, when it has been answered. The endpoint is
// registered by then.
func (l *Ledger) Attempted(a Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var signed time.Duration
	if !a.Signed.IsZero() {
		signed = a.Signed.Sub(l.began)
	}
	l.attempts = append(l.attempts, attempt{
		signed: signed, started: a.Started.Sub(l.began), ended: a.Ended.Sub(l.began),
		data: a.Data, delivery: Hash([]byte(a.Delivery)), event: l.event(a.Event), endpoint: uint16(l.byID[a.Endpoint]),
		canary: l.orgs.number(a.Canary), number: uint16(a.Number), status: uint16(a.Status), verified: a.Verified,
	})
}

// Owed writes down that a delivery isn't lost although it never arrived: the
// deployment says itself that it is pending, held or dead.
func (l *Ledger) Owed(event, endpoint, state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owed[pair{l.event(event), uint16(l.byID[endpoint])}] = state
}

// Broke writes down a fault, when it is over.
func (l *Ledger) Broke(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, f)
}

// event gives the number of the event with this id; l.mu is held.
func (l *Ledger) event(id string) uint32 {
	i, known := l.index[id]
	if !known {
		i = uint32(len(l.events))
		l.index[id] = i
		l.events = append(l.events, event{id: id, offset: -1, again: -1})
	}
	return i
}

// at notes an offset of an event; l.mu is held.
func (l *Ledger) at(i uint32, offset int64) {
	switch e := &l.events[i]; {
	case e.offset < 0:
		e.offset = offset
	case e.offset != offset:
		e.again = offset
	}
}

// names gives small numbers to texts that come often.
type names struct {
	numbers map[string]uint16
	texts   []string
}

func (n *names) number(text string) uint16 {
	i, known := n.numbers[text]
	if !known {
		if n.numbers == nil {
			n.numbers = make(map[string]uint16)
		}
		i = uint16(len(n.texts))
		n.numbers[text] = i
		n.texts = append(n.texts, text)
	}
	return i
}
