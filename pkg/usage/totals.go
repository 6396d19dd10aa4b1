package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Log is what Totals need of the log.
type Log interface {
	eventlog.Appender
	eventlog.Reader
	Trim(ctx context.Context, p eventlog.Partition, before int64) error
}

// TotalsConfig is what Totals are made of.
type TotalsConfig struct {
	Log        Log
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics aren't shown
	Minutes    *Minutes              // are told what other processes counted; nil: nobody is
	Quota      *Quota                // goes by these totals; nil: none
}

// Totals is what all processes counted, by org. All methods but Run may be called
// from any number of goroutines.
type Totals struct {
	log     Log
	logger  *slog.Logger
	minutes *Minutes
	quota   *Quota
	skipped prometheus.Counter
	ready   chan struct{} // closed when the book is as new as the log was at the start, or will never be
	kept    int64         // keep's: where its newest checkpoint ends; one that isn't read yet is not repeated

	mu     sync.RWMutex
	book   *book // nil: not read yet
	failed error // why it isn't kept up any more
}

// NewTotals makes Totals. They know nothing until Run does.
func NewTotals(cfg TotalsConfig) *Totals {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Totals{log: cfg.Log, logger: cfg.Logger, minutes: cfg.Minutes, quota: cfg.Quota, ready: make(chan struct{}), skipped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_usage_records_skipped_total", Help: "Records of usage that can't be read and were passed over."})}
	if t.quota != nil {
		t.quota.totals = t
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(t.skipped)
	}
	return t
}

// Ready is closed once what was counted before the start is known, or it is known
// that it can't be.
func (t *Totals) Ready() <-chan struct{} { return t.ready }

// ErrUnavailable says that what was counted isn't known now.
var ErrUnavailable = errors.New("usage isn't known now")

// Row is what was counted of an org, in one environment, in a month or on a day.
type Row struct {
	Start       time.Time // of the month or day, UTC
	Environment event.Environment
	Counts      Counts
}

// Of gives what was counted of an org: this month and the one before, and the last
// 40 days, each in order of time, without rows in which nothing was counted.
func (t *Totals) Of(org string) (months, days []Row, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case t.failed != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, t.failed)
	case t.book == nil:
		return nil, nil, ErrUnavailable
	}
	now := time.Now()
	for _, env := range event.Environments {
		u := t.book.accounts[account{org, env}]
		if u == nil {
			continue
		}
		for _, s := range recent(u.months, monthOf(now)-keptMonths) {
			months = append(months, Row{monthStart(s.period), env, s.counts})
		}
		for _, s := range recent(u.days, dayOf(now)-keptDays) {
			days = append(days, Row{dayStart(s.period), env, s.counts})
		}
	}
	for _, rows := range [][]Row{months, days} {
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Environment, b.Environment)) })
	}
	return months, days, nil
}

// FirstDay gives the first of the days that Of goes back to.
func FirstDay(now time.Time) time.Time { return dayStart(dayOf(now) - keptDays + 1) }

// Run keeps the totals up with the log until ctx ends.
func (t *Totals) Run(ctx context.Context) error {
	var keeper sync.WaitGroup
	keeper.Go(func() { t.keep(ctx) })
	defer keeper.Wait()

	const shortest, longest = 50 * time.Millisecond, 2 * time.Second
	f := follower{Totals: t}
	for delay := shortest; ctx.Err() == nil; delay = min(2*delay, longest) {
		err := f.follow(ctx, func() { delay = shortest })
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNewer):
			t.fail(err)
			<-ctx.Done()
			return nil
		case errors.Is(err, eventlog.ErrTooOld), errors.Is(err, eventlog.ErrPastEnd):
			f.book = nil // a checkpoint passed it: there is a newer one to begin with
		}
		t.logger.Warn("usage can't be followed, trying again", "error", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
	return nil
}

func (t *Totals) fail(err error) {
	t.logger.Error("usage can't be followed any more", "error", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = err
	if t.book == nil {
		close(t.ready)
	}
}

// follower folds the log into a book, which is the Totals' once it has caught up.
type follower struct {
	*Totals
	book *book // nil: to be begun
	goal int64 // where it has caught up
}

func (f *follower) follow(ctx context.Context, alive func()) error {
	if f.book == nil {
		if err := f.begin(ctx); err != nil {
			return err
		}
	}
	tail, err := f.log.Tail(ctx, partition, f.book.next)
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		if f.book.next >= f.goal {
			f.show()
		}
		records, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		alive()
		if err := f.fold(records); err != nil {
			return err
		}
	}
}

// show makes the book the one that is asked.
func (f *follower) show() {
	if f.Totals.book == f.book { // only this goroutine sets it
		return
	}
	f.mu.Lock()
	first := f.Totals.book == nil
	f.Totals.book = f.book
	f.mu.Unlock()
	if first {
		close(f.ready)
	}
}

func (f *follower) fold(records []eventlog.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range records {
		r := &records[i]
		rec, err := decode(r.Value)
		switch {
		case errors.Is(err, errNewer):
			return fmt.Errorf("record at offset %d: %w", r.Offset, err)
		case err != nil:
			f.skipped.Inc()
			f.logger.Error("record passed over", "topic", r.Topic, "offset", r.Offset, "error", err)
			rec = new(record)
		}
		f.book.fold(rec, r.Offset, r.Time, len(r.Value))
		if rec.Delta != nil {
			f.minutes.hear(rec.Delta, time.Now())
			f.quota.hear(rec.Delta)
		}
	}
	return nil
}

// begin makes a book of the last whole checkpoint. All that is in the topic is
// folded behind it: what the checkpoint has is known by its writers' numbers.
func (f *follower) begin(ctx context.Context) error {
	start, end, err := f.log.Bounds(ctx, partition)
	if err != nil {
		return fmt.Errorf("look up bounds of %s: %w", Topic.Name, err)
	}
	var found gather
	for at := start; at < end; {
		records, err := f.log.Read(ctx, partition, at, readBytes)
		if err != nil {
			return fmt.Errorf("read %s from %d: %w", Topic.Name, at, err)
		}
		if len(records) == 0 {
			break
		}
		for i := range records {
			switch rec, err := decode(records[i].Value); {
			case errors.Is(err, errNewer):
				return fmt.Errorf("record at offset %d: %w", records[i].Offset, err)
			case err == nil && rec.Checkpoint != nil:
				found.add(rec.Checkpoint)
			}
		}
		at = records[len(records)-1].Offset + 1
	}
	f.book, f.goal = restore(found.best), end
	f.book.next = start
	return nil
}

const readBytes = 1 << 20
