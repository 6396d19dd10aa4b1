package stream

import (
	"time"

	"sluice/pkg/dialect"
)

// readChunk is what is read at a time. An idle connection waits with it.
const readChunk = 512

// maxOwn bounds the answers that wait for a client. Who has more isn't read from
// until it has taken some.
const maxOwn = 64

// read feeds the parser until the connection is over.
func (c *conn) read() {
	buf := make([]byte, readChunk)
	for {
		c.awaitRoom()
		n, err := c.in.Read(buf)
		if n > 0 && c.ended() == nil {
			if e := c.parser.feed(buf[:n]); e != nil {
				c.end(e, nil)
			}
		}
		if c.ended() != nil {
			c.lastWords(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// awaitRoom waits until the client has taken our answers.
func (c *conn) awaitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.queue.own >= maxOwn && c.ending == nil {
		c.cond.Wait()
	}
}

// lastWords lets the writer finish, then reads on for a while without looking:
// closing with input unread would make the kernel reset the connection, and the
// close frame might never be seen.
func (c *conn) lastWords(buf []byte) {
	<-c.written
	if c.gone() {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(min(time.Second, c.hub.limits.Linger)))
	for {
		if _, err := c.in.Read(buf); err != nil {
			return
		}
	}
}

// gone reports whether there is nobody to wait for: both sides have said that
// they close, or the connection was cut.
func (c *conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending.cut || c.ending.Name == endClient.Name || c.until.IsZero()
}

// onFrame counts a whole frame against the client's rate; any is a sign of life.
func (c *conn) onFrame() *Ending {
	c.seen.Store(int64(c.hub.now()))
	c.refused = !c.frames.Allow()
	switch {
	case c.refused:
		c.excess++
	case c.excess > 0:
		c.excess--
	}
	if c.excess > c.hub.limits.Burst {
		return &endFlood
	}
	return nil
}

func (c *conn) onControl(op byte, payload []byte, code uint16) *Ending {
	switch op {
	case opPing:
		if !c.refused {
			c.push(item{bytes: controlFrame(opPong, payload)})
		}
	case opClose:
		return echo(code)
	}
	return nil
}

func (c *conn) onMessage(op byte, msg []byte) *Ending {
	if e := c.ended(); e != nil {
		return e // the rest of what was read isn't looked at
	}
	if c.refused {
		c.say(errorReply(dialect.RateLimited, "too many messages: this one was not acted on"))
		return nil
	}
	if op != opText {
		return c.badMessage(&dialect.Error{Code: dialect.BadRequest, Message: "messages are text, not binary"})
	}
	cmd, err := c.stream.Decode(msg)
	if err != nil {
		return c.badMessage(err)
	}
	return c.obey(&cmd)
}

// badMessage tells what was wrong. So many, and it is over.
func (c *conn) badMessage(err *dialect.Error) *Ending {
	c.say(&dialect.Reply{Kind: dialect.ReplyError, Error: err})
	if c.bad++; c.bad >= c.hub.limits.BadMessages {
		return &endBadMessages
	}
	return nil
}
