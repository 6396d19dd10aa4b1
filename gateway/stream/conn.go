package stream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/usage"
)

// conn is one client's connection: who it is, what it subscribed to, and what
// waits for it. How bytes come and go is its carrier's.
//
// It is most of what an idle connection costs: what is small stands together, and
// what few have is behind a pointer (TestConnSize).
type conn struct {
	hub     *Hub
	shard   *shard
	carrier carrier
	stream  *dialect.Stream // nil: its client has nothing to say
	limits  *Limits
	number  int32
	speaks  uint8 // the number of its dialect's stream
	window  uint8 // that its client inflates with, in bits; 0: nothing is compressed
	echo    bool  // it says what it hears

	// What it is counted to, and what its subscriptions count as to that org; the hub's
	// lock guards it.
	network  *network // nil: authenticated
	entered  *holding // nil: not authenticated
	patterns int32

	// The reader's own.
	bad     int32
	parser  *parser // nil: between messages
	frames  bucket
	excess  int32 // frames beyond it, less those within it since
	refused bool  // the newest frame was beyond it
	known   bool  // it is authenticated

	// The shard's own, set there only.
	environment event.Environment
	dirty       bool           // in its list of those to be flushed
	keeps       bool           // it loses nothing: rather than that it reads on from the log
	org         string         // empty: not authenticated
	usage       *usage.Counter // the org's
	bearers     *bearers       // of its key; nil: not authenticated
	expires     time.Time      // zero: never
	nextPing    time.Duration
	pairs       []pair // never changed in place
	filter      *filter
	inShard     int32
	inBearers   int32
	inFilter    int32
	inOrg       int32
	ahead       int64 // below it, an event must be asked pair by pair: a cursor was ahead of this node

	joins   func() // what the shard does first; nil: nothing
	opened  time.Duration
	seen    atomic.Int64 // when the newest frame came, as hub.now
	waiting atomic.Bool  // the reader waits for us: silence isn't the client's

	mu      sync.Mutex
	replays int32      // asked for and not over
	changed *sync.Cond // for readers that wait: the queue, replays, ending or mute; nil: none has waited yet
	queue   queue
	aside   [][]byte // frames that wait for no replay: pings and their answers, said while one is on
	reading *readOn  // how far it is, while it is behind; nil: it is live. The shard alone sets it
	ending  *Ending
	until   time.Duration      // when ending: for how long what is queued is still tried, as hub.now
	cancel  context.CancelFunc // of the replay that runs; nil: none does. What reads on has its own
	mute    bool               // nothing goes out any more
}

// carrier takes what a connection has queued to its client, and what the client
// sends to the connection (heard). There are two kinds: taken, of which one
// goroutine serves very many, and wrapped, with goroutines of its own, for
// connections that aren't plain sockets.
type carrier interface {
	// wake says that the queue or the ending changed. c.mu is held.
	wake()
	// hold has what is queued wait until it is let go, to be written together. It is for
	// who reads from the client, who lets go before waiting for anything.
	hold(held bool)
	// flush writes events that the shard queued, or has them written. The shard calls it.
	flush()
	// write writes frames and waits for the client to take them. It is for the task
	// that has the word, and changes the slice, which is the task's again when it returns.
	// An error says that nothing goes out any more.
	write(frames [][]byte) error
	// cut has everything end that is under way. c.mu is held.
	cut()
	// tick looks at times; the shard calls it.
	tick(now time.Duration)
}

func newConn(h *Hub, s *shard, number, speaks int) *conn {
	c := &conn{
		hub: h, shard: s, number: int32(number), limits: &h.limits,
		speaks: uint8(speaks), opened: h.now(),
	}
	if speaks < len(h.cfg.Streams) {
		c.stream = h.cfg.Streams[speaks]
	}
	c.seen.Store(int64(c.opened))
	return c
}

// serve runs the connection, or has it run: when it returns, nc isn't used any
// more.
func (h *Hub) serve(c *conn, nc net.Conn) {
	if !h.take(c, nc) {
		h.wrap(c, nc)
	}
}

// offer queues a live event that the connection's filter matches. The shard
// calls it.
func (c *conn) offer(e *entry) {
	if c.reading != nil || e.ev.Offset < c.ahead && !anyLive(c.pairs, e.ev) {
		return
	}
	shared := e.frame(int(c.speaks), c.form(), c.org)
	f := frame{bytes: shared.bytes, offset: e.ev.Offset, logged: e.logged}
	if f.bytes == nil {
		return // not said in this dialect
	}
	if c.inflates(len(f.bytes)) {
		f.bytes = shared.forInflating(c.hub.metrics)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return
	}
	switch {
	case !c.keeps:
		if n := c.queue.pushEvent(f, c.bounds()); n > 0 {
			c.hub.metrics.dropped.Add(float64(n))
		}
	case c.queue.fits(f, c.bounds()):
		c.queue.keepEvent(f)
	default:
		c.fallBehind(e.ev.Offset)
	}
	if !c.dirty {
		c.dirty = true
		c.shard.dirty = append(c.shard.dirty, c)
	}
}

// cursorOf is what the client is told of the place before which it has all.
func (c *conn) cursorOf(next int64) string { return c.hub.cursorOf(c.environment, next).String() }

func (c *conn) bounds() bounds { return bounds{c.limits.QueueEvents, c.limits.QueueBytes} }

// anyLive asks each pair, with the place from which it is live.
func anyLive(pairs []pair, ev *event.Event) bool {
	for i := range pairs {
		if p := &pairs[i]; ev.Offset >= p.live && p.match(ev) {
			return true
		}
	}
	return false
}

// say queues a message of ours. It is never dropped.
func (c *conn) say(r *dialect.Reply) {
	c.push(item{bytes: c.replyFrame(r)})
}

func (c *conn) replyFrame(r *dialect.Reply) []byte { return c.form().reply(r) }

func (c *conn) form() form { return c.hub.forms[c.speaks] }

func (c *conn) push(items ...item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil {
		c.put(items...)
	}
}

// put queues things of ours. c.mu is held.
func (c *conn) put(items ...item) {
	for _, it := range items {
		if it.bytes != nil || it.task != nil {
			c.queue.pushOwn(it)
		}
		if _, replay := it.task.(*catchUp); replay {
			c.replays++
		}
	}
	c.carrier.wake()
}

// end begins the connection's end; only the first one counts. What is queued
// goes out before last and the close frame, as long as the client takes it.
func (c *conn) end(e *Ending, last *dialect.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(e, last)
}

func (c *conn) endLocked(e *Ending, last *dialect.Reply) {
	if c.ending != nil {
		if e.cut {
			c.cut() // it won't take the rest
		}
		return
	}
	c.ending = e
	c.wakeReader()
	c.hub.metrics.endings.WithLabelValues(e.Name, e.code()).Inc()
	c.until = c.hub.now() + c.limits.Linger
	if e.cut || e.discard {
		c.cancelPast()
	}
	if e.cut {
		c.cut()
		return
	}
	if e.discard {
		c.until = c.hub.now() + c.lastWords()
		if n := c.queue.dropAll(); n > 0 {
			c.hub.metrics.dropped.Add(float64(n))
		}
	}
	if last != nil {
		c.put(item{bytes: c.replyFrame(last)})
	}
	c.put(item{task: closing{}})
}

// sent counts events that the client was written. The writer calls it.
func (c *conn) sent(events int) {
	if events == 0 {
		return // it may not be known yet whose the connection is
	}
	c.hub.metrics.sent.Add(float64(events))
	c.usage.Add(usage.Streamed, events)
}

// sentAt is sent for a batch, of which it notes how late it is; both times are in Unix
// milliseconds.
func (c *conn) sentAt(events int, logged, now int64) {
	c.sent(events)
	if logged > 0 {
		c.shard.lag.observe(now - logged)
	}
}

// cut ends what is under way. c.mu is held.
func (c *conn) cut() {
	c.until = 0
	c.wakeReader()
	c.carrier.cut()
}

// ended gives the ending, nil while there is none.
func (c *conn) ended() *Ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// over reports whether an ending has waited long enough for the client.
func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil && (c.ending.cut || c.hub.now() >= c.until)
}

func (c *conn) overflowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reading != nil || c.queue.overflowed(c.bounds())
}

// await waits until something changed. It is the reader's; c.mu is held.
func (c *conn) await() {
	if c.changed == nil {
		c.changed = sync.NewCond(&c.mu)
	}
	c.wait(c.changed.Wait)
}

// wakeReader has the reader look again; c.mu is held.
func (c *conn) wakeReader() {
	if c.changed != nil {
		c.changed.Broadcast()
	}
}

// silence says that nothing goes out any more.
func (c *conn) silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = true
	c.cancelPast()
	c.wakeReader()
}

// cancelPast ends what reads the past for it. c.mu is held.
func (c *conn) cancelPast() {
	if c.cancel != nil {
		c.cancel()
	}
	if c.reading != nil && c.reading.cancel != nil {
		c.reading.cancel()
	}
}

// gone reports whether there is nobody to wait for: both sides have said that
// they close, or the connection was cut.
func (c *conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending.cut || c.ending.Name == endClient.Name || c.until == 0
}

// lastWords is for how long a client that was told of the close is listened to.
func (c *conn) lastWords() time.Duration { return min(time.Second, c.limits.Linger) }
