// Package lane sends the deliveries of one lane: a partition number across
// tier.*, held, dead, attempts and lanes. Whoever owns the lane owns all about
// its endpoints: order, concurrency, streaks.
//
//	tier.0s ─┐ decoded batches            ┌─ jobs ──► workers ──► receivers
//	tier.5s ─┤ (tiers.go)                 │           (work.go)
//	  …      ├──────────► ┌───────────────┴─┐ ◄─ ended ──┘
//	tier.1h ─┘            │  the lane's one │
//	held ──── chunks ───► │  goroutine      │ ──► entries ──► journal.go ──► tier.*, held, dead,
//	(held.go)             │  (this file)    │ ◄── durable ──┘                attempts, lanes
//	control ─ changes ──► └─────────────────┘
//
// One goroutine decides everything, so there are no locks. It never waits for
// the log or for a receiver: reading, appending and sending go on outside and
// come back as messages. To be read in this order:
//
//	lane.go       Config, Lane, the loop
//	tiers.go      reading ahead; what is due, in order
//	endpoint.go   what a lane knows of one endpoint; where a delivery goes now
//	room.go       how much may be under way, to whom
//	work.go       attempts, outside
//	outcome.go    what follows from an attempt: the next hop
//	clock.go      what a lane waits by, whatever the wall clock does
//	streak.go     failures, counted at the pace of the schedule
//	notice.go     whose org is to be told of them
//	held.go       what can't go now, and how it goes later
//	ordered.go    one at a time of each key
//	quota.go      what is past a month's quota
//	enable.go     changes of control: disabling, enabling, dead letters sent again
//	replay.go     what its owner asks to have sent once more (replay_read.go)
//	journal.go    appending in groups
//	window.go     which records of a partition are finished
//	snapshot.go   what is kept of a lane every few seconds
//	claim.go      whose lane it is, as the log sees it
//	recover.go    a new owner: claim, snapshot, then journal, then sending
//	skip.go       places that are gone, and an operator who says so
//	stop.go       the end of a lane's life
//	move.go       what a lane owes, brought into another log
//	events.go     data that didn't travel along
//	metrics.go    what is counted
//	gauges.go     how lanes stand, for those who watch
//
// # What must hold
//
// A record is finished only when all that follows from it is durable. The bytes
// of everything a lane appends name the record it follows from (origin), so that
// a new owner finds out which are finished although no checkpoint said so: a kill
// between any two steps repeats attempts that were in flight, and loses nothing.
// When an append fails, nobody knows what the log holds: the lane's life ends,
// and the next begins by reading it.
//
// All that an owner appends carries its generation, and once the next has begun
// it counts for nothing: neither outcomes nor snapshots of one that was thought
// dead are ever acted upon, and what it would give up (trim, disable) it confirms
// first.
package lane

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/usage"
	"sluice/replay"
)

// Config is what lanes need. Numbers that are zero stand for those in brackets.
type Config struct {
	Log     eventlog.Log
	Control *control.Control
	Sender  attempt.Sender
	Events  Events
	Past    map[event.Environment]*replay.Reader // for replays
	Dialect func(name string) *dialect.Dialect   // by the name an endpoint has
	Delays  []time.Duration                      // of all schedules, 0 among them: the tiers
	Logger  *slog.Logger
	Metrics *Metrics
	Usage   *usage.Meter // counts attempts; nil: nobody does
	Quota   *usage.Quota // bounds those that are metered, as plans say; nil: nothing does
	Clock   *Clock       // of all lanes of the process; nil: of this life alone

	PerEndpoint int // requests under way to one endpoint [32]
	PerLane     int // requests under way [512]
	Queue       int // deliveries in memory that wait for one endpoint's room [1024]
	QueueBytes  int // what all that wait take together [8 MiB]
	// Owner and Address say in a claim who owns the lane, for people.
	Owner, Address string

	Checkpoint time.Duration // between snapshots [5 s]
	Drain      time.Duration // for attempts under way when the lane's life ends [1 s]
	HeldFor    time.Duration // what is held for longer expires [7 d]

	// FanOut runs beside the lane as long as the lane lives; nil: none does. Its
	// place is kept in the lane's snapshots.
	FanOut func(ctx context.Context, start FanOutStart, progress func(next int64)) error

	// Trim gives up finished records of tiers at each checkpoint: for the log that
	// isn't shared.
	Trim bool
}

// Events reads an event whose data didn't travel along.
type Events interface {
	// Event gives the event at the offset; ErrGone when the log doesn't keep it any
	// more.
	Event(ctx context.Context, env event.Environment, offset int64) (*event.Event, error)
}

// Lane is one life of one lane: from a snapshot to the next owner's. Only its
// own goroutine touches it.
type Lane struct {
	cfg    Config
	number int32
	ours   func() bool // as far as the clock tells
	log    *slog.Logger

	watch                watch
	starts               map[string]int64 // by topic, when we claimed the lane
	heldMarks, deadMarks marks
	unread               string   // what a later release's snapshot says of the lane
	foreign              []string // parts of it that this one has no use for

	sources     []*source          // one for each tier, the shortest delay first
	targets     map[string]*target // by endpoint
	queued      int                // bytes of deliveries that wait in targets' queues
	queuedSwift int                // of them, those that are gone in no time

	// Requests under way, until their outcomes are durable.
	inflight int             // all
	slow     int             // of them, those to endpoints that aren't quick
	retries  int             // retries to those that are
	orgs     map[string]*org // of the targets
	crowded  []*org          // have targets that wait for room
	freed    bool            // some has come free that they weren't offered
	young    []young         // those that began to quick ones lately, the oldest first

	workers workers
	sweep   sweep
	elders  []*target // whose held waits for what is older, the lowest held.after first
	requeue requeue
	replays replays
	alarms  alarms
	quotas  quotas
	journal journal
	fanOut  fanOut

	batches  chan batch   // from the readers of the tiers
	chunks   chan chunk   // from the sweep of held and the reader of dead
	found    chan found   // read for a replay
	told     chan command // to control, and done
	failures chan error   // of whatever runs for the lane
	changes  changes      // of control

	winding  bool      // nothing new is begun
	dirty    bool      // something changed since the snapshot
	snapshot time.Time // when the next is due
	aging    time.Time // when what is held is next looked at for its age
	shown    *shown
	measured time.Time // when it was said last how the lane stands
	idle     bool      // then nothing was under way

	life    context.Context // of all that runs for the lane
	running sync.WaitGroup
}

// Run is one life of a lane: it takes over from whoever had it before, sends
// until ctx ends, then waits for what is under way and writes down where it
// stands. An error says that it stopped for another reason; what was under way
// will be sent again in the next life. Ready is called when the lane begins to
// send; nil: nobody wants to know. ErrDisplaced says that another owner has begun,
// and decides from now on.
func Run(ctx context.Context, cfg Config, share eventlog.Share, ready func()) error {
	cfg.defaults()
	number := share.Partition
	// What runs for the lane outlives ctx a little: a life ends in order.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	l := newLane(life, cfg, share)
	var unshow func()
	l.shown, unshow = cfg.Metrics.gauges.begin(number)
	defer unshow()
	defer func() {
		end()
		l.workers.end()
		l.running.Wait()
		l.refundAll()
	}()
	// First told, then looked at: no change falls between.
	stop := cfg.Control.Watch(l.changes.note)
	defer stop()

	if err := l.takeOver(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("take over lane %d: %w", number, err)
	}
	if ready != nil {
		ready()
	}
	if err := l.loop(ctx); err != nil {
		return fmt.Errorf("lane %d: %w", number, err)
	}
	if err := l.wind(); err != nil {
		return fmt.Errorf("wind up lane %d: %w", number, err)
	}
	return nil
}

func newLane(life context.Context, cfg Config, share eventlog.Share) *Lane {
	l := &Lane{
		cfg:      cfg,
		number:   share.Partition,
		ours:     share.Ours,
		log:      cfg.Logger.With("lane", share.Partition),
		starts:   make(map[string]int64),
		targets:  make(map[string]*target),
		orgs:     make(map[string]*org),
		batches:  make(chan batch),
		chunks:   make(chan chunk),
		found:    make(chan found),
		told:     make(chan command),
		failures: make(chan error),
		changes:  changes{lane: share.Partition, news: make(chan struct{}, 1)},
		life:     life,
	}
	for _, d := range cfg.Delays {
		l.sources = append(l.sources, newSource(d))
	}
	l.journal.init()
	l.workers.init(life, &cfg)
	l.fanOut.next.Store(-1)
	l.fanOut.news = make(chan struct{}, 1)
	return l
}

// loop decides, one message after another, until ctx ends.
func (l *Lane) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := l.cfg.Clock.now()
		l.syncChanged() // before anything is sent: to the URL, and with the secret, of now
		l.overdue(now)
		l.look(now)
		l.pumpWaiting()
		l.advance(now)
		l.ring(now)
		l.read(now)
		l.advanceReplays(now)
		l.shedSpent(now)
		l.write(now)
		l.measure(now)
		timer.Reset(l.untilNext(now))
		select {
		case <-ctx.Done():
			return nil
		case err := <-l.failures:
			return err
		case <-timer.C:
		case b := <-l.batches:
			b.source.batch(b)
		case c := <-l.chunks:
			l.chunk(c)
		case f := <-l.found:
			l.foundReplay(f)
		case c := <-l.told:
			l.commandDone(c)
		case <-l.changes.news:
		case <-l.fanOut.news:
			l.dirty = true
		case j := <-l.workers.ended:
			if err := l.endedAll(j); err != nil {
				return err
			}
		case g := <-l.journal.written:
			if err := l.durable(g); err != nil {
				return err
			}
		}
	}
}

// run has fn run for the lane, until its life ends.
func (l *Lane) run(fn func(ctx context.Context)) {
	l.running.Go(func() { fn(l.life) })
}

// fail ends the lane's life with an error; whoever runs for the lane calls it.
func (l *Lane) fail(err error) {
	select {
	case l.failures <- err:
	case <-l.life.Done():
	}
}

// finish marks a record that nothing more follows from.
func (l *Lane) finish(j *job) {
	l.dirty = true
	switch {
	case j.replay != nil:
		j.replay.finish(j)
	case j.source == nil:
		j.target.held.finish(j.offset)
		delete(j.target.tries, j.offset)
	default:
		j.source.window.finish(j.offset)
		j.delivery = nil // among the young the job may stay a while
	}
	if k := j.line; k != nil {
		j.line = nil
		l.free(j.target, k)
	}
	if j.under {
		l.release(j)
		l.pump(j.target)
	}
	if j.target != nil {
		l.wantSweep(j.target)
	}
}

func (l *Lane) partition(topic string) eventlog.Partition {
	return eventlog.Partition{Topic: topic, Number: l.number}
}

func (cfg *Config) defaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&cfg.PerEndpoint, 32)
	def(&cfg.PerLane, 512)
	def(&cfg.Queue, 1024)
	def(&cfg.QueueBytes, 8<<20)
	cfg.Delays = slices.Compact(slices.Sorted(slices.Values(append([]time.Duration{0}, cfg.Delays...))))
	during := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	during(&cfg.Checkpoint, 5*time.Second)
	during(&cfg.Drain, time.Second)
	during(&cfg.HeldFor, 7*24*time.Hour)
	if cfg.Clock == nil {
		cfg.Clock = NewClock(time.Now)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
}
