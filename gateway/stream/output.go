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
	if c.queue.empty() {
		return false, false
	}
	before := c.queue.own
	c.queue.take(b, c.declare)
	if before >= maxOwn {
		c.cond.Broadcast() // the reader may wait for room
	}
	return true, false
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
func (c *conn) closeFrame() []byte { return c.form.end(c.ended()) }
