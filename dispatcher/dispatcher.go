// Package dispatcher sends webhooks, at least once.
//
//	events.<env> ─► fanout ─► tier.0s ─► lane ─► attempt ─┬─► delivered
//	                           ▲   ▲                      ├─► tier.5s … tier.1h ─► lane …
//	                   api ────┘   └── held, dead ◄───────┘
//
//	dispatcher.go   the lanes that fall to this process, each for its life
//	move.go         what the lanes owe, brought into another log
//	skip.go         what an operator says to a lane that has lost something
//	fanout/         an event becomes deliveries
//	lane/           deliveries become attempts, attempts their next hop
//	attempt/        one request and its outcome
package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/dispatcher/attempt"
	"sluice/dispatcher/fanout"
	"sluice/dispatcher/lane"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/notice"
	"sluice/pkg/usage"
	"sluice/replay"
)

// Config is what a dispatcher needs.
type Config struct {
	Log        eventlog.Log
	Control    *control.Control
	Sender     attempt.Sender
	Usage      *usage.Meter // counts attempts; nil: nobody does
	Quota      *usage.Quota // bounds those that are metered, as plans say; nil: nothing does
	Dialects   []*dialect.Dialect
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics aren't shown
	Drain      time.Duration         // for attempts under way when the dispatcher stops; 0: 1 s
	Trim       bool                  // the log is this process's alone: finished deliveries are given up
	Wall       func() time.Time      // what signatures and the journal say; nil: time.Now. A step of it moves no retry
	Address    string                // where this process is to be found, for people; empty: the machine's name
}

// Dispatcher runs the lanes of this process.
type Dispatcher struct {
	cfg    Config
	lane   lane.Config
	fanout fanout.Config

	mu      sync.Mutex
	running bool
	failing map[int32]error
}

// cacheBytes bounds the events that are kept because their data didn't travel
// along.
const cacheBytes = 16 << 20

// New makes a dispatcher.
func New(cfg Config) *Dispatcher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	byName := make(map[string]*dialect.Dialect)
	for _, d := range cfg.Dialects {
		byName[d.Name] = d
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Address == "" {
		cfg.Address, _ = os.Hostname()
	}
	events := lane.NewEventCache(cfg.Log, cacheBytes)
	var remember func(*event.Event)
	if _, alone := cfg.Log.(eventlog.Private); alone {
		// Lanes are all beside fan-out. Elsewhere each process would have to ask a broker
		// for each event.
		remember = events.Remember
	}
	return &Dispatcher{
		cfg: cfg,
		lane: lane.Config{
			Log:     cfg.Log,
			Control: cfg.Control,
			Sender:  cfg.Sender,
			Events:  events,
			Past:    past(cfg),
			Dialect: func(name string) *dialect.Dialect { return byName[name] },
			Delays:  delays(cfg.Dialects),
			Logger:  cfg.Logger,
			Metrics: lane.NewMetrics(cfg.Registerer),
			Usage:   cfg.Usage,
			Quota:   cfg.Quota,
			Clock:   lane.NewClock(cfg.Wall),
			Drain:   cfg.Drain,
			Trim:    cfg.Trim,
			Owner:   rand.Text(),
			Address: cfg.Address,
		},
		fanout: fanout.Config{
			Log:     cfg.Log,
			Control: cfg.Control,
			Logger:  cfg.Logger,
			Metrics: fanout.NewMetrics(cfg.Registerer),

			Remember: remember,
		},
		failing: make(map[int32]error),
	}
}

// replayReads is how many chunks of an environment's events are read at a time for
// replays, whichever lanes they are of.
const replayReads = 2

func past(cfg Config) map[event.Environment]*replay.Reader {
	past := make(map[event.Environment]*replay.Reader)
	for _, env := range event.Environments {
		past[env] = replay.New(replay.Config{Log: cfg.Log, Environment: env, Scans: replayReads})
	}
	return past
}

// Topics lists what a dispatcher of these dialects reads and writes, beside
// events and control.
func Topics(dialects []*dialect.Dialect) []eventlog.Topic {
	var topics []eventlog.Topic
	for _, d := range delays(dialects) {
		topics = append(topics, eventlog.Topic{Name: delivery.Tier(d), Partitions: delivery.Lanes, Retention: delivery.Retention})
	}
	for _, name := range []string{delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic} {
		topics = append(topics, eventlog.Topic{Name: name, Partitions: delivery.Lanes, Retention: delivery.Retention})
	}
	return append(topics, eventlog.Topic{Name: delivery.LanesTopic, Partitions: delivery.Lanes}, notice.Topic)
}

// delays lists the delays of all schedules, each once, 0 always.
func delays(dialects []*dialect.Dialect) []time.Duration {
	all := []time.Duration{0}
	for _, d := range dialects {
		if d.Webhook != nil {
			all = append(all, d.Webhook.Schedule...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Run works on the lanes that fall to this process until ctx ends. What is under
// way then may end within Drain.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.setRunning(true)
	defer d.setRunning(false)
	return d.cfg.Log.Own(ctx, delivery.LanesTopic, d.own)
}

// The pauses between two lives of a lane that can't go on, or was claimed by
// another while it is still given to us: two that are both given it would displace
// one another no more often.
const (
	shortestPause = time.Second
	longestPause  = 30 * time.Second
)

// own has a lane live as long as it is ours. A life that ended with an error is
// followed by another, which learns from the log where the lane stands.
func (d *Dispatcher) own(ctx context.Context, share eventlog.Share) {
	number := share.Partition
	defer d.note(number, nil) // whatever it is, it isn't ours any more
	cfg := d.lane
	// Two lanes have a fan-out beside them.
	if i := int(number); i < len(event.Environments) {
		cfg.FanOut = d.fanOut(event.Environments[i], number)
	}
	pause := shortestPause
	for ctx.Err() == nil {
		began := time.Now()
		err := lane.Run(ctx, cfg, share, func() { d.note(number, nil) })
		switch {
		case err == nil:
			return
		case errors.Is(err, lane.ErrDisplaced):
			d.cfg.Logger.Warn("lane claimed by another", "lane", number, "error", err)
		default:
			d.note(number, err)
			d.cfg.Logger.Error("lane stopped", "lane", number, "error", err, "again", pause)
		}
		if time.Since(began) > time.Minute {
			pause = shortestPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

func (d *Dispatcher) fanOut(env event.Environment, number int32) func(context.Context, lane.FanOutStart, func(int64)) error {
	return func(ctx context.Context, start lane.FanOutStart, progress func(int64)) error {
		cfg := d.fanout
		cfg.Environment, cfg.Lane, cfg.Skip = env, number, start.Skip
		cfg.Next, cfg.Buried, cfg.Generation, cfg.Progress = start.Next, start.Buried, start.Generation, progress
		return fanout.Run(ctx, cfg)
	}
}

func (d *Dispatcher) note(number int32, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.failing, number)
		return
	}
	d.failing[number] = err
}

func (d *Dispatcher) setRunning(running bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = running
}

// Healthy tells why the dispatcher isn't ready; nil: it is.
func (d *Dispatcher) Healthy() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running {
		return errors.New("dispatcher isn't running")
	}
	var all []error
	for number, err := range d.failing {
		all = append(all, fmt.Errorf("lane %d: %w", number, err))
	}
	return errors.Join(all...)
}
