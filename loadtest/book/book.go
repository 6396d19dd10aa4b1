// Package book is a ledger for load: it holds what was acknowledged against what
// came while it comes, and keeps next to nothing of it.
//
//	publishers ── Sent, Acknowledged ──┐
//	streams ───── Begin, Frame, Gap ───┼──► Book ──► Check ──► ledger.Report
//	receivers ─── Attempt, Owed ───────┘
//
// Whoever loads gives every event a number, in the event itself. So an event is two
// times, 16 bytes; of an endpoint it is three bits; of streams that are owed the same
// it is 16 bytes for all of them, however many they are:
//
//	owed to all of a class, in the log's order   0  1  2  3  4  5  6
//	a stream that missed nothing                 ─────────────────►    a place
//	one that was told of two that it misses      ────┤  2  ├──────►    a place, a gap
//
// Ten minutes at 5,000 events a second, with three endpoints and a class of streams,
// take some 100 MB, however many frames come. Its words, and what must hold, are
// those of package ledger, which keeps everything. Here a fault is no excuse but for
// what comes again; that is counted only, unless whoever loads knows all faults.
//
//   - What was acknowledged comes to each endpoint, or is said to be owed (Lost), and
//     to each stream, or is declared to be missing (Hole; Lost where no stream saw it).
//   - What comes is of the org that gets it (Foreign), was asked for (Unwanted), and
//     was sent (Invented).
//   - A stream's offsets rise (Backwards), and it isn't told of more than it misses
//     (Miscounted). At one offset all see one event (Twice).
//   - An event that was acknowledged before the next of its key was sent is before it
//     in the log, and is sent to an ordered endpoint before it (Reordered).
//   - Where all faults are known (Judge), a delivery comes again only when one of them
//     may be why, and no more of them than were in flight (Repeated).
//
// Where several processes load together, each has a book of who is in it, and all
// share what there is of events (Share): what one of them publishes another can hold
// against what it receives, with no message between them.
//
// Reading order: book.go stream.go endpoint.go repeats.go check.go; share.go.
package book

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/ledger"
)

// Publisher is who sends events: in turn a batch of each org.
type Publisher struct {
	Count     int  // of events, at most
	Batch     int  // at least 1
	Keys      int  // that each org's events have in turn; at least 1
	Broadcast bool // every org gets all of them
}

// Book is what was written down so far. All its methods may be called concurrently,
// those of one Stream from one goroutine.
type Book struct {
	began      time.Time
	orgs       int
	publishers []publisher
	name       func(number int) string
	events     []entry
	places     []atomic.Int64 // of events in the log, plus 1; nil: no other process shares them
	second     bool           // another process judges what all of them share

	mu        sync.Mutex // taken last
	classes   []*Class
	endpoints []*Endpoint
	noted     ledger.Report // violations that were seen when they came
	judging   *judging      // nil: what comes again is counted only
}

type publisher struct {
	Publisher
	first int // number of its first event
}

// entry is an event: nanoseconds since the book began, 0 for never.
type entry struct {
	due, acknowledged atomic.Int64
}

// New makes an empty book, with room for all that the publishers may send. name
// gives what events are called in violations.
func New(orgs int, publishers []Publisher, name func(number int) string) *Book {
	b := &Book{began: time.Now(), orgs: orgs, name: name}
	total := 0
	for _, p := range publishers {
		b.publishers = append(b.publishers, publisher{p, total})
		total += p.Count
	}
	b.events = make([]entry, total)
	return b
}

// Number gives the number of a publisher's i-th event.
func (b *Book) Number(publisher, i int) int { return b.publishers[publisher].first + i }

// Of says whose an event is.
func (b *Book) Of(number int) (publisher, org int, known bool) {
	if number < 0 || number >= len(b.events) {
		return 0, 0, false
	}
	for publisher < len(b.publishers)-1 && number >= b.publishers[publisher+1].first {
		publisher++
	}
	of := &b.publishers[publisher]
	return publisher, (number - of.first) / of.Batch % b.orgs, true
}

// Key gives the number of an event's key, among those of its publisher and org.
func (b *Book) Key(number int) int {
	p, _, _ := b.Of(number)
	of := &b.publishers[p]
	i := number - of.first
	return (i/of.Batch/b.orgs*of.Batch + i%of.Batch) % of.Keys
}

// Sent writes down an event before it is sent, and when it was to be.
func (b *Book) Sent(number int, due time.Time) {
	b.events[number].due.Store(max(1, int64(due.Sub(b.began))))
}

// Acknowledged writes down that an event was, just now.
func (b *Book) Acknowledged(number int) {
	b.events[number].acknowledged.Store(max(1, int64(time.Since(b.began))))
}

// Since gives how long ago an event was to be sent; 0 for one that wasn't.
func (b *Book) Since(number int) time.Duration {
	due := b.events[number].due.Load()
	if due == 0 {
		return 0
	}
	return time.Since(b.began) - time.Duration(due)
}

// Violated writes down what its receiver itself saw to be wrong. number is of the
// event; -1: of none.
func (b *Book) Violated(kind ledger.Kind, number int, whom, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted.Add(b.violation(kind, number, whom, fmt.Sprintf(format, args...)))
}

func (b *Book) violation(kind ledger.Kind, number int, whom, text string) ledger.Violation {
	v := ledger.Violation{Kind: kind, Event: "none", Whom: whom, At: time.Since(b.began), Text: text}
	if number >= 0 {
		v.Event = b.name(number)
	}
	return v
}

// owes says whether an event is for those of an org who want these publishers'; why
// says what is wrong with it else.
func (b *Book) owes(org int, wants []bool, number int) (yes bool, why ledger.Kind) {
	p, of, known := b.Of(number)
	switch {
	case !known || b.events[number].due.Load() == 0:
		return false, ledger.Invented
	case of != org && !b.publishers[p].Broadcast:
		return false, ledger.Foreign
	case !wants[p]:
		return false, ledger.Unwanted
	}
	return true, ""
}

// order finds events of one key that are in another order than they were sent.
type order struct {
	book   *Book
	newest map[[3]int]newest // by publisher, org and key
}

type newest struct {
	number int
	due    int64
}

func (b *Book) inOrder() *order { return &order{b, make(map[[3]int]newest)} }

// next takes the next event. later is one before it that was to be sent after this
// one was acknowledged; -1: there is none.
func (o *order) next(number int) (later int) {
	p, org, _ := o.book.Of(number)
	key := [3]int{p, org, o.book.Key(number)}
	e := &o.book.events[number]
	before, known := o.newest[key]
	if due := e.due.Load(); !known || due > before.due {
		o.newest[key] = newest{number, due}
	}
	if at := e.acknowledged.Load(); known && at != 0 && at < before.due {
		return before.number
	}
	return -1
}
