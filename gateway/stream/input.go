package stream

import (
	"sync"
	"time"

	"sluice/pkg/dialect"
)

// maxOwn bounds the answers that wait for a client. Who has more isn't read from
// until it has taken some.
const maxOwn = 64

// heard takes what the client sent; false: the connection has ended.
func (c *conn) heard(b []byte) bool {
	if c.ended() != nil {
		return false
	}
	if c.stream == nil {
		c.end(&endSpoke, nil)
		return false
	}
	p := c.parser
	if p == nil {
		p = parsers.Get().(*parser)
		p.maxFragments, p.inflates, p.sink = c.limits.Fragments, c.window > 0, c
	}
	e := p.feed(b)
	if c.parser = p; p.idle() {
		c.parser, *p = nil, parser{}
		parsers.Put(p)
	}
	if e == &endTooBig {
		e = tooBig(c.most())
	}
	if e != nil {
		c.end(e, nil)
	}
	return c.ended() == nil
}

// parsers that nobody uses: a connection needs one within a message only.
var parsers = sync.Pool{New: func() any { return new(parser) }}

// awaitRoom waits until the client has taken our answers.
func (c *conn) awaitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.crowded() && c.ending == nil {
		c.await()
	}
}

// wait does something of the reader's that may take long. What was said goes out before.
func (c *conn) wait(do func()) {
	c.carrier.hold(false)
	do()
	c.carrier.hold(true)
}

// bucket holds what a client has used of what it may do at once, and is emptied
// at a rate.
type bucket struct {
	used float64
	at   time.Duration
}

func (b *bucket) take(now time.Duration, perSecond, burst int) bool {
	b.used = max(0, b.used-(now-b.at).Seconds()*float64(perSecond))
	b.at = now
	if b.used+1 > float64(burst) {
		return false
	}
	b.used++
	return true
}

// most is less for who may be anybody: so many of them are let in that they could fill
// the memory with what they never finish.
func (c *conn) most() int {
	if !c.known {
		return c.limits.FirstMessage
	}
	return c.limits.Message
}

// onFrame counts a whole frame against the client's rate; any is a sign of life.
func (c *conn) onFrame() *Ending {
	now := c.hub.now()
	c.seen.Store(int64(now))
	c.refused = !c.frames.take(now, c.limits.Rate, c.limits.Burst)
	switch {
	case c.refused:
		c.excess++
	case c.excess > 0:
		c.excess--
	}
	if int(c.excess) > c.limits.Burst {
		return &endFlood
	}
	return nil
}

func (c *conn) onControl(op byte, payload []byte, code uint16) *Ending {
	switch op {
	case opPing:
		if !c.refused {
			c.sayAside(wholeFrame(opPong, payload))
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
	if c.echo {
		said := wholeFrame(op, msg)
		if c.inflates(len(said)) {
			said = deflated(said)
		}
		c.push(item{bytes: said})
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
	if c.bad++; int(c.bad) >= c.limits.BadMessages {
		return &endBadMessages
	}
	return nil
}
