package stream

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// conn is one client's connection.
type conn struct {
	hub    *Hub
	shard  *shard
	number int
	speaks int // the number of its dialect's stream
	stream *dialect.Stream
	nc     net.Conn // below the server's wrappers
	from   netip.Prefix

	// The reader's own.
	in        net.Conn // where reads find what came behind the handshake, too
	parser    parser
	principal *key.Principal // nil: not authenticated
	entered   string         // the org it is counted to; the hub's lock guards it
	bad       int
	frames    *rate.Limiter
	refused   bool          // the newest frame was beyond it
	excess    int           // such frames, less those within it since
	replayed  chan struct{} // closed when the newest replay is over; nil: there was none

	// The shard's own, set there only.
	inShard     int
	org         string // empty: not authenticated
	environment event.Environment
	usage       *usage.Counter // the org's
	keyID       string
	expires     time.Time // zero: never
	nextPing    time.Duration
	pairs       []pair // never changed in place
	filter      *filter
	inFilter    int
	inOrg       int
	ahead       int64 // below it, an event must be asked pair by pair: a cursor was ahead of this node

	opened  time.Duration
	seen    atomic.Int64 // when the newest frame came, as hub.now
	waiting atomic.Bool  // the reader waits for us: silence isn't the client's

	mu     sync.Mutex
	cond   sync.Cond // the queue, or ending, changed
	queue  queue
	ending *Ending
	until  time.Time          // when ending: for how long what is queued is still tried
	cancel context.CancelFunc // of the replay that runs; nil: none does

	// The writer's own, on TLS.
	watch      *time.Timer               // runs look
	chunkBegan atomic.Pointer[time.Time] // nil: nothing is being written

	written chan struct{} // closed when the writer has ended
}

func newConn(h *Hub, s *shard, number, speaks int) *conn {
	c := &conn{
		hub: h, shard: s, number: number,
		speaks: speaks, stream: h.cfg.Streams[speaks],
		frames:  rate.NewLimiter(rate.Limit(h.limits.Rate), h.limits.Burst),
		opened:  h.now(),
		written: make(chan struct{}),
		queue:   queue{maxEvents: h.limits.QueueEvents, maxBytes: h.limits.QueueBytes},
	}
	c.cond.L = &c.mu
	c.parser = parser{maxMessage: h.limits.Message, sink: c}
	c.seen.Store(int64(c.opened))
	return c
}

// serve runs the connection until it is over. It is the reader's goroutine.
func (h *Hub) serve(c *conn, nc net.Conn) {
	defer h.dismiss(c)
	c.in, c.nc = nc, below(nc)
	// The server's wrapper knows whether the server closes what is below it. To
	// close that ourselves is dangerous: where the server counts connections by
	// address, a closed one goes to a pool, and a second Close, or a late write,
	// would be another client's.
	defer c.in.Close()
	socket := c.nc
	if tls, ok := socket.(secure); ok {
		socket = tls.NetConn()
	}
	if tcp, ok := socket.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(h.limits.SendBuffer)
	}
	go c.write()
	if c.shard.call(func() { c.shard.add(c) }) {
		h.late(c)
		c.read()
		c.end(&endLost, nil)
		<-c.written
		c.shard.call(func() { c.shard.remove(c) })
		return
	}
	c.end(&endShutdown, nil)
	<-c.written
}

// offer queues a live event that the connection's filter matches. The shard
// calls it.
func (c *conn) offer(e *entry) {
	if e.ev.Offset < c.ahead && !c.wants(e.ev) {
		return
	}
	f := frame{bytes: e.frame(c.speaks, c.stream), offset: e.ev.Offset}
	if f.bytes == nil {
		return // not said in this dialect
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return
	}
	if n := c.queue.pushEvent(f); n > 0 {
		c.hub.metrics.dropped.Add(float64(n))
	}
	c.cond.Broadcast()
}

// wants asks each pair, with the place from which it is live.
func (c *conn) wants(ev *event.Event) bool {
	for i := range c.pairs {
		if p := &c.pairs[i]; ev.Offset >= p.live && p.match(ev) {
			return true
		}
	}
	return false
}

// say queues a message of ours. It is never dropped.
func (c *conn) say(r *dialect.Reply) {
	c.push(item{bytes: c.replyFrame(r)})
}

func (c *conn) replyFrame(r *dialect.Reply) []byte {
	return textFrame(128, func(dst []byte) []byte { return c.stream.AppendReply(dst, r) })
}

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
	}
	c.cond.Broadcast()
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
	c.hub.metrics.endings.WithLabelValues(e.Name).Inc()
	c.until = time.Now().Add(c.hub.limits.Linger)
	if (e.cut || e.discard) && c.cancel != nil {
		c.cancel()
	}
	if e.cut {
		c.cut()
		return
	}
	if e.discard {
		c.until = time.Now().Add(min(time.Second, c.hub.limits.Linger))
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

// cut makes reads and writes fail from now on; serve closes. c.mu is held.
func (c *conn) cut() {
	c.until = time.Time{}
	c.nc.SetDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
}

// ended gives the ending, nil while there is none.
func (c *conn) ended() *Ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}
