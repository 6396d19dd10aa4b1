package stream

import (
	"errors"

	"sluice/pkg/dialect"
)

// closing is the task that ends what goes out, with the last that is said. The
// carrier does it.
type closing struct{}

func (closing) do(*conn) error { return errEnded }

// errEnded says that nothing goes out any more because the connection is over.
var errEnded = errors.New("connection has ended")

// next takes what is to be written next into b; none: there is nothing now;
// over: nothing goes out any more.
func (c *conn) next(b *batch) (some, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nextLocked(b)
}

func (c *conn) nextLocked(b *batch) (some, over bool) {
	if c.ending != nil && c.ending.cut {
		return false, true
	}
	if c.nextAsideLocked(b) {
		return true, false
	}
	if c.queue.empty() {
		return false, false
	}
	if c.crowded() {
		c.wakeReader() // the reader may wait for room
	}
	c.queue.take(b, c.declare)
	return true, false
}

// crowded reports whether as many answers wait for the client as may. c.mu is held.
func (c *conn) crowded() bool { return c.queue.own+len(c.aside) >= maxOwn }

// sayAside queues a frame of ours that may overtake what waits: it does where a replay
// is on, which may take long, while its client wants to know whether we are there.
func (c *conn) sayAside(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil {
		c.putAside(frame)
	}
}

// putAside is sayAside where c.mu is held, and the connection hasn't ended.
func (c *conn) putAside(frame []byte) {
	if c.replays == 0 {
		c.put(item{bytes: frame})
		return
	}
	c.aside = append(c.aside, frame)
	c.carrier.wake()
}

// nextAside takes what may go out between two messages of a replay into b; false:
// there is nothing.
func (c *conn) nextAside(b *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nextAsideLocked(b)
}

func (c *conn) nextAsideLocked(b *batch) bool {
	if len(c.aside) == 0 {
		return false
	}
	if c.crowded() {
		c.wakeReader()
	}
	b.reset()
	for _, frame := range c.aside {
		b.add(frame)
	}
	c.aside = nil
	return true
}

// declare tells the client of a loss, in its place.
func (c *conn) declare(g gap) []byte {
	return c.replyFrame(&dialect.Reply{
		Kind:   dialect.ReplyDropped,
		Count:  g.count,
		Cursor: c.cursorOf(g.first),
	})
}

// closeFrame is the connection's own; empty: its form has none.
func (c *conn) closeFrame() []byte { return c.form().end(c.ended()) }
