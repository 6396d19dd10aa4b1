// Package idem publishes once what is sent more than once: by Idempotency-Key,
// and by the ids that publishers give their events. The log decides. Before its
// events a request appends a claim to the topic idem, which says what it is
// about; of two claims to one key or id the first in the log has it, on every
// node that reads it.
//
//	request ─► look ─┬─► known, and in the log ─► the same answer
//	             ▲   ├─► known with other content ─► Conflict
//	             │   ├─► under way ─► wait ─┐
//	             │   ├─► new ─► claim, events, done ──┐
//	             │   └─► unfinished for 6 s ─► take, what is missing, done
//	             └──────────────────────────┴─────────┘
//
//	idem.go      Config, Claims, Do: the loop above
//	digest.go    what makes two requests the same
//	view.go      what the log says: keys, ids, unfinished claims
//	look.go      what the view says of a request
//	record.go    claims, dones and takes in the log
//	follow.go    reading them, from 24 h ago on
//	carry.go     a claim and its events, to the end
//	complete.go  what another left unfinished
//
// On a log that is eventlog.Private a claim and its events are one append: then
// nothing is ever left unfinished. On any other the events follow their claim,
// each with the place it has there (event.Claim), and a done follows them. Who
// claims begins with its events within 1.5 s or not at all, a log on brokers goes
// on trying for 4 s, and nobody takes over before 6 s, so that never two append
// the same; should a broker answer for what it did later than that, readers pass
// over the copy (event.Doubles).
package idem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Kept is how long a key or an id is known, by the log's time.
const Kept = 24 * time.Hour

// Topic keeps the claims. All of one org and environment are in one partition.
var Topic = eventlog.Topic{Name: "idem", Partitions: 16, Retention: Kept, Yields: true}

// DefaultEntries is how many keys and ids are remembered unless Config says
// otherwise; each takes about 150 bytes.
const DefaultEntries = 1_000_000

// The times of a claim, from its append on.
const (
	beginBy  = takeOver - eventlog.Lateness - 500*time.Millisecond // who has it begins to append events no later
	giveUp   = 4 * time.Second                                     // who has it waits no longer
	takeOver = 6 * time.Second                                     // others may have it, since they read it
	patience = 10 * time.Second                                    // of a request, whatever it waits for
)

// mostAwaited bounds the claims that this node waits to read, should it be unable
// to.
const mostAwaited = 16 << 10

// Config is what Claims are made of.
type Config struct {
	Log eventlog.Reader
	// Append appends to the same log.
	Append func(ctx context.Context, records []eventlog.Record) ([]int64, error)
	// Private says that the log is eventlog.Private.
	Private bool
	// Published is told of events that were appended; nil: nobody wants to know.
	Published func(org string, env event.Environment, events int)

	Entries    int                   // keys and ids remembered at most; 0: DefaultEntries
	Registerer prometheus.Registerer // nil: metrics aren't shown
	Logger     *slog.Logger          // nil: the default one
}

// Claims are what a node knows of the requests of the last 24 h. All methods may
// be called from any number of goroutines.
type Claims struct {
	cfg     Config
	most    int // claims that are awaited
	view    *view
	metrics *metrics
	ready   chan struct{}  // closed when the view is as new as the log was at the start
	over    chan struct{}  // closed when it isn't followed any more
	works   sync.WaitGroup // what Do has begun
}

// New makes Claims. They know nothing, and take nothing, until Run does.
func New(cfg Config) *Claims {
	if cfg.Entries <= 0 {
		cfg.Entries = DefaultEntries
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Published == nil {
		cfg.Published = func(string, event.Environment, int) {}
	}
	c := &Claims{cfg: cfg, most: mostAwaited, ready: make(chan struct{}), over: make(chan struct{})}
	c.metrics = newMetrics(cfg.Registerer, func() float64 { return float64(c.view.size()) })
	c.view = newView(cfg.Entries, c.evicted)
	return c
}

// Ready is closed once the claims of the last 24 h have been read.
func (c *Claims) Ready() <-chan struct{} { return c.ready }

// Request is what one publisher wants to have published once.
type Request struct {
	Org         string
	Environment event.Environment
	Key         string // its Idempotency-Key; empty: none
	Batch       bool   // it is answered with a list
	Now         time.Time
	Events      []Event
}

// Event is an event of a request, complete. Do doesn't change it.
type Event struct {
	*event.Event
	OwnID   bool // the publisher gave the id
	OwnTime bool // the publisher gave the timestamp
}

// Result says what became of a request.
type Result struct {
	IDs      []string // of its events, in their order
	Replayed bool     // nothing was appended: all of it was known
}

// Conflict says that a key or an id is taken by other content.
type Conflict struct {
	Key    bool  // the Idempotency-Key is
	Events []int // else these events' ids, by their index
}

func (e *Conflict) Error() string {
	if e.Key {
		return "the Idempotency-Key was used for another body"
	}
	return fmt.Sprintf("the ids of events %d were used for other events", e.Events)
}

// Why a request can't be taken now.
var (
	ErrNotReady = errors.New("the requests of the last day are still being read")
	ErrCrowded  = errors.New("too many requests wait for the log to judge their claims; nothing was taken")
	ErrUnderWay = errors.New("the same request is under way, or was given up and can't be completed yet")
	errLate     = errors.New("the claim took too long: others may have its events appended")
)

// Do publishes what of the request isn't known yet, and returns when all of it
// is in the log. A *Conflict says that nothing was appended. After any other
// error the same request, sent again, is completed without doubles. ctx ends the
// waiting, and nothing that was begun.
func (c *Claims) Do(ctx context.Context, req *Request) (*Result, error) {
	select {
	case <-c.ready:
	default:
		return nil, ErrNotReady
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := newDigest(req)
	appended := false
	for {
		work, s := c.next(d)
		switch {
		case s.crowded:
			return nil, ErrCrowded
		case s.conflict != nil:
			c.metrics.conflicts.Inc()
			return nil, s.conflict
		case work != nil:
			select {
			case <-work.ended:
			case <-ctx.Done():
				return nil, fmt.Errorf("publish events of %s: %w", req.Org, context.Cause(ctx))
			}
			if work.err != nil {
				return nil, work.err
			}
			appended = appended || work.appended > 0
			d.note(work)
		case s.wait != nil:
			if err := waitFor(ctx, s.wait, s.until); err != nil {
				return nil, ErrUnderWay
			}
		default:
			if !appended {
				c.metrics.replayed.Inc()
			}
			return &Result{IDs: s.ids, Replayed: !appended}, nil
		}
	}
}

// next looks what is to be done for a request and, where that is to append
// something, begins it.
func (c *Claims) next(d *digest) (*work, step) {
	c.view.mu.Lock()
	s := c.view.look(d, time.Now())
	var w *work
	switch {
	case s.fresh != nil && len(c.view.awaited) >= c.most:
		s = step{crowded: true}
	case s.fresh != nil:
		w = c.newWork(d)
		c.view.reserve(d, s.fresh, w)
	case s.take != nil:
		w = c.newWork(d)
		s.take.busy = true
	}
	c.view.mu.Unlock()
	if w == nil {
		return nil, s
	}
	// Encoded here: the events' bytes are the caller's, who may not wait to the end.
	if s.fresh != nil {
		j := newCarrying(d, s.fresh, c.cfg.Private)
		c.works.Go(func() { c.carry(j, func(err error) { w.err = err; c.view.release(d, s.fresh, w) }, w) })
	} else {
		j := newCompletion(d, s.take)
		c.works.Go(func() { c.complete(j, w) })
	}
	return w, s
}

// work is what a request began to append. Its members are read once ended is
// closed.
type work struct {
	ended    chan struct{}
	err      error
	verdict  *verdict // on its claim
	appended int      // events

	published func(events int) // tells of them
}

func (c *Claims) newWork(d *digest) *work {
	org, env := d.Org, d.Environment // the rest of the request isn't kept
	return &work{ended: make(chan struct{}), published: func(events int) { c.cfg.Published(org, env, events) }}
}

// note counts events that were appended for the work.
func (w *work) note(events int) {
	w.appended = events
	w.published(events)
}

func waitFor(ctx context.Context, changed <-chan struct{}, until time.Time) error {
	var late <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-changed:
	case <-late:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
