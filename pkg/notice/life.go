package notice

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/pkg/eventlog"
)

// life is the time for which the topic is this process's. Its one goroutine
// decides; a mail is sent beside it, one at a time.
type life struct {
	*Notifier
	share   eventlog.Share
	changes changes

	begun       bool // the topic has a begin, or had one
	running     bool // what was in the topic is read
	told        map[string]told
	letters     map[string]*letter   // by org
	recorded    map[string]time.Time // by endpoint: when it was disabled last that the topic knows of
	unpublished map[string]item      // by their ids: events that are owed
	publishAt   time.Time            // after a failure: not before
	publishWait time.Duration        // then
	lastMail    map[string]time.Time // by org; of the last pause only
	refreshAt   time.Time

	sending *letter // its mail is on its way; nil: none is
	parts   []item  // what that says
	sent    chan error
	down    time.Time // the server can't be used until then
	downs   int       // how often it couldn't, in a row
}

func newLife(n *Notifier, share eventlog.Share) *life {
	return &life{
		Notifier: n, share: share, told: make(map[string]told), letters: make(map[string]*letter),
		recorded: make(map[string]time.Time), unpublished: make(map[string]item), lastMail: make(map[string]time.Time), sent: make(chan error, 1),
		changes: changes{news: make(chan struct{}, 1), of: make(map[string]change)},
	}
}

// run tells until ctx ends. An error says that the log can't be read.
func (l *life) run(ctx context.Context) error {
	// First told, then looked at: no change falls between.
	stop := l.cfg.Control.Watch(l.changes.note)
	defer stop()
	if err := l.cfg.Control.Fresh(ctx); err != nil {
		return err
	}
	end, err := l.read(ctx)
	if err != nil {
		return err
	}
	l.running = true
	if err := l.survey(ctx); err != nil {
		return err
	}
	tail, err := l.cfg.Log.Tail(ctx, partition, end)
	if err != nil {
		return fmt.Errorf("tail %s from %d: %w", Topic.Name, end, err)
	}
	defer tail.Close()
	read, cancel := context.WithCancel(ctx)
	batches, failed := make(chan []eventlog.Record), make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { failed <- follow(read, tail, batches) })
	defer reader.Wait()
	defer cancel()
	defer l.wind(ctx)

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		l.change(ctx)
		l.publish(ctx, now)
		l.send(ctx, now)
		l.refresh(ctx, now)
		l.measure(now)
		timer.Reset(l.next(now).Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case records := <-batches:
			for i := range records {
				l.record(ctx, &records[i])
			}
		case <-l.changes.news:
		case err := <-l.sent:
			l.ended(ctx, err)
		case <-timer.C:
		}
	}
}

func follow(ctx context.Context, tail eventlog.Tail, batches chan<- []eventlog.Record) error {
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return fmt.Errorf("tail %s: %w", Topic.Name, err)
		}
		select {
		case batches <- records:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read takes what is in the topic, and gives its end.
func (l *life) read(ctx context.Context) (end int64, err error) {
	from, end, err := l.cfg.Log.Bounds(ctx, partition)
	if err != nil {
		return 0, err
	}
	l.begun = from > 0
	var owed []*record // a told may follow
	for from < end {
		records, err := l.cfg.Log.Read(ctx, partition, from, 1<<20)
		if err != nil {
			return 0, fmt.Errorf("read %s from %d: %w", Topic.Name, from, err)
		}
		for i := range records {
			if r := l.record(ctx, &records[i]); r != nil && r.Kind == kindDisabled {
				owed = append(owed, r)
			}
			from = records[i].Offset + 1
		}
	}
	for _, r := range owed {
		l.disables(r)
	}
	return from, nil
}

// record takes a record: one of a lane, or of ours; nil: it can't be read.
func (l *life) record(ctx context.Context, rec *eventlog.Record) *record {
	r, err := decode(rec.Value)
	if err != nil {
		l.metrics.skipped.Inc()
		l.log.Error("notice can't be read, passed over", "offset", rec.Offset, "error", err)
		return nil
	}
	switch r.Kind {
	case kindBegin:
		l.begun = true
	case kindTold:
		if !l.running {
			l.told[r.Endpoint] = r.told
			if ep := l.cfg.Control.Endpoint(r.Endpoint); ep != nil && time.Since(r.WarnedAt) < daily {
				l.take(ep.Org, itemKey{failing, r.Endpoint}) // that was before, and is what it warned of
			}
			break
		}
		t := l.told[r.Endpoint] // it may know more by now
		t.merge(r.told)
		l.told[r.Endpoint] = t
	case kindFailing:
		if time.Since(rec.Time) < stale {
			l.fails(ctx, r)
		}
	case kindRecovered:
		l.drop(r.Endpoint, failing)
	}
	return r
}

// stale is how old a failing may be that nothing has followed: by then its
// endpoint was disabled, or has recovered when nobody could say so.
const stale = time.Hour

// merge takes what another told says that is newer.
func (t *told) merge(other told) {
	t.Published, t.Mailed, t.WarnedAt = later(t.Published, other.Published), later(t.Mailed, other.Mailed), later(t.WarnedAt, other.WarnedAt)
	if other.MissedAt.After(t.MissedAt) {
		t.Missed, t.MissedAt = other.Missed, other.MissedAt
	}
}

// next gives the time until which nothing is to be done that no message tells of.
func (l *life) next(now time.Time) time.Time {
	at := l.refreshAt
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if len(l.unpublished) > 0 {
		sooner(l.publishAt)
	}
	if len(l.letters) > 0 {
		sooner(now.Add(measureEvery))
	}
	if l.sending == nil {
		for org, letter := range l.letters {
			sooner(later(letter.due(l.lastMail[org]), l.down))
		}
	}
	return later(at, now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// measureEvery is how often gauges are set while something waits.
const measureEvery = 15 * time.Second

func (l *life) measure(now time.Time) {
	waiting, due := len(l.parts), now
	for _, it := range l.parts {
		due = earlier(due, it.ready)
	}
	for _, letter := range l.letters {
		waiting += len(letter.items)
		for _, it := range letter.items {
			due = earlier(due, it.ready)
		}
	}
	l.metrics.waiting.Set(float64(waiting))
	l.metrics.late.Set(now.Sub(due).Seconds())
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
