package attempts

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Config is what a View is made of.
type Config struct {
	Log        eventlog.Reader
	Control    *control.Control
	Store      Store                 // the caller closes it, after Run has ended
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics aren't shown
}

// View keeps a store up with the log. All methods but Run may be called from any
// number of goroutines.
type View struct {
	cfg Config

	mu      sync.Mutex
	at      map[eventlog.Partition]Position // of the store, while this process leads; nil: it doesn't
	goal    map[eventlog.Partition]int64    // where it has caught up
	caught  bool                            // it has, once
	moved   chan struct{}                   // closed, and made anew, when at changes
	gone    map[string]struct{}             // endpoints that were deleted, whose rows are there yet
	hurry   chan struct{}                   // capacity 1: somebody waits for what gathers
	removed chan struct{}                   // capacity 1: gone has news

	rows, restarts prometheus.Counter
}

// New makes a View. It knows what its store has, and keeps it up while Run runs.
func New(cfg Config) *View {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v := &View{cfg: cfg, moved: make(chan struct{}), gone: make(map[string]struct{}), hurry: make(chan struct{}, 1), removed: make(chan struct{}, 1)}
	v.rows = prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_attempts_view_merged_total", Help: "Rows of deliveries that were made or brought up to date by this process."})
	v.restarts = prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_attempts_view_failures_total", Help: "Times that the view of deliveries couldn't be kept up, and was tried again."})
	lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_attempts_view_lag_records", Help: "Records that the view of deliveries is behind, where this process keeps it up; -1: another does, or none."}, v.lag)
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(v.rows, v.restarts, lag)
	}
	return v
}

// The bounds of what gathers before it is merged.
const (
	gatherFor  = 200 * time.Millisecond
	gatherRows = 5000
	expireEach = 10 * time.Minute
)

// Run keeps the store up with the log until ctx ends.
func (v *View) Run(ctx context.Context) error {
	stop := v.cfg.Control.Watch(v.note)
	defer stop()
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	for delay := shortest; ctx.Err() == nil; delay = min(2*delay, longest) {
		err := v.lead(ctx, func() { delay = shortest })
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, ErrBehind) && !errors.Is(err, eventlog.ErrTooOld) {
			v.restarts.Inc()
			v.cfg.Logger.Warn("deliveries can't be followed, trying again", "error", err)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
	return nil
}

// note is told of every change of control.
func (v *View) note(ch control.Change) {
	if ch.Endpoint != nil || ch.EndpointBefore == nil {
		return
	}
	v.mu.Lock()
	v.gone[ch.EndpointBefore.ID] = struct{}{}
	v.mu.Unlock()
	select {
	case v.removed <- struct{}{}:
	default:
	}
}

// lead keeps the store up for as long as this process is the one that does.
func (v *View) lead(ctx context.Context, alive func()) error {
	ctx, cancel := context.WithCancel(ctx)
	lost, release, err := v.cfg.Store.Lead(ctx)
	if err != nil {
		cancel()
		return err
	}
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		v.set(nil, nil)
		release()
	}()
	running.Go(func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	})
	incarnation := v.cfg.Control.Incarnation()
	if err := v.cfg.Store.Begin(ctx, hex.EncodeToString(incarnation[:])); err != nil {
		return err
	}
	at, err := v.cfg.Store.Positions(ctx)
	if err != nil {
		return err
	}
	goal := make(map[eventlog.Partition]int64)
	for _, topic := range Topics {
		for n := range int32(delivery.Lanes) {
			p := eventlog.Partition{Topic: topic, Number: n}
			start, end, err := v.cfg.Log.Bounds(ctx, p)
			if err != nil {
				return fmt.Errorf("look up bounds of %s: %w", topic, err)
			}
			pos, known := at[p]
			switch {
			case !known || pos.Next > end:
				pos = Position{Partition: p, Next: start}
			case pos.Next < start:
				// What is gone from tier.0s is finished, and its outcome lies elsewhere; what
				// is gone from the others is older than what is shown.
				pos.Next = start
			}
			at[p], goal[p] = pos, end
		}
	}
	v.set(at, goal)
	if err := v.sweep(ctx); err != nil {
		return err
	}
	g := gather{View: v, ctx: ctx, known: make(map[string]bool), parts: make(map[Key]*Row), from: at, to: make(map[eventlog.Partition]Position), alive: alive}
	return g.run(&running)
}

// sweep drops the rows of endpoints that were deleted while nobody watched.
func (v *View) sweep(ctx context.Context) error {
	if err := v.cfg.Control.Fresh(ctx); err != nil {
		return err
	}
	const page = 1000
	for after := ""; ; {
		ids, err := v.cfg.Store.Endpoints(ctx, after, page)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if !v.cfg.Control.HasEndpoint(id) {
				if err := v.cfg.Store.Forget(ctx, id); err != nil {
					return err
				}
			}
		}
		if len(ids) < page {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

// expire drops what is too old to be shown.
func (v *View) expire(ctx context.Context) error {
	for _, env := range event.Environments {
		before, err := v.cfg.Log.OffsetAt(ctx, eventlog.Partition{Topic: env.Topic()}, time.Now().Add(-Kept))
		if err != nil {
			return fmt.Errorf("look for what isn't shown any more: %w", err)
		}
		if err := v.cfg.Store.Expire(ctx, env, before); err != nil {
			return err
		}
	}
	return nil
}

// set tells where the store is.
func (v *View) set(at map[eventlog.Partition]Position, goal map[eventlog.Partition]int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at, v.goal = nil, goal
	if at != nil {
		v.at = make(map[eventlog.Partition]Position, len(at))
		for p, pos := range at {
			v.at[p] = pos
		}
	}
	v.wake()
}

// wake tells who waits to look again, and looks whether it has caught up. It needs
// mu.
func (v *View) wake() {
	if !v.caught && v.goal != nil {
		v.caught = true
		for p, end := range v.goal {
			if v.at[p].Next < end {
				v.caught = false
				break
			}
		}
	}
	close(v.moved)
	v.moved = make(chan struct{})
}

func (v *View) lag() float64 {
	v.mu.Lock()
	at := v.at
	v.mu.Unlock()
	if at == nil {
		return -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	behind := int64(0)
	for p := range at {
		_, end, err := v.cfg.Log.Bounds(ctx, p)
		if err != nil {
			return -1
		}
		v.mu.Lock()
		behind += max(0, end-v.at[p].Next)
		v.mu.Unlock()
	}
	return float64(behind)
}

// batch is what a reader made of what it read.
type batch struct {
	parts []Row
	to    Position
}

// follow reads a partition for whoever gathers.
func (v *View) follow(ctx context.Context, at Position, batches chan<- batch) error {
	tail, err := v.cfg.Log.Tail(ctx, at.Partition, at.Next)
	if err != nil {
		return fmt.Errorf("tail %s from %d: %w", at.Topic, at.Next, err)
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return fmt.Errorf("tail %s: %w", at.Topic, err)
		}
		b := batch{parts: make([]Row, 0, len(records))}
		for i := range records {
			if part, ok := fold(&records[i], &at.Fence); ok {
				b.parts = append(b.parts, part)
			}
		}
		at.Next = records[len(records)-1].Offset + 1
		b.to = at
		select {
		case batches <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gather merges what readers bring, some at a time: what happens to a delivery
// within moments costs the store one write.
type gather struct {
	*View
	ctx   context.Context
	known map[string]bool // endpoints of what gathered that there are
	parts map[Key]*Row
	from  map[eventlog.Partition]Position // where the store is
	to    map[eventlog.Partition]Position // where it is brought
	alive func()
}

func (g *gather) run(running *sync.WaitGroup) error {
	batches := make(chan batch)
	failed := make(chan error, len(g.from))
	for _, at := range g.from {
		running.Go(func() { failed <- g.follow(g.ctx, at, batches) })
	}
	expire := time.NewTicker(expireEach)
	defer expire.Stop()
	due := time.NewTimer(gatherFor)
	defer due.Stop()
	if err := g.expire(g.ctx); err != nil {
		return err
	}
	for {
		var err error
		select {
		case b := <-batches:
			if len(g.to) == 0 {
				due.Reset(gatherFor)
			}
			g.take(b)
			if len(g.parts) >= gatherRows {
				err = g.flush()
			}
		case <-due.C:
			err = g.flush()
		case <-g.hurry:
			err = g.flush()
		case <-g.removed:
			if err = g.flush(); err == nil {
				err = g.forget()
			}
		case <-expire.C:
			err = g.expire(g.ctx)
		case err = <-failed:
		case <-g.ctx.Done():
			return g.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func (g *gather) take(b batch) {
	for i := range b.parts {
		part := &b.parts[i]
		if row := g.parts[part.Key]; row != nil {
			row.Merge(part)
		} else {
			g.parts[part.Key] = part
		}
	}
	g.to[b.to.Partition] = b.to
}

// flush brings the store to where the readers are.
func (g *gather) flush() error {
	if len(g.to) == 0 {
		return nil
	}
	parts, err := g.owned()
	if err != nil {
		return err
	}
	to := make([]Position, 0, len(g.to))
	for _, pos := range g.to {
		to = append(to, pos)
	}
	if err := g.cfg.Store.Merge(g.ctx, parts, to); err != nil {
		return err
	}
	g.rows.Add(float64(len(parts)))
	for _, pos := range to {
		g.from[pos.Partition] = pos
	}
	clear(g.parts)
	clear(g.to)
	clear(g.known)
	g.alive()
	g.set(g.from, g.goal)
	return nil
}

// owned gives what gathered of endpoints that there are.
func (g *gather) owned() ([]Row, error) {
	parts := make([]Row, 0, len(g.parts))
	fresh := false
	for key, part := range g.parts {
		there, asked := g.known[key.Endpoint]
		if !asked {
			if there = g.cfg.Control.HasEndpoint(key.Endpoint); !there && !fresh {
				// It may have been made on another node a moment ago.
				if err := g.cfg.Control.Fresh(g.ctx); err != nil {
					return nil, err
				}
				fresh, there = true, g.cfg.Control.HasEndpoint(key.Endpoint)
			}
			g.known[key.Endpoint] = there
		}
		if there {
			parts = append(parts, *part)
		}
	}
	return parts, nil
}

// forget drops the rows of endpoints that were deleted.
func (g *gather) forget() error {
	g.mu.Lock()
	gone := g.gone
	g.gone = make(map[string]struct{})
	g.mu.Unlock()
	for id := range gone {
		if err := g.cfg.Store.Forget(g.ctx, id); err != nil {
			return err // the sweep of the next try finds it
		}
	}
	return nil
}
