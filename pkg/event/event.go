// Package event holds the noun that everything else is about, and what is said of
// it everywhere: which type pattern it matches, which cursor points behind it,
// how it lies in the log, and whether it is a copy.
//
//	event.go    Event, Environment, Audience
//	type.go     event types and the patterns that match them
//	cursor.go   a place in the log that a reader can come back to
//	record.go   the bytes of an event in its topic (plain.go: as others write them)
//	claim.go    what tells a copy of an event from the event
//	data.go     strict I-JSON in, the form that JSON.stringify prints out
//	            (scan.go and number.go do it, rebuild.go has the last word)
//	id.go       the ids that we make
//	disabled.go the event that sluice itself publishes
//
// It imports nothing of ours, does no I/O and reads no clock.
package event

import (
	"slices"
	"time"
)

// Environment separates test traffic from real traffic. It comes from the key
// that publishes or subscribes; nothing ever crosses from one to the other.
type Environment uint8

// The two environments. The zero value is neither, so that a forgotten one is
// noticed.
const (
	Sandbox Environment = 1
	Live    Environment = 2
)

// Environments lists both, in the order of their numbers.
var Environments = []Environment{Sandbox, Live}

// String gives the word used in topics, messages and metrics.
func (e Environment) String() string {
	switch e {
	case Sandbox:
		return "sandbox"
	case Live:
		return "live"
	}
	return "unknown"
}

// ParseEnvironment reads what String prints.
func ParseEnvironment(s string) (Environment, bool) {
	switch s {
	case "sandbox":
		return Sandbox, true
	case "live":
		return Live, true
	}
	return 0, false
}

// Topic names the log topic that keeps this environment's events. It has one
// partition, so its offsets are a total order.
func (e Environment) Topic() string {
	switch e {
	case Sandbox:
		return "events.sandbox"
	case Live:
		return "events.live"
	}
	return "events.unknown"
}

// Audience says which orgs may see an event. The zero value is nobody: ingest
// puts the publishing org in when the publisher named no audience.
type Audience struct {
	All  bool     // every org, those made later too
	Orgs []string // else these, sorted, each once
}

// Includes reports whether org may see the event.
func (a Audience) Includes(org string) bool {
	if a.All {
		return true
	}
	_, found := slices.BinarySearch(a.Orgs, org)
	return found
}

// Event is one published fact. Once decoded it is shared between goroutines and
// never changed.
type Event struct {
	ID          string
	Type        string
	Timestamp   time.Time // the publisher's word for when it happened; UTC, milliseconds; shown, used for nothing else
	Environment Environment
	Org         string // the org that published it
	Audience    Audience
	Key         string  // events with the same key keep their order
	Corridor    string  // routing attribute; empty: none
	Network     string  // routing attribute; empty: none
	Data        []byte  // a JSON object in canonical form
	Members     Members // which envelope names the data object has members of
	Claim       Claim   // which event of which claim; zero: it was appended without, or together with, its claim

	Offset int64     // place in the topic of its environment; set by the reader of the log
	Logged time.Time // when the log took it; set by the reader of the log
}

// Members is a set of names that a dialect's envelope may use beside the
// members of data. It is noted once, at ingest, so that whoever splices data
// into an envelope knows without parsing whether a name would stand twice.
type Members uint8

// The names that any dialect's flat envelope uses.
const (
	MemberType Members = 1 << iota
	MemberID
	MemberTimestamp
	MemberCursor
	MemberNetwork
	MemberSubscriptionID
)

// MemberNames maps a data object's member name to its bit.
var MemberNames = map[string]Members{
	"type": MemberType, "id": MemberID, "timestamp": MemberTimestamp,
	"cursor": MemberCursor, "network": MemberNetwork, "subscription_id": MemberSubscriptionID,
}

// TimestampLayout is how an event's timestamp is written in every dialect: UTC
// with milliseconds.
const TimestampLayout = "2006-01-02T15:04:05.000Z"

// How long events are kept. They are shown for a day less, so that what is
// owed to somebody outlives what points to it.
const (
	Shown = 7 * 24 * time.Hour
	Kept  = 8 * 24 * time.Hour
)

// The bounds of an event, in bytes.
const (
	MaxType = 128
	MaxID   = 64
	MaxData = 256 << 10
	MaxKey  = 256
)
