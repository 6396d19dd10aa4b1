package drive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/book"
	"sluice/loadtest/ledger"
	"sluice/pkg/event"
)

// streams are the clients of one kind.
type streams struct {
	*Streams
	run       *run
	meter     *meter // what comes; times are those of steady clients
	followers []*follower
	connects  atomic.Int64

	mu      sync.Mutex
	endings map[string]int // how connections ended that no client meant to end
}

// manner is how a client behaves.
type manner int

const (
	steady manner = iota
	stalled
	resuming
	reconnecting
)

// follower is one client. It keeps its place over connections, unless it is one of
// those that don't.
type follower struct {
	of     *streams
	manner manner
	org    int
	name   string
	class  *book.Class
	rnd    *rand.Rand

	stream *book.Stream // nil: its stream hasn't begun
	cursor string
	nap    time.Time // when it stops reading next
	began  chan struct{}
	once   sync.Once
}

// conn is a connection of a follower's.
type conn interface {
	// read takes what comes next.
	read() error
	Close() error
}

// errLeft says that the client ended the connection itself.
var errLeft = errors.New("it left")

// gather makes this process's clients of a kind; the first of all have manners.
func (r *run) gather(cfg *Streams) *streams {
	s := &streams{Streams: cfg, run: r, meter: newMeter(), endings: make(map[string]int)}
	for i := range cfg.Connections {
		org := i % len(r.Keys)
		if r.number == 0 { // it judges what the streams of a class are owed together
			r.class(org, cfg.Publishers)
		}
		if !r.has(i) {
			continue
		}
		f := &follower{of: s, org: org, name: fmt.Sprintf("%s-%d", cfg.Name, i+1), class: r.class(org, cfg.Publishers), rnd: r.random(), began: make(chan struct{})}
		switch at := (float64(i) + 0.5) / float64(cfg.Connections); {
		case at < float64(cfg.Stalled):
			f.manner = stalled
		case at < float64(cfg.Stalled+cfg.Resuming):
			f.manner = resuming
		case at < float64(cfg.Stalled+cfg.Resuming+cfg.Reconnecting):
			f.manner = reconnecting
		}
		s.followers = append(s.followers, f)
	}
	return s
}

// follow connects, and connects again, until ctx ends.
func (f *follower) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.connection(ctx)
		switch {
		case !errors.Is(err, errLeft) && ctx.Err() == nil:
			f.of.ended(err)
		case f.manner == reconnecting && f.stream != nil:
			f.stream.End()
			f.stream, f.cursor = nil, ""
		}
		pause(ctx, time.Duration(50+f.rnd.IntN(200))*time.Millisecond)
	}
}

func (s *streams) ended(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := err.Error(); len(s.endings) < 20 || s.endings[text] > 0 {
		s.endings[text]++
	}
}

// connection makes one connection and reads it to its end.
func (f *follower) connection(ctx context.Context) error {
	c, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	f.of.connects.Add(1)
	var left atomic.Bool
	if f.manner == resuming || f.manner == reconnecting {
		defer time.AfterFunc(around(f.rnd, f.of.Stay), func() {
			if !f.of.run.settling() && f.hasBegun() {
				left.Store(true)
				c.Close()
			}
		}).Stop()
	}
	f.nap = time.Now().Add(around(f.rnd, f.of.Stall))
	for {
		if err := c.read(); err != nil {
			if left.Load() {
				return errLeft
			}
			return err
		}
		if f.manner == stalled && time.Now().After(f.nap) && !f.of.run.settling() {
			f.stall(ctx)
		}
	}
}

// stall reads nothing for a while.
func (f *follower) stall(ctx context.Context) {
	select {
	case <-time.After(time.Duration(f.of.Stall)):
	case <-f.of.run.settled:
	case <-ctx.Done():
	}
	f.nap = time.Now().Add(around(f.rnd, f.of.Stall))
}

// around is half of a time to one and a half.
func around(rnd *rand.Rand, t Time) time.Duration {
	return time.Duration((0.5 + rnd.Float64()) * float64(t))
}

// dial connects; no more than a few do at once.
func (f *follower) dial(ctx context.Context) (conn, error) {
	select {
	case f.of.run.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-f.of.run.dialing }()
	if f.of.Kind == serverEvents {
		return f.dialEvents(ctx)
	}
	return f.dialWebSocket(ctx)
}

func (f *follower) hasBegun() bool {
	select {
	case <-f.began:
		return true
	default:
		return false
	}
}

// begin says that the stream stands, and where; a client that was there before goes
// on from its own place.
func (f *follower) begin(cursor string) error {
	if f.stream != nil {
		f.stream.Resumed()
		return nil
	}
	next, err := f.place(cursor)
	if err != nil {
		return err
	}
	f.stream, f.cursor = f.class.Begin(f.name, next, f.manner != reconnecting), cursor
	f.once.Do(func() { close(f.began) })
	return nil
}

// took writes down an event that came.
func (f *follower) took(number int, cursor string) error {
	next, err := f.place(cursor)
	if err != nil {
		return err
	}
	if f.stream == nil {
		return errors.New("an event came before the stream began")
	}
	f.cursor = cursor
	if !f.stream.Frame(number, next-1) || f.manner != steady {
		f.of.meter.counted(1)
		return nil
	}
	f.of.meter.timed(1, f.of.run.book.Since(number))
	return nil
}

// strange writes down what isn't an event of the run as it was published.
func (f *follower) strange(kind ledger.Kind, number int, text []byte) {
	f.of.run.book.Violated(kind, number, f.name, "it was sent %.300s", text)
}

// moved says that the server has told the client of another place; empty: of none,
// since its stream hasn't begun.
func (f *follower) moved(cursor string) error {
	if cursor == "" {
		return nil
	}
	next, err := f.place(cursor)
	if err == nil && f.stream != nil {
		f.cursor = cursor
		f.stream.At(next)
	}
	return err
}

// lost says that the client was told of events that it doesn't get; atLeast: or of
// more.
func (f *follower) lost(n int, atLeast bool) {
	if f.stream != nil {
		f.stream.Gap(n, atLeast)
	}
}

// place reads the place in a cursor.
func (f *follower) place(cursor string) (next int64, err error) {
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return 0, fmt.Errorf("a cursor can't be read: %q", cursor)
	}
	return c.Next, nil
}
