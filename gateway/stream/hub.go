package stream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/replay"
)

// Hub follows the events of both environments and serves them to connections.
type Hub struct {
	cfg     Config
	limits  Limits
	metrics *metrics
	shards  []*shard
	forms   []form // of cfg.Streams, then of cfg.SSE
	started time.Time

	ready    chan struct{} // closed when both tails stand
	ctx      context.Context
	stop     context.CancelFunc
	turns    *turns                               // of replays to read
	sharing  map[event.Environment]*sharing       // of their frames
	position map[event.Environment]*atomic.Int64  // offset behind what the shards were given
	doubles  map[event.Environment]*event.Doubles // each the tail's of its environment

	mu       sync.Mutex
	open     sync.WaitGroup // connections served
	number   int            // of the next connection: its shard, its spread
	unauth   int
	networks map[netip.Prefix]*network // of unauth
	orgs     map[string]*holding
	draining bool
	stopped  bool
}

// New makes a hub. It serves once Run does.
func New(cfg Config) *Hub {
	cfg.fill()
	h := &Hub{
		cfg:      cfg,
		limits:   cfg.Limits,
		metrics:  newMetrics(cfg.Metrics),
		started:  time.Now(),
		ready:    make(chan struct{}),
		sharing:  make(map[event.Environment]*sharing),
		position: make(map[event.Environment]*atomic.Int64),
		doubles:  make(map[event.Environment]*event.Doubles),
		networks: make(map[netip.Prefix]*network),
		orgs:     make(map[string]*holding),
	}
	h.turns = newTurns(cfg.Limits.Replays, h.metrics.waiting)
	h.ctx, h.stop = context.WithCancel(context.Background())
	for _, s := range cfg.Streams {
		h.forms = append(h.forms, webSocket{s})
	}
	for _, s := range cfg.SSE {
		h.forms = append(h.forms, eventStream{s})
	}
	for _, env := range event.Environments {
		h.position[env], h.doubles[env], h.sharing[env] = new(atomic.Int64), new(event.Doubles), new(sharing)
	}
	for range cfg.Shards {
		h.shards = append(h.shards, newShard(h))
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(newLags(h.shards))
	}
	return h
}

// Ready is closed once connections are served.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// now is the time since the hub was made, which never jumps.
func (h *Hub) now() time.Duration { return time.Since(h.started) }

// Run follows the log until ctx ends, then cuts what Drain left, and returns
// when nothing of the hub is left.
func (h *Hub) Run(ctx context.Context) error {
	unwatch := h.cfg.Access.Watch(h.watch)
	defer unwatch()

	var shards, tails sync.WaitGroup
	for _, s := range h.shards {
		shards.Go(s.run)
	}
	failed := h.begin(ctx)
	if failed == nil {
		for _, env := range event.Environments {
			tails.Go(func() { h.follow(ctx, env) })
		}
		tails.Go(func() { h.giveBack(ctx) })
		close(h.ready)
		<-ctx.Done()
	}
	tails.Wait()

	h.mu.Lock()
	h.draining, h.stopped = true, true
	h.mu.Unlock()
	h.stop() // ends replays
	for _, s := range h.shards {
		s.call(func() {
			for _, c := range s.conns {
				c.end(&endShutdown, nil)
			}
		})
	}
	h.open.Wait()
	for _, s := range h.shards {
		s.inbox.close()
	}
	shards.Wait()
	for _, s := range h.shards {
		s.pollOnce.Do(func() {})
		if s.poll != nil {
			s.poll.Close()
		}
	}
	return failed
}

// sharingFor is how many seconds what replays share is kept for others.
const sharingFor = 30

// crowd is how many connections leave enough behind, from their handshakes and
// first messages, that it is worth a collection of its own.
const crowd = 1000

// giveBack returns the memory that a crowd took to come in to the system once all
// are there, and what replays shared once none does. They are idle then, and nothing else would see to that for long.
func (h *Hub) giveBack(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	given, before := 0, 0
	for seconds := 1; ; seconds++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if seconds%sharingFor == 0 {
			for _, s := range h.sharing {
				s.rest()
			}
		}
		h.mu.Lock()
		number := h.number
		h.mu.Unlock()
		if number-given >= crowd && number == before {
			debug.FreeOSMemory()
			given = number
		}
		before = number
	}
}

// begin sets each environment's place to the end of its events, and recalls those
// whose copies may follow.
func (h *Hub) begin(ctx context.Context) error {
	for _, env := range event.Environments {
		for delay := retryShortest; ; delay = min(2*delay, retryLongest) {
			_, end, err := h.cfg.Log.Bounds(ctx, partition(env))
			if err == nil {
				err = replay.Recall(ctx, h.cfg.Log, env, end, h.doubles[env])
			}
			if err == nil {
				h.jump(env, end)
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("look up end of %s: %w", env.Topic(), ctx.Err())
			}
			h.cfg.Logger.Warn("streams can't begin, trying again", "environment", env.String(), "error", err)
			pause(ctx, delay)
		}
	}
	return nil
}

const (
	retryShortest = 50 * time.Millisecond
	retryLongest  = 2 * time.Second
)

func partition(env event.Environment) eventlog.Partition {
	return eventlog.Partition{Topic: env.Topic()}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// jump makes next the place of the environment's streams, whatever was before, and
// closes those that there are. Nobody is told before all shards have moved on: who is
// may be back at once, on any of them, and what it missed lies before next there.
func (h *Hub) jump(env event.Environment, next int64) {
	if w := h.cfg.Windows[env]; w != nil {
		w.Reset(next)
	}
	if past := h.cfg.Past[env]; past != nil {
		past.Forget()
	}
	var lost []*conn
	for _, s := range h.shards {
		s.call(func() {
			for _, c := range s.conns {
				if c.environment == env {
					lost = append(lost, c)
				}
			}
			s.rooms[env].next = next
		})
	}
	h.stand(env, next)
	for _, c := range lost {
		c.end(&endLogLost, nil)
	}
}

// follow hands an environment's events to the shards until ctx ends. When the
// log fails, it tries again from where it was. When what it had not yet read is
// gone, nobody can be told what was missed: the connections are closed, and
// their clients resume by their cursors.
func (h *Hub) follow(ctx context.Context, env event.Environment) {
	delay := retryShortest
	for ctx.Err() == nil {
		err := h.tail(ctx, env, func() { delay = retryShortest })
		if ctx.Err() != nil {
			return
		}
		h.cfg.Logger.Warn("events can't be followed, trying again", "environment", env.String(), "offset", h.position[env].Load(), "error", err)
		pause(ctx, delay)
		delay = min(2*delay, retryLongest)
		if errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, eventlog.ErrPastEnd) {
			if _, end, err := h.cfg.Log.Bounds(ctx, partition(env)); err == nil {
				h.cfg.Logger.Error("place in the events was lost, its connections are closed", "environment", env.String(), "offset", h.position[env].Load(), "next", end)
				h.jump(env, end)
			}
		}
	}
}

func (h *Hub) tail(ctx context.Context, env event.Environment, alive func()) error {
	tail, err := h.cfg.Log.Tail(ctx, partition(env), h.position[env].Load())
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		alive()
		if err := h.publish(ctx, env, records); err != nil {
			return err
		}
	}
}

// publish decodes records and hands them to the window and to every shard. A
// record that is no event of this environment, or the copy of an event, is passed
// over, and counted.
func (h *Hub) publish(ctx context.Context, env event.Environment, records []eventlog.Record) error {
	w := news{env: env, entries: make([]*entry, 0, len(records))}
	events := make([]*event.Event, 0, len(records))
	for i := range records {
		r := &records[i]
		w.next = r.Offset + 1
		ev, err := event.FromLog(r.Value, env, r.Offset, r.Time)
		if err != nil {
			h.metrics.poisoned.WithLabelValues(env.String()).Inc()
			h.cfg.Logger.Error("record is no event, passed over", "topic", r.Topic, "offset", r.Offset, "error", err)
			continue
		}
		if h.doubles[env].Double(ev) {
			h.metrics.doubles.Inc()
			h.cfg.Logger.Warn("event is in the log twice, its copy is passed over", "topic", r.Topic, "offset", r.Offset, "id", ev.ID)
			continue
		}
		events = append(events, ev)
		w.entries = append(w.entries, newEntry(h, ev))
		w.bytes += len(r.Value) + entryBytes
	}
	// The window first: whoever subscribes behind these events finds them there.
	if win := h.cfg.Windows[env]; win != nil {
		win.Append(events, w.next)
	}
	for _, s := range h.shards {
		if err := s.inbox.push(ctx, w); err != nil {
			return err
		}
	}
	h.stand(env, w.next)
	return nil
}

// stand notes what the shards were given.
func (h *Hub) stand(env event.Environment, next int64) {
	h.position[env].Store(next)
	h.metrics.position.WithLabelValues(env.String()).Set(float64(next))
}

// watch ends the connections of a key that is taken away, be it with its org.
func (h *Hub) watch(change control.Change) {
	if change.KeyBefore == nil || change.Key != nil {
		return
	}
	keyID := change.KeyBefore.ID
	for _, s := range h.shards {
		s.inbox.post(work{fn: func() { s.revoke(keyID) }})
	}
}

// cursorOf is the cursor behind which next is the next offset.
func (h *Hub) cursorOf(env event.Environment, next int64) event.Cursor {
	return event.Cursor{Incarnation: h.cfg.Incarnation, Environment: env, Next: next}
}

// entry is one event on its way to the connections, with its frame in each form
// that somebody receives it in.
type entry struct {
	ev     *event.Event
	logged int64 // when, in Unix milliseconds
	cursor event.Cursor
	frames []eventFrames // by the form's number
}

// eventFrames is an event in one form.
type eventFrames struct {
	once sync.Once
	all  encoded

	mu   sync.Mutex
	orgs map[string]*encoded // where they name the org that they are for
}

// encoded is an event as it goes out.
type encoded struct {
	bytes []byte // its frame

	deflate  sync.Once
	deflated []byte // the same deflated, or as it is where that doesn't help
}

// entryBytes is about what an entry takes beside its event's bytes.
const entryBytes = 512

func newEntry(h *Hub, ev *event.Event) *entry {
	e := &entry{ev: ev, logged: ev.Logged.UnixMilli(), cursor: h.cursorOf(ev.Environment, ev.Offset+1)}
	e.frames = make([]eventFrames, len(h.forms))
	return e
}

// frame encodes the event on first use.
func (e *entry) frame(n int, s form, org string) *encoded {
	f := &e.frames[n]
	if !s.perOrg() {
		f.once.Do(func() { f.all.bytes = s.event(e.ev, org, e.cursor) })
		return &f.all
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.orgs[org]
	if own == nil {
		own = &encoded{bytes: s.event(e.ev, org, e.cursor)}
		if f.orgs == nil {
			f.orgs = make(map[string]*encoded)
		}
		f.orgs[org] = own
	}
	return own
}

// forInflating is the frame for who inflates: deflated, on first use.
func (f *encoded) forInflating(m *metrics) []byte {
	f.deflate.Do(func() {
		f.deflated = deflated(f.bytes)
		if len(f.deflated) < len(f.bytes) {
			m.deflated.WithLabelValues("before").Add(float64(len(f.bytes)))
			m.deflated.WithLabelValues("after").Add(float64(len(f.deflated)))
		}
	})
	return f.deflated
}
