package book

import (
	"sync"
	"time"

	"sluice/loadtest/ledger"
)

// Endpoint is a receiver of webhooks. It is there before anything is sent, and owed
// everything.
type Endpoint struct {
	book  *Book
	name  string
	org   int
	wants []bool // by publisher
	order *order // of first attempts; nil: they come in any

	mu                        sync.Mutex
	seen, arrived, owed       set
	attempts, failed, repeats int
	silent                    bool     // nobody says what it is owed
	times                     []span32 // of the last attempt of each event; nil: nobody judges
	firsts                    []uint32 // when the first attempt of each event began, in milliseconds since the book did; 0: none came
	repeated                  []repeat // the first of them
}

// set is a set of numbers of events.
type set []uint64

func (s set) has(n int) bool { return s[n/64]&(1<<(n%64)) != 0 }
func (s set) add(n int)      { s[n/64] |= 1 << (n % 64) }

// Endpoint makes one of an org that wants these publishers' events.
func (b *Book) Endpoint(name string, org int, wants []bool, ordered bool) *Endpoint {
	size := (len(b.events) + 63) / 64
	e := &Endpoint{book: b, name: name, org: org, wants: wants, seen: make(set, size), arrived: make(set, size), owed: make(set, size)}
	if ordered {
		e.order = b.inOrder()
	}
	if b.judging != nil {
		e.times, e.firsts = make([]span32, len(b.events)), make([]uint32, len(b.events))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints = append(b.endpoints, e)
	return e
}

// Attempt writes down a request, when it is known how and by when it is answered, and
// says whether its event is one that the endpoint is owed. What arrived may come again:
// that is counted.
func (e *Endpoint) Attempt(number, attempt int, began, ended time.Time, success bool) bool {
	yes, why := e.book.owes(e.org, e.wants, number)
	if !yes {
		e.book.Violated(why, number, e.name, "it came as attempt %d", attempt)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attempts++
	at := span32{e.book.millis(began), e.book.millis(ended)}
	if e.arrived.has(number) || attempt == 1 && e.seen.has(number) {
		e.again(number, attempt, at)
	} else if e.order != nil && !e.seen.has(number) {
		if later := e.order.next(number); later >= 0 {
			e.book.Violated(ledger.Reordered, number, e.name, "it was acknowledged before %d of its key was sent, and came behind it", later)
		}
	}
	if e.times != nil {
		e.times[number] = at
		if attempt == 1 && e.firsts[number] == 0 {
			e.firsts[number] = max(1, at.from)
		}
	}
	e.seen.add(number)
	if success {
		e.arrived.add(number)
	} else {
		e.failed++
	}
	return true
}

// Owes writes down which deliveries aren't lost although they haven't arrived: the
// deployment says itself that they are pending, held or dead, and may be believed.
// None of those that were written down before is.
func (e *Endpoint) Owes(numbers []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent = false
	clear(e.owed)
	for _, n := range numbers {
		e.owed.add(n)
	}
}

// Silent writes down that the deployment doesn't say what it owes to the endpoint: what
// hasn't arrived may be lost or not.
func (e *Endpoint) Silent() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent = true
	clear(e.owed)
}

// Seen says whether an attempt of the event came.
func (e *Endpoint) Seen(number int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.has(number)
}
