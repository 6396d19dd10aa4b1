// Package fanout turns events into deliveries: one for every endpoint that is
// owed the event, on the first tier, in the partition of the endpoint's lane.
//
//	events.<env> ─► batch ─► control is fresh ─► match ─► tier.0s, durable ─► its place moves on
//	                  ▲                                                            │
//	                  └──────────────────── the next batch ────────────────────────┘
//
// Its place is kept by a lane, in snapshots; after a crash it appends some again,
// and the lanes drop what they had before: the event offsets that fan-out
// appends for one endpoint rise.
package fanout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/replay"
)

// Config is what a fan-out needs.
type Config struct {
	Log     eventlog.Log
	Control *control.Control
	Logger  *slog.Logger
	Metrics *Metrics

	Environment event.Environment
	Lane        int32                       // whose partition of dead takes events that can't be read
	Next        int64                       // where to begin; below 0: at the first event there ever was
	Buried      map[delivery.Place]struct{} // records that are with the dead letters already
	Generation  uint64                      // of the lane's owner: what it buries counts as that does
	Progress    func(next int64)            // told when all that follows from the events below is durable
	Skip        bool                        // events that the log doesn't have any more are given up

	// Remember is told of an event before deliveries that don't carry its data; nil: all
	// carry it. Where many endpoints are owed an event the log then has its data once,
	// and not in each of their records; whoever reads it again mustn't have to go far.
	Remember func(*event.Event)
}

// Metrics are those of all fan-outs of a process.
type Metrics struct {
	events, deliveries, poisoned, doubles, skipped prometheus.Counter
	age                                            *prometheus.GaugeVec
	oldest                                         oldest
}

// oldest shows how old the oldest event is that is being fanned out: it grows when
// that doesn't come to an end. What isn't fanned out here isn't shown.
type oldest struct {
	desc  *prometheus.Desc
	mu    sync.Mutex
	since map[event.Environment]time.Time // zero: nothing is at hand
}

// Describe implements prometheus.Collector.
func (o *oldest) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector.
func (o *oldest) Collect(ch chan<- prometheus.Metric) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for env, since := range o.since {
		var age time.Duration
		if !since.IsZero() {
			age = max(0, time.Since(since))
		}
		ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, age.Seconds(), env.String())
	}
}

func (o *oldest) set(env event.Environment, since time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since == nil {
		o.since = make(map[event.Environment]time.Time)
	}
	o.since[env] = since
}

func (o *oldest) gone(env event.Environment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.since, env)
}

// NewMetrics makes the metrics and registers them; nil: they are only counted.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_fanout_" + name, Help: help})
	}
	m := &Metrics{
		events:     counter("events_total", "Events that were fanned out."),
		deliveries: counter("deliveries_total", "Deliveries that came of them."),
		poisoned:   counter("poisoned_total", "Records of events that can't be read."),
		doubles:    counter("doubles_total", "Copies of events in the log that were passed over."),
		skipped:    counter("skipped_total", "Events given up at an operator's word, because the log doesn't have them any more."),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_fanout_age_seconds", Help: "Age of the newest event when it was fanned out."}, []string{"environment"}),
		oldest: oldest{desc: prometheus.NewDesc("sluice_fanout_oldest_seconds",
			"Age of the oldest event that is being fanned out; 0: none is.", []string{"environment"}, nil)},
	}
	if reg != nil {
		reg.MustRegister(m.events, m.deliveries, m.poisoned, m.doubles, m.skipped, m.age, &m.oldest)
	}
	return m
}

// appendBytes is about how much one append takes: an event that everybody is owed
// goes out in several.
const appendBytes = 4 << 20

// Run fans out until ctx ends. An error says that it can't go on: what comes
// after it is the caller's to decide, and nothing was skipped.
func Run(ctx context.Context, cfg Config) error {
	p := eventlog.Partition{Topic: cfg.Environment.Topic()}
	next := max(cfg.Next, 0)
	start, end, err := cfg.Log.Bounds(ctx, p)
	if err != nil {
		return err
	}
	if next < start || next > end {
		if !cfg.Skip {
			return fmt.Errorf("fan-out of %s stands at %d, and the log has %d to %d: what lies between is gone; `sluice lane skip %d` has it go on without it", p.Topic, next, start, end, cfg.Lane)
		}
		count := max(0, start-next)
		cfg.Metrics.skipped.Add(float64(count))
		cfg.Logger.Error("fan-out skipped what is lost", "topic", p.Topic, "from", next, "count", count)
		next = min(max(next, start), end)
		cfg.Progress(next)
	}
	f := &fan{Config: cfg}
	if err := replay.Recall(ctx, cfg.Log, cfg.Environment, next, &f.doubles); err != nil {
		return err
	}
	tail, err := cfg.Log.Tail(ctx, p, next)
	if err != nil {
		return fmt.Errorf("tail %s from %d: %w", p.Topic, next, err)
	}
	defer tail.Close()
	shown := &cfg.Metrics.oldest
	defer shown.gone(cfg.Environment)
	for {
		shown.set(cfg.Environment, time.Time{})
		records, err := tail.Next(ctx)
		if err != nil {
			return fmt.Errorf("tail %s: %w", p.Topic, err)
		}
		shown.set(cfg.Environment, records[0].Time)
		if err := f.fresh(ctx); err != nil {
			return err
		}
		if err := f.batch(ctx, records); err != nil {
			return err
		}
		cfg.Progress(records[len(records)-1].Offset + 1)
	}
}

// fan is one fan-out, and what it is about to append.
type fan struct {
	Config
	doubles event.Doubles
	records []eventlog.Record
	buf     []byte
}

// fresh waits until control is as new as the events at hand: an endpoint made
// before them, on whichever node, is known then.
func (f *fan) fresh(ctx context.Context) error {
	for {
		err := f.Control.Fresh(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := f.Control.Healthy(); err != nil {
			return fmt.Errorf("control state isn't to be had: %w", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var firstTier = delivery.Tier(0)

// batch appends what follows from the records and returns when all of it is
// durable.
func (f *fan) batch(ctx context.Context, records []eventlog.Record) error {
	applied := f.Control.Applied()
	for i := range records {
		r := &records[i]
		ev, err := event.FromLog(r.Value, f.Environment, r.Offset, r.Time)
		if err != nil {
			f.bury(r, err)
			continue
		}
		if f.doubles.Double(ev) {
			f.Metrics.doubles.Inc()
			f.Logger.Warn("event is in the log twice, its copy is passed over", "topic", r.Topic, "offset", r.Offset, "id", ev.ID)
			continue
		}
		f.Metrics.events.Inc()
		ids := f.Control.Matching(ev)
		once := f.Remember != nil && len(ids)*len(ev.Data) > delivery.MaxInline
		if once {
			f.Remember(ev)
		}
		for _, id := range ids {
			d := delivery.New(ev, id, applied)
			if once {
				d.Refer()
			}
			f.add(firstTier, delivery.Lane(id), d)
			f.Metrics.deliveries.Inc()
			if len(f.buf) >= appendBytes {
				if err := f.flush(ctx); err != nil {
					return err
				}
			}
		}
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	f.Metrics.age.WithLabelValues(f.Environment.String()).Set(time.Since(records[len(records)-1].Time).Seconds())
	return nil
}

func (f *fan) add(topic string, lane int32, d *delivery.Delivery) {
	from := len(f.buf)
	f.buf = append(f.buf, d.Endpoint...)
	at := len(f.buf)
	f.buf = d.AppendRecord(f.buf)
	f.records = append(f.records, eventlog.Record{
		Partition: eventlog.Partition{Topic: topic, Number: lane},
		Key:       f.buf[from:at:at],
		Value:     f.buf[at:len(f.buf):len(f.buf)],
	})
}

func (f *fan) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil || len(f.records) == 0 {
		return err
	}
	// What was begun is ended: nothing of ours may come behind what the next owner
	// appends.
	if _, err := f.Log.Append(context.WithoutCancel(ctx), f.records); err != nil {
		return fmt.Errorf("append %d deliveries: %w", len(f.records), err)
	}
	clear(f.records)
	f.records, f.buf = f.records[:0], f.buf[:0]
	return nil
}

// bury puts a record that is no event with the dead letters, once, so that it is
// in nobody's way.
func (f *fan) bury(r *eventlog.Record, err error) {
	at := delivery.Place{Topic: r.Topic, Offset: r.Offset}
	if _, done := f.Buried[at]; done {
		return
	}
	f.Metrics.poisoned.Inc()
	f.Logger.Error("event can't be read", "topic", r.Topic, "offset", r.Offset, "error", err)
	f.add(delivery.DeadTopic, f.Lane, &delivery.Delivery{
		Generation: f.Generation,
		Event:      event.Event{Environment: f.Environment, Offset: r.Offset},
		Origin:     at,
		Reason:     "the event can't be read: " + err.Error(),
	})
}
