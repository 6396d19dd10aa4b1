package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Config is what a Reader is made of.
type Config struct {
	Log         eventlog.Reader
	Environment event.Environment
	Incarnation event.Incarnation     // of the log; a cursor of another one has expired
	Window      *Window               // nil: all is read from the log
	Metrics     prometheus.Registerer // nil: none
	Scans       int                   // pages of the log read at a time, by all calls together; 0: 4
}

// The ways in which a cursor can be no place to read from.
var (
	// ErrCursorExpired says that what followed the cursor isn't shown any more, or
	// was in another life of the log.
	ErrCursorExpired = errors.New("cursor has expired")
	// ErrCursorInvalid says that it is no cursor, or one of another environment.
	ErrCursorInvalid = errors.New("not a cursor of this environment")
)

// Reader reads one environment's past. All methods may be called from any number
// of goroutines. The log is read a page at a time, few at once, and what one has
// read serves all who want it: so a crowd that resumes leaves the tail its part.
//
// Nothing that was logged longer than event.Shown ago is ever returned.
type Reader struct {
	cfg       Config
	partition eventlog.Partition
	scans     chan struct{} // holds a token for each page being read
	finds     chan struct{} // holds a token for each search through all that is kept
	pages     pages
	poisoned  prometheus.Counter
	wanted    *prometheus.CounterVec // source; of pages

	lookup chan struct{} // holds a token while the oldest place is being looked up
	mu     sync.Mutex
	oldest int64
	asked  time.Time
}

// New makes a Reader.
func New(cfg Config) *Reader {
	if cfg.Scans <= 0 {
		cfg.Scans = 4
	}
	if cfg.Window == nil {
		cfg.Window = &Window{}
	}
	poisoned := prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "sluice_replay_poisoned_total",
		Help:        "Records passed over, over and over, because they are no event.",
		ConstLabels: prometheus.Labels{"environment": cfg.Environment.String()},
	})
	wanted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "sluice_replay_pages_total",
		Help:        "Pages of the past that were wanted, by where they came from.",
		ConstLabels: prometheus.Labels{"environment": cfg.Environment.String()},
	}, []string{"source"})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(poisoned, wanted)
	}
	return &Reader{
		cfg:       cfg,
		poisoned:  poisoned,
		wanted:    wanted,
		partition: eventlog.Partition{Topic: cfg.Environment.Topic()},
		scans:     make(chan struct{}, cfg.Scans),
		finds:     make(chan struct{}, max(1, cfg.Scans/2)),
		lookup:    make(chan struct{}, 1),
	}
}

// Cursor makes the cursor of a place: everything before next has been seen.
func (r *Reader) Cursor(next int64) event.Cursor {
	return event.Cursor{Incarnation: r.cfg.Incarnation, Environment: r.cfg.Environment, Next: next}
}

// Place gives the offset to read on from, for a cursor that a client sent, or
// ErrCursorExpired or ErrCursorInvalid.
func (r *Reader) Place(ctx context.Context, cursor string) (int64, error) {
	c, err := event.ParseCursor(cursor)
	if err != nil || c.Environment != r.cfg.Environment {
		return 0, ErrCursorInvalid
	}
	if c.Incarnation != r.cfg.Incarnation {
		return 0, ErrCursorExpired
	}
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return 0, err
	}
	if c.Next < oldest {
		return 0, ErrCursorExpired
	}
	if _, end := r.cfg.Window.Bounds(); c.Next <= end {
		return c.Next, nil
	}
	end, err := r.End(ctx)
	if err != nil {
		return 0, err
	}
	if c.Next > end {
		return 0, ErrCursorInvalid
	}
	return c.Next, nil
}

// End gives the place behind the newest event.
func (r *Reader) End(ctx context.Context) (int64, error) {
	_, end, err := r.cfg.Log.Bounds(ctx, r.partition)
	if err != nil {
		return 0, fmt.Errorf("look up end of %s: %w", r.partition.Topic, err)
	}
	return end, nil
}

// At gives the place of the first event that was logged at t or later: the
// oldest that is shown for a time long ago, the end for one to come.
func (r *Reader) At(ctx context.Context, t time.Time) (int64, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return 0, err
	}
	if time.Since(t) >= event.Shown {
		return oldest, nil
	}
	at, err := r.offsetAt(ctx, t)
	return max(at, oldest), err
}

func (r *Reader) offsetAt(ctx context.Context, t time.Time) (int64, error) {
	at, err := r.cfg.Log.OffsetAt(ctx, r.partition, t)
	if err != nil {
		return 0, fmt.Errorf("look up %s at %s: %w", r.partition.Topic, t.UTC().Format(time.RFC3339), err)
	}
	return at, nil
}

// oldestFor is how long the place of the oldest event is believed.
const oldestFor = 5 * time.Second

// Oldest gives the place of the oldest event that is shown. The log is asked
// once in five seconds, however many want to know.
func (r *Reader) Oldest(ctx context.Context) (int64, error) {
	if at, ok := r.knownOldest(); ok {
		return at, nil
	}
	select {
	case r.lookup <- struct{}{}:
		defer func() { <-r.lookup }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if at, ok := r.knownOldest(); ok {
		return at, nil
	}
	now := time.Now()
	at, err := r.offsetAt(ctx, now.Add(-event.Shown))
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// It never goes back, whatever the clock does.
	r.oldest, r.asked = max(r.oldest, at), now
	return r.oldest, nil
}

func (r *Reader) knownOldest() (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.oldest, !r.asked.IsZero() && time.Since(r.asked) < oldestFor
}
