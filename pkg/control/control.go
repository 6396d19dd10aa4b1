// Package control holds the state of orgs, users, keys, endpoints and their replays. The
// state is a log: one partition of commands, which every node applies in the same
// order with the same outcome, so that all nodes agree without another database.
//
//	Do ─► prepare ─► append to "control" ─┐
//	       (ids, times, seals)            ▼
//	every node:  tail ─► decode ─► apply ─► state ─► watchers
//	                                         │
//	                       Authenticate, Matching, Endpoint …
//
// Whatever chance, a clock or configuration has a say in is resolved before a
// command is appended; apply looks at nothing but the state and the command. A
// request answers when its own command was applied on the node it came to.
//
//	control.go   Control: open, Do, Fresh
//	follow.go    the log, applied as it comes
//	coalesce.go  one look at the log for all who ask
//	command.go   the commands' bytes
//	orgs.go      commands on orgs and keys
//	users.go     who may log in: commands on users and their sessions
//	endpoints.go commands on endpoints
//	options.go   their options in commands
//	rotate.go    their secrets, changed
//	providers.go who may send an org webhooks: commands on their secrets
//	replays.go   events sent once more: commands on replays, and what they are
//	state.go     what they are applied to
//	entry.go     endpoints as the state keeps them
//	read.go      what can be asked of it
//	matching.go  which endpoints have a pattern for a type
//	codec.go     the state's things as bytes
//	snapshot.go  all of them in a file, for a fast start
//	check.go     the state's hash, compared between nodes
//	judge.go     who is wrong, when two nodes differ
//	keep.go      when snapshots and checks are made
//	seal.go      secrets, encrypted before they enter the log
//	move.go      commands on their way into another log
//	bootstrap.go the first org and its key
package control

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

// Topic is where commands are kept, for good.
var Topic = eventlog.Topic{Name: "control", Partitions: 1}

var partition = eventlog.Partition{Topic: Topic.Name}

// The ways in which a command can be refused. Whoever asked is told; the state
// is as it was.
var (
	ErrNotFound = errors.New("no such thing")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("changed meanwhile")
	ErrDisabled = errors.New("endpoint is disabled")
	ErrLimit    = errors.New("limit reached")
	ErrPlan     = errors.New("plan's limit reached")
	ErrEmail    = errors.New("e-mail address is taken")
)

// Errors of the state as a whole.
var (
	// ErrUnavailable says that the log can't be reached now, or that what it made
	// of a command isn't known.
	ErrUnavailable = errors.New("control log is unavailable")
	// ErrClosed is returned by what waits when Close is called.
	ErrClosed = errors.New("control is closed")
)

// Config is what a Control is made of.
type Config struct {
	Log    eventlog.Log
	Sealer *Sealer
	Logger *slog.Logger // nil: none
	// Lanes is the number of lanes that the log is to have when it is used for the
	// first time; from then on the log's own number counts.
	Lanes int32
	// Snapshot is the file that the state is kept in for the next start, in a
	// directory that is this process's own; empty: every start reads the whole log.
	Snapshot string
	// Node tells this process from others, in what they say of it.
	Node       string
	Registerer prometheus.Registerer // nil: metrics aren't shown
}

// Control is the state, kept up with its log. All methods may be called from any
// number of goroutines. What they hand out may be shared and is never changed.
type Control struct {
	log    eventlog.Log
	sealer *Sealer
	logger *slog.Logger
	path   string // of the snapshot; empty: none
	node   string

	life context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // follow, judge and keep

	mu       sync.RWMutex
	state    *state
	applied  int64         // offset of the newest command applied; -1: none
	newest   [32]byte      // SHA-256 of that command
	skipped  int64         // records that couldn't be read
	ready    bool          // the start is over: what comes now is new
	resumed  bool          // the state began with a snapshot
	failed   error         // why nothing more is applied
	diverged bool          // that is why
	failing  time.Time     // since when the log can't be followed; zero: it can
	progress chan struct{} // closed, and made anew, when any of these change

	trail     trail
	unsaved   int // commands applied since the last snapshot was begun
	unchecked int // commands applied since the last check that agreed
	doubted   int // doubts that judge isn't done with

	doubts      chan doubt // at most doubted are in it
	differences *prometheus.CounterVec
	fileMu      sync.Mutex // the snapshot is written or taken away; before mu

	pendingMu sync.Mutex
	pending   map[string]chan outcome // by command id: requests that wait here

	watchMu  sync.Mutex
	watchers map[int]func(Change)
	watchID  int

	fresh  coalesced
	recent coalesced // for Recheck
}

type outcome struct {
	change Change
	err    error
}

// Open reads the log, from the snapshot on if there is one, applies it, and goes
// on following it until Close. On a log that was never used it writes the first
// command, with the log's incarnation and the fingerprint of the sealing key; on
// any other it refuses a sealer that lacks a key which secrets were sealed with.
func Open(ctx context.Context, cfg Config) (*Control, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	life, stop := context.WithCancel(context.Background())
	c := &Control{
		log:      cfg.Log,
		sealer:   cfg.Sealer,
		logger:   cfg.Logger,
		path:     cfg.Snapshot,
		node:     cfg.Node,
		life:     life,
		stop:     stop,
		state:    newState(cfg.Sealer),
		applied:  -1,
		progress: make(chan struct{}),
		pending:  make(map[string]chan outcome),
		watchers: make(map[int]func(Change)),
		recent:   coalesced{every: recheckEvery},
		doubts:   make(chan doubt, 2),

		differences: newDifferences(cfg.Registerer),
	}
	c.resume(ctx)
	c.work.Go(func() { c.follow(life) })
	c.work.Go(func() { c.judge(life) })
	if err := c.begin(ctx, cfg.Lanes); err != nil {
		c.Close()
		return nil, err
	}
	c.work.Go(func() { c.keep(life) })
	return c, nil
}

// begin waits for the state to be read and makes sure that it is ours.
func (c *Control) begin(ctx context.Context, lanes int32) error {
	if err := c.Fresh(ctx); err != nil {
		return fmt.Errorf("read control log: %w", err)
	}
	if !c.begun() {
		first := &begin{Incarnation: newIncarnation(), Lanes: lanes, SealedWith: c.sealer.Fingerprint()}
		// Another node may have been first; then its command stands.
		if _, err := c.Do(ctx, first); err != nil && !errors.Is(err, ErrExists) {
			return fmt.Errorf("begin control log: %w", err)
		}
	}
	// A newer key than the log's is told to the other nodes before anything is
	// sealed with it.
	if err := c.reseal(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
	return nil
}

func (c *Control) reseal(ctx context.Context) error {
	c.mu.RLock()
	newest := c.state.sealedWith[len(c.state.sealedWith)-1]
	c.mu.RUnlock()
	if newest == c.sealer.Fingerprint() {
		return nil
	}
	if _, err := c.Do(ctx, &reseal{SealedWith: c.sealer.Fingerprint()}); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("record sealing key: %w", err)
	}
	c.logger.Info("secrets are sealed with another key from now on", "key", c.sealer.Fingerprint(), "before", newest)
	return nil
}

// Close stops following the log, ends whoever waits, and leaves a snapshot for
// the next start. The log stays open.
func (c *Control) Close() {
	c.stop()
	c.work.Wait()
	c.save()
}

// Healthy says whether the state keeps up with its log. It doesn't once a
// command came that this release doesn't know: what comes behind it could mean
// anything.
func (c *Control) Healthy() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.failed != nil {
		return c.failed
	}
	if !c.failing.IsZero() && time.Since(c.failing) > patience {
		return fmt.Errorf("%w since %s", ErrUnavailable, c.failing.UTC().Format(time.RFC3339))
	}
	return nil
}

// patience is how long the log may be out of reach before the node says so.
const patience = 5 * time.Second

// Do prepares the command, appends it and waits until it was applied here. The
// errors above say that it was refused; ErrUnavailable, or the context's error,
// that it isn't known whether it will be applied.
func (c *Control) Do(ctx context.Context, cmd Command) (Change, error) {
	if p, ok := cmd.(preparer); ok {
		if err := p.prepare(ctx, c); err != nil {
			return Change{}, fmt.Errorf("prepare %s: %w", cmd.op(), err)
		}
	}
	id := newID("cmd_")
	value, err := encode(id, time.Now().UTC().Truncate(time.Millisecond), cmd)
	if err != nil {
		return Change{}, fmt.Errorf("encode %s: %w", cmd.op(), err)
	}

	wait := make(chan outcome, 1)
	c.pendingMu.Lock()
	c.pending[id] = wait
	c.pendingMu.Unlock()
	defer func() {
		c.pendingMu.Lock()
		delete(c.pending, id)
		c.pendingMu.Unlock()
	}()

	r := eventlog.Record{Partition: partition, Value: value}
	if _, ok := cmd.(*check); ok {
		r.Key = []byte(c.node) // beside the command, which has no member for it that an older release would take
	}
	if _, err := c.log.Append(ctx, []eventlog.Record{r}); err != nil {
		return Change{}, fmt.Errorf("append %s: %w: %w", cmd.op(), ErrUnavailable, err)
	}
	for {
		c.mu.RLock()
		failed, progress := c.failed, c.progress
		c.mu.RUnlock()
		select {
		case o := <-wait: // looked at first: it may be there although the rest failed since
			return o.change, o.err
		default:
		}
		if failed != nil {
			return Change{}, fmt.Errorf("apply %s: %w: %w", cmd.op(), ErrUnavailable, failed)
		}
		select {
		case o := <-wait:
			return o.change, o.err
		case <-progress:
		case <-ctx.Done():
			return Change{}, fmt.Errorf("wait for %s: %w", cmd.op(), ctx.Err())
		}
	}
}

// Fresh waits until everything is applied that was in the log when it was
// called. Calls at the same time share one look at the log.
func (c *Control) Fresh(ctx context.Context) error { return c.freshBy(ctx, &c.fresh) }

func (c *Control) freshBy(ctx context.Context, looks *coalesced) error {
	end, err := looks.do(ctx, c.life, func(ctx context.Context) (int64, error) {
		_, end, err := c.log.Bounds(ctx, partition)
		return end, err
	})
	if err != nil {
		return fmt.Errorf("look up end of control log: %w: %w", ErrUnavailable, err)
	}
	return c.WaitFor(ctx, end-1)
}

// Recheck is Fresh for whoever is asked about something that isn't there, and may
// have been made on another node a moment ago. Anybody can ask that, as often as
// they like: for all of them together the log is looked at every recheckEvery.
func (c *Control) Recheck(ctx context.Context) error { return c.freshBy(ctx, &c.recent) }

const recheckEvery = 20 * time.Millisecond

// WaitFor waits until the command at the offset was applied.
func (c *Control) WaitFor(ctx context.Context, offset int64) error {
	for {
		c.mu.RLock()
		applied, failed, progress := c.applied, c.failed, c.progress
		c.mu.RUnlock()
		switch {
		case applied >= offset:
			return nil
		case failed != nil:
			return failed
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Applied gives the offset of the newest command that was applied, -1 before the
// first.
func (c *Control) Applied() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.applied
}

// Skipped counts the records that couldn't be read. Every node skips the same.
func (c *Control) Skipped() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.skipped
}

// Watch has fn told of every change from now on, in the order of the log, after
// the state shows it. fn must be quick: nothing is applied meanwhile. It is told
// no more once stop has returned; fn itself must not call stop.
func (c *Control) Watch(fn func(Change)) (stop func()) {
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	id := c.watchID
	c.watchID++
	c.watchers[id] = fn
	return func() {
		c.watchMu.Lock()
		defer c.watchMu.Unlock()
		delete(c.watchers, id)
	}
}

// Incarnation identifies this life of the log.
func (c *Control) Incarnation() event.Incarnation {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.incarnation
}

// Lanes gives the number of lanes that the log was made with.
func (c *Control) Lanes() int32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.lanes
}

func (c *Control) begun() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.begun
}
