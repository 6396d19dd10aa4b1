package usage

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// MeterConfig is what a Meter is made of.
type MeterConfig struct {
	Log     eventlog.Appender
	Logger  *slog.Logger // nil: none
	Minutes *Minutes     // whose counts here others are told; nil: nobody's
	Quota   *Quota       // whose takers count here; nil: none
}

// Meter counts what this process does for orgs. All methods but Run may be called
// from any number of goroutines; a nil Meter counts nothing.
type Meter struct {
	log    eventlog.Appender
	logger *slog.Logger

	minutes *Minutes

	mu       sync.RWMutex
	counters map[account]*Counter // one for each org that was seen; about 150 bytes

	writer  string   // this meter, in its deltas
	number  uint64   // of the newest delta
	pending [][]byte // deltas that the log hasn't acknowledged, in order
}

// account is what is counted together: an org's in one environment.
type account struct {
	org string
	env event.Environment
}

// Counter counts for one org in one environment. It is good for as long as its
// Meter; a nil one counts nothing.
type Counter [kinds]atomic.Int64

// Add counts n more of the kind. It costs an atomic add.
func (c *Counter) Add(k Kind, n int) {
	if c != nil {
		c[k].Add(int64(n))
	}
}

// take gives what was counted since the last take; false: nothing.
func (c *Counter) take() (n Counts, some bool) {
	for k := range c {
		if c[k].Load() != 0 {
			n[k], some = c[k].Swap(0), true
		}
	}
	return n, some
}

// NewMeter makes a Meter. It counts at once, and tells the log while Run runs.
func NewMeter(cfg MeterConfig) *Meter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Meter{log: cfg.Log, logger: cfg.Logger, minutes: cfg.Minutes, counters: make(map[account]*Counter), writer: rand.Text()}
	if m.minutes != nil {
		m.minutes.writer = m.writer
	}
	if cfg.Quota != nil {
		cfg.Quota.writer = m.writer
	}
	return m
}

// Of gives an org's counter. Whoever counts often for one org keeps it.
func (m *Meter) Of(org string, env event.Environment) *Counter {
	if m == nil {
		return nil
	}
	at := account{org, env}
	m.mu.RLock()
	c := m.counters[at]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c = m.counters[at]; c == nil {
		c = new(Counter)
		m.counters[at] = c
	}
	return c
}

const (
	deltaEvery   = 500 * time.Millisecond
	appendWithin = 5 * time.Second
	lastWithin   = 3 * time.Second // for the last deltas, when Run ends
)

// Run appends a delta each half second in which something was counted, until ctx ends,
// and then what is left. It is to end after all that counts has ended.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(deltaEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
			err := m.flush(ctx)
			switch {
			case err == nil && failing:
				m.logger.Info("usage is appended again")
			case err != nil && !failing && ctx.Err() == nil:
				m.logger.Warn("usage not appended, trying again", "error", err)
			}
			failing = err != nil
		case <-ctx.Done():
			m.finish(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// flush appends what was counted, or what is left of an earlier flush: that comes
// first, with the bytes that it had, for the log may have it already.
func (m *Meter) flush(ctx context.Context) error {
	if len(m.pending) == 0 {
		m.collect()
	}
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	// One by one: a delta that came before one with a lower number would hide it.
	for len(m.pending) > 0 {
		if _, err := m.log.Append(ctx, []eventlog.Record{{Partition: partition, Value: m.pending[0]}}); err != nil {
			return err
		}
		m.pending = m.pending[1:]
	}
	return nil
}

// finish appends what is left of an earlier flush, and the rest.
func (m *Meter) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWithin)
	defer cancel()
	err := m.flush(ctx)
	if err == nil {
		err = m.flush(ctx)
	}
	if err != nil {
		m.collect()
		m.logger.Error("the last usage wasn't appended and is lost", "deltas", len(m.pending), "error", err)
	}
}

// collect makes deltas of what was counted.
func (m *Meter) collect() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	next := newDelta()
	for at, c := range m.counters {
		n, some := c.take()
		if !some {
			continue
		}
		if next.size+entrySize(at) > maxRecord {
			m.put(next)
			next = newDelta()
		}
		next.add(at, &n)
	}
	for org, n := range m.minutes.take(time.Now()) {
		if next.size+minuteSize(org) > maxRecord {
			m.put(next)
			next = newDelta()
		}
		next.addMinute(org, n)
	}
	if next.size > 0 {
		m.put(next)
	}
}

func (m *Meter) put(d *delta) {
	m.number++
	d.Writer, d.Number = m.writer, m.number
	m.pending = append(m.pending, encode(&record{Delta: d}))
}
