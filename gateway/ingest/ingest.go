// Package ingest takes events in: POST /v1/events, and whatever else publishes
// from inside this process.
//
//	body ─► parse, check (parse.go, batch.go) ─┬───────────► records ─► admission ─► append ─► 202
//	                                Publish ───┤                ▲           └─ 503       └─ 503
//	                                           └─ key, ids ─► idem
//
//	ingest.go        Ingest: admission, append, Publish
//	post.go          the call: media types, limits, answers
//	once.go          requests that are recognised when they come again
//	batch.go         one event, {"events":[…]}, or a line each
//	parse.go         the members of one event
//	cloudevents.go   events as CloudEvents writes them
//	reader.go        the few bytes of JSON around data
//
// A request is taken whole or not at all. It is parsed once, by hand: data goes
// through event.CanonicalPrefix where it lies, and what the log gets is written
// behind it. A 202 says that the log has every event durably.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/idem"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/usage"
)

// Config is what an Ingest is made of.
type Config struct {
	Log        eventlog.Log
	OrgExists  func(id string) bool  // asked for the orgs that an audience names
	Usage      *usage.Meter          // counts what orgs publish; nil: nobody does
	Registerer prometheus.Registerer // nil: metrics aren't shown
	Logger     *slog.Logger          // nil: the default one

	MaxInFlight int64         // bytes that wait for the log; 0: 64 MiB. Past it events are refused
	Timeout     time.Duration // of an append; 0: 5 s
	Entries     int           // keys and ids that are known again; 0: idem.DefaultEntries
}

// Ingest takes events in. All methods may be called from any number of
// goroutines.
type Ingest struct {
	cfg      Config
	metrics  *metrics
	claims   *idem.Claims
	failures repeats
	inFlight atomic.Int64
	buffers  sync.Pool // *batchBuffers
}

// New makes an Ingest.
func New(cfg Config) *Ingest {
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 64 << 20
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	i := &Ingest{cfg: cfg}
	i.metrics = newMetrics(cfg.Registerer, i)
	i.buffers.New = func() any { return new(batchBuffers) }
	_, private := cfg.Log.(eventlog.Private)
	i.claims = idem.New(idem.Config{Log: cfg.Log, Append: i.put, Private: private,
		Published: i.published, Entries: cfg.Entries, Registerer: cfg.Registerer, Logger: cfg.Logger})
	return i
}

// Run follows what other nodes have taken in, until ctx ends. Requests with a
// key or ids are taken while it runs and Ready is closed.
func (i *Ingest) Run(ctx context.Context) error { return i.claims.Run(ctx) }

// Ready is closed once the keys and ids of the last 24 h are known.
func (i *Ingest) Ready() <-chan struct{} { return i.claims.Ready() }

// batchBuffers are the records of one append, used again by the next.
type batchBuffers struct {
	records []eventlog.Record
	bytes   []byte
}

// keepBuffers bounds what is kept for the next append, in bytes.
const keepBuffers = 64 << 10

// Publish takes in an event that this process makes: what comes from a provider,
// or is told by the product itself. Environment, Org, Type and Data are needed.
// Without an ID one is made; without a Timestamp it is now; without an Audience
// its org; without a Key the org's id. Data is brought into canonical form. An
// event whose ID was taken in within 24 h isn't again.
//
// The event is durable when it returns nil. A *dialect.Error says why it can't
// be taken, now or at all; its Status is 503 when it is worth trying again.
func (i *Ingest) Publish(ctx context.Context, events ...*event.Event) error {
	_, err := i.PublishOnce(ctx, events...)
	return err
}

// PublishOnce is Publish for whoever wants to know whether all events were taken in
// before. An ID that another event was taken in with is an error of code Conflict.
func (i *Ingest) PublishOnce(ctx context.Context, events ...*event.Event) (replayed bool, err error) {
	now := time.Now()
	made := make([]*event.Event, len(events))
	given := make([]int, len(events))
	for n, old := range events {
		ev := *old
		given[n] = givenOf(&ev)
		if err := complete(&ev, now); err != nil {
			return false, err
		}
		made[n] = &ev
	}
	t := &taking{events: made, given: given, now: now}
	if err := i.take(ctx, t); err != nil {
		return false, err
	}
	for n, ev := range made {
		*events[n] = *ev
	}
	return t.replayed, nil
}

// complete sets what Publish may be given without, and checks the rest.
func complete(ev *event.Event, now time.Time) error {
	fill(ev, now)
	ev.Audience.Orgs = slices.Compact(slices.Sorted(slices.Values(ev.Audience.Orgs)))
	if ev.Org == "" || !event.ValidType(ev.Type) || !event.ValidID(ev.ID) || len(ev.Key) > event.MaxKey ||
		(ev.Environment != event.Sandbox && ev.Environment != event.Live) {
		return badRequest(fmt.Sprintf("event %q of type %q has no valid org, environment, type, id or key", ev.ID, ev.Type))
	}
	data, members, err := event.Canonical(ev.Data)
	var wrong *event.DataError
	switch {
	case errors.As(err, &wrong):
		issue := dialect.Issue{Path: append([]string{"data"}, wrong.Path...), Message: wrong.Message}
		return badRequest(describe(&issue), issue)
	case err != nil:
		return badRequest(err.Error())
	}
	if len(data) > event.MaxData {
		return tooLarge("data has more than 256 KiB", "data")
	}
	ev.Data, ev.Members = data, members
	return nil
}

// fill sets what a publisher may leave out.
func fill(ev *event.Event, now time.Time) {
	if ev.ID == "" {
		ev.ID = event.NewID(now)
	}
	if ev.Timestamp.IsZero() {
		ev.Timestamp = now.UTC().Truncate(time.Millisecond)
	}
	if !ev.Audience.All && len(ev.Audience.Orgs) == 0 {
		ev.Audience.Orgs = []string{ev.Org}
	}
	if ev.Key == "" {
		ev.Key = ev.Org
	}
}

// append hands checked events to the log and returns once they are durable.
func (i *Ingest) append(ctx context.Context, events []*event.Event) error {
	b := i.buffers.Get().(*batchBuffers)
	b.records, b.bytes = b.records[:0], b.bytes[:0]
	for _, ev := range events {
		from := len(b.bytes)
		b.bytes = ev.AppendRecord(b.bytes)
		// A later event may move the buffer; what lies in the old one stays right.
		b.records = append(b.records, eventlog.Record{
			Partition: eventlog.Partition{Topic: ev.Environment.Topic()},
			Key:       []byte(ev.Key),
			Value:     b.bytes[from:len(b.bytes):len(b.bytes)],
		})
	}
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Timeout)
	defer cancel()
	if _, err := i.put(ctx, b.records); err != nil {
		// The buffers aren't used again: how far the log came with them isn't known.
		return i.refusal(err)
	}
	for _, ev := range events {
		i.published(ev.Org, ev.Environment, 1)
	}
	if cap(b.bytes) <= keepBuffers {
		clear(b.records)
		i.buffers.Put(b)
	}
	return nil
}

var errCrowded = unavailable("too much is waiting for the log; nothing was taken, try again", 1)

// put appends records, if there is room for more to wait, and counts those of
// events.
func (i *Ingest) put(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	var size int64
	for n := range records {
		size += int64(len(records[n].Value))
	}
	if i.inFlight.Add(size) > i.cfg.MaxInFlight {
		i.inFlight.Add(-size)
		return nil, errCrowded
	}
	defer i.inFlight.Add(-size)
	begun := time.Now()
	offsets, err := i.cfg.Log.Append(ctx, records)
	i.metrics.append.Observe(time.Since(begun).Seconds())
	if err != nil {
		return nil, err
	}
	i.metrics.taken(records)
	return offsets, nil
}

// published counts events of an org that are in the log.
func (i *Ingest) published(org string, env event.Environment, events int) {
	i.cfg.Usage.Of(org, env).Add(usage.Published, events)
}

// refusal says for the publisher why the log took nothing, or perhaps something.
func (i *Ingest) refusal(err error) error {
	var refused *dialect.Error
	if errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, eventlog.ErrFull) { // the log said so in its messages when it began
		return unavailable("the log is full; nothing was taken, try again later", 30)
	}
	if hushed, say := i.failures.say(time.Now()); say {
		i.cfg.Logger.Error("events not appended", "error", err, "not shown before", hushed)
	}
	return unavailable("the log didn't answer; the events may be in it or not: sent again with the same "+KeyHeader+
		" or the same ids they are published once, without either perhaps twice", 1)
}

// sayEvery is how often a message tells of requests that the log failed: without
// it each of them does.
const sayEvery = 10 * time.Second

// repeats counts what messages don't tell of.
type repeats struct {
	mu     sync.Mutex
	last   time.Time
	hushed int // since then
}

// say reports whether it is time for a message, and how many there weren't
// since the last.
func (r *repeats) say(now time.Time) (hushed int, say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < sayEvery {
		r.hushed++
		return 0, false
	}
	hushed, r.hushed, r.last = r.hushed, 0, now
	return hushed, true
}

func unavailable(message string, retryAfter int) *dialect.Error {
	return &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: message, RetryAfter: retryAfter}
}

func badRequest(message string, issues ...dialect.Issue) *dialect.Error {
	return &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: message, Issues: issues}
}

func tooLarge(message string, path ...string) *dialect.Error {
	e := &dialect.Error{Status: 413, Code: dialect.TooLarge, Message: message}
	if len(path) > 0 {
		e.Issues = []dialect.Issue{{Path: path, Message: message}}
	}
	return e
}
