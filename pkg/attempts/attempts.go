// Package attempts is the view of what became of deliveries: one narrow row for
// each, derived from the lanes' topics, for whoever asks. Nothing is decided by
// it, and it can be thrown away: it is made anew from the topics.
//
//	tier.0s ─┐ 16 partitions each
//	held    ─┤                                      ┌─ index/     in --data
//	dead    ─┼─► View: fold ─► gather ─► Store.Merge┤
//	attempts─┘                                      └─ postgres/  --attempts-db
//	    └──────────────◄── headers, answers, by offset ──┘ List, Find, Of
//
//	attempts.go    Row, Store
//	fold.go        a record as what it says of a delivery; two sayings, merged
//	view.go        View: the store kept up with the log
//	read.go        what can be asked of it
//	recent.go      deliveries of many endpoints as one list
//	attemptstest/  the suite that both stores pass
//
// # The order of things
//
// What is said of one delivery lies in several partitions, which nobody reads in
// step. So a row is what its sayings come to in whatever order, and however often
// each is met: each has a step in the delivery's life, and the furthest counts.
// A status therefore only moves forward, on every node and over rebuilds. See Step.
package attempts

import (
	"context"
	"errors"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Kept is how long a delivery is shown after its event was logged.
const Kept = event.Shown

// ErrBehind says that another process has begun to lead since: what it knows of the
// store's positions this one doesn't.
var ErrBehind = errors.New("attempts: another process writes the rows now")

// Status is where a delivery stands.
type Status uint8

// The statuses. Numbers are kept in stores.
const (
	Pending   Status = 1 // it wasn't tried yet
	Retrying  Status = 2 // it failed and is tried again
	Held      Status = 3 // its endpoint can't take it now
	Dead      Status = 4 // it isn't tried again, unless somebody asks
	Failed    Status = 5 // a test that failed
	Delivered Status = 6
)

// Step is how far a delivery came: the attempts of its schedule, and what followed
// the last of them. Steps of one delivery are in the order of its life, except that
// a dead letter that was sent again and then held is shown as retrying until its
// next attempt. Whatever comes behind a success changes nothing.
type Step int32

// What follows an attempt, in this order.
const (
	stepPending Step = iota
	stepRetrying
	stepHeld
	stepDead
	stepAgain
	stepFailed

	stepsEach           = 8
	stepDelivered Step  = 1<<31 - 1
	stepNone      Step  = -1 // nothing is said of where it stands
	mostAttempts  int32 = 1 << 24
)

func stepOf(attempts int, what Step) Step {
	return Step(min(max(int32(attempts), 0), mostAttempts))*stepsEach + what
}

// Status tells what is shown of the step; 0: nothing is known.
func (s Step) Status() Status {
	if s == stepDelivered {
		return Delivered
	}
	if s < 0 {
		return 0
	}
	switch s % stepsEach {
	case stepPending:
		return Pending
	case stepHeld:
		return Held
	case stepDead:
		return Dead
	case stepFailed:
		return Failed
	}
	return Retrying
}

// Key names a delivery, and its place among those of its endpoint.
type Key struct {
	Endpoint string
	Event    int64 // offset of its event; a test's: where the events ended
	Delivery string
}

// Row is what is known of a delivery. A row made of one record is a part of it.
type Row struct {
	Key
	Environment event.Environment
	EventID     string
	Type        string
	Test        bool
	First       bool // of a part: the record that began the delivery is in it; stores don't keep it

	Step   Step
	Next   time.Time // of the next attempt; zero: none is set
	Reason string    // of a dead letter

	Created, Updated time.Time // when the first and the newest record were logged

	Number   int            // of the newest attempt; 0: there was none
	Class    delivery.Class // of that
	HTTP     int            // its status
	Attempts []int64        // offsets of the newest attempts' records, rising, in the endpoint's lane; at most MaxAttempts
}

// MaxAttempts is how many attempts of a delivery are remembered.
const MaxAttempts = 50

// Position is how far a partition was read: all below Next is in the rows, and
// Fence tells which records count from there on.
type Position struct {
	eventlog.Partition
	Next  int64
	Fence delivery.Fence
}

// Query asks for deliveries of an endpoint, the newest events first.
type Query struct {
	Endpoint string
	Statuses []Status // empty: all
	From, To int64    // offsets of events, To excluded; 0 for To: no bound
	Before   Key      // a place in the list: those behind it; zero: the beginning
	Limit    int
}

// Page is what List gives: Next is where the list goes on, zero at its end. A page
// may be short of its limit, or empty, though the list goes on.
type Page struct {
	Rows []Row
	Next Key
}

// Store keeps rows. All methods may be called from any number of goroutines, but
// Merge, Forget and Expire only by who leads.
type Store interface {
	// Lead waits until this process is the one that writes, until ctx ends or
	// release is called. Of several processes on one store one leads at a time.
	// lost is closed when it may be another that does.
	Lead(ctx context.Context) (lost <-chan struct{}, release func(), err error)
	// Begin drops all rows if they are of another log than the one named.
	Begin(ctx context.Context, log string) error
	// Positions gives how far each partition was read; those that are missing
	// weren't yet.
	Positions(ctx context.Context) (map[eventlog.Partition]Position, error)
	// Merge brings parts of rows into the rows, no two of one key, and moves the
	// positions: all of it or nothing. ErrBehind says that another process leads.
	Merge(ctx context.Context, parts []Row, to []Position) error
	// Forget drops all rows of an endpoint.
	Forget(ctx context.Context, endpoint string) error
	// Endpoints lists those that have rows, in order, behind one: at most limit.
	Endpoints(ctx context.Context, after string, limit int) ([]string, error)
	// Expire drops the rows of an environment's events below the offset. It may leave
	// some of them for later.
	Expire(ctx context.Context, env event.Environment, before int64) error

	List(ctx context.Context, q Query) (Page, error)
	// Find gives a delivery of an endpoint; nil: there is none.
	Find(ctx context.Context, endpoint, delivery string) (*Row, error)
	// Count gives how many deliveries an endpoint has of events from the offset on, and
	// counts no further than most.
	Count(ctx context.Context, endpoint string, from int64, most int) (int, error)
	// Of lists the deliveries of an event in order of their ids, behind one: at most
	// limit.
	Of(ctx context.Context, env event.Environment, offset int64, after string, limit int) ([]Row, error)

	Close() error
}
