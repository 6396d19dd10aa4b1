// Package delivery holds the noun between an event and an endpoint: one event
// owed to one endpoint, on its way through the tiers.
//
//	delivery.go   Delivery, Attempt, Outcome: what the dispatcher's records say
//	topics.go     where those records lie, and which lane looks after which endpoint
//	make.go       how a delivery comes about, its id, its next hop
//	claim.go      whose records count, when two owned a lane
//	exchange.go   what went over the wire in an attempt
//	record.go     their bytes (bytes.go: what those are made of)
package delivery

import (
	"strconv"
	"time"

	"sluice/pkg/event"
)

// Place is where a record lies within a lane.
type Place struct {
	Topic  string
	Offset int64
}

// Delivery is one event owed to one endpoint. The same record travels through
// the tiers, held and dead: each hop is appended before the one it came from is
// finished.
type Delivery struct {
	ID       string // a function of event, endpoint and replay; the same over all attempts
	Endpoint string
	Event    event.Event // Data is nil when it is kept by reference
	// Reference says that the event's data is to be read from the events log at
	// Event.Offset; data up to MaxInline bytes may travel along.
	Reference bool

	First   bool  // appended by fan-out, the only writer whose records may come twice
	Test    bool  // asked for by a person: never counted, never retried
	Control int64 // the endpoint's state must be at least as new as this offset of the control topic

	Attempts  int       // made so far
	Due       time.Time // not to be sent before; zero: at once
	FirstFail time.Time // when the first attempt failed; zero: none has

	// Origin is the record whose work this one takes over; zero on the first hop.
	Origin Place
	// Outcome is that of the attempt that made this hop; zero where none did.
	Outcome Outcome
	// Reason says, on a dead letter, why it is one.
	Reason string

	// Generation is that of the lane's owner that appended the record; 0: fan-out or
	// the api did, and it always counts.
	Generation uint64

	more string // tagged members, as they lie in the record: ours, and those of a later release
}

// MaxInline is the most data that travels inside a delivery, in bytes.
const MaxInline = 4 << 10

// Outcome is how an attempt ended. What a customer's server answers is an
// outcome, never an error of ours.
type Outcome struct {
	Class   Class
	Status  int           // HTTP status; 0: no answer
	Detail  string        // for people: what went wrong, at most 256 bytes
	Started time.Time     // wall clock
	Took    time.Duration // until status, or failure
	Epoch   uint64        // the endpoint's, when it was made
	RetryAt time.Time     // from Retry-After; zero: none
}

// Class sorts outcomes for metrics and people.
type Class string

// The classes of outcomes.
const (
	Delivered      Class = "delivered"
	HTTPError      Class = "http_error" // any status that isn't 2xx
	Timeout        Class = "timeout"
	DNS            Class = "dns"
	TLS            Class = "tls"
	Connection     Class = "connection"
	Protocol       Class = "protocol" // the answer isn't HTTP
	BlockedAddress Class = "blocked_address"
	Proxy          Class = "proxy" // the operator's proxy made no connection
)

// Classes lists all there are. What they mean to a receiver's author is in
// docs/webhooks.md.
var Classes = []Class{Delivered, HTTPError, Timeout, DNS, TLS, Connection, Protocol, BlockedAddress, Proxy}

// Name gives the class for people and programs: of an answer it says the status,
// as in http_500. Statuses have three digits, so that names are few.
func (c Class) Name(status int) string {
	if c == HTTPError {
		return "http_" + strconv.Itoa(status)
	}
	return string(c)
}

// Name gives the name of the outcome's class.
func (o *Outcome) Name() string { return o.Class.Name(o.Status) }

// OK reports whether the attempt delivered.
func (o *Outcome) OK() bool { return o.Class == Delivered }

// Attempt is the journal's record of an attempt that ended its delivery or made
// it go elsewhere.
type Attempt struct {
	Delivery string
	Endpoint string
	EventID  string
	Number   int
	Test     bool
	ByHand   bool   // asked for by a person, beside the schedule
	Replay   string // that the delivery is of; empty: none
	Outcome  Outcome
	Origin   Place

	// What readers need who don't know the delivery. Type is empty in records of
	// releases that didn't say.
	Environment event.Environment
	EventOffset int64
	Type        string
	Next        Next
	Exchange    Exchange

	Generation uint64 // of the lane's owner that made it; 0: of none

	more string // as a delivery's
}
