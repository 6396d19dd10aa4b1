package stream

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"

	"sluice/pkg/dialect"
)

// closing is the task that ends the writer: the close frame.
type closing struct{}

func (closing) isTask()  {}
func (*catchUp) isTask() {}

// errEnded says that the writer gave up because the connection is over.
var errEnded = errors.New("connection has ended")

// write takes what is queued, batch by batch, until the connection is over. It
// is the only one that writes to the connection.
func (c *conn) write() {
	defer close(c.written)
	defer c.nc.SetReadDeadline(time.Now()) // the reader is to see that it is over
	var b batch
	for {
		if !c.next(&b) {
			return
		}
		if err := c.flush(b.bufs); err != nil {
			c.end(&endLost, nil)
			return
		}
		c.sent(b.events)
		clear(b.bufs) // an idle connection holds no frame
		switch t := b.task.(type) {
		case *catchUp:
			if err := c.catchUp(t); err != nil {
				c.end(&endLost, nil)
				return
			}
		case closing:
			c.sayClose()
			return
		}
	}
}

// next waits for something to write; false: there is nothing to be written any
// more.
func (c *conn) next(b *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.ending != nil && c.ending.cut {
			return false
		}
		if !c.queue.empty() {
			break
		}
		c.cond.Wait()
	}
	c.queue.take(b, c.declare)
	c.cond.Broadcast() // the reader may wait for room
	return true
}

// declare tells the client of a loss, in its place.
func (c *conn) declare(g gap) []byte {
	return c.replyFrame(&dialect.Reply{
		Kind:   dialect.ReplyDropped,
		Count:  g.count,
		Cursor: place(c.hub.cfg.Incarnation, c.environment, g.first).String(),
	})
}

// stallStep is how often a write that doesn't get on is looked at.
const stallStep = time.Second

// flush writes frames, in one system call where the client takes them. It gives
// up when the connection is over, and ends it when the queue is full and not a
// byte was taken for too long.
func (c *conn) flush(frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	if _, ok := c.nc.(secure); ok {
		return c.flushWhole(bytes.Join(frames, nil))
	}
	bufs := net.Buffers(frames)
	if _, ok := c.nc.(*net.TCPConn); !ok && len(bufs) > 1 {
		bufs = net.Buffers{bytes.Join(frames, nil)} // there is no writev: one write of a copy
	}
	last := time.Now()
	for {
		// First the deadline, then the look: a cut behind the look moves the deadline.
		now := time.Now()
		c.nc.SetWriteDeadline(now.Add(stallStep))
		if c.over(now) {
			return errEnded
		}
		n, err := bufs.WriteTo(c.nc)
		now = time.Now()
		if n > 0 {
			last = now
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.over(now):
			return errEnded
		case now.Sub(last) >= c.hub.limits.Stall && c.overflowed():
			c.end(&endSlow, nil)
			return errEnded
		}
	}
}

// wholeChunk is how much is written at a time where a write must not be
// interrupted: what TLS puts into one record.
const wholeChunk = 16 << 10

// secure is a TLS connection.
type secure interface{ NetConn() net.Conn }

// flushWhole is flush for TLS, where a write that passed its deadline is the
// connection's last: half a record may be out. So a chunk has no deadline; watch
// looks after it, and interrupts what is given up. Whether the client takes bytes
// is seen chunk by chunk.
func (c *conn) flushWhole(text []byte) error {
	if c.watch == nil {
		c.watch = time.AfterFunc(time.Hour, c.look)
	}
	defer c.watch.Stop()
	for len(text) > 0 {
		chunk := text[:min(len(text), wholeChunk)]
		text = text[len(chunk):]
		// First the deadline, then the look: a cut behind the look moves the deadline.
		c.nc.SetWriteDeadline(time.Time{})
		began := time.Now()
		if c.over(began) {
			return errEnded
		}
		c.chunkBegan.Store(&began)
		c.watch.Reset(stallStep)
		_, err := c.nc.Write(chunk)
		c.chunkBegan.Store(nil)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		default:
			if !c.over(time.Now()) {
				c.end(&endSlow, nil)
			}
			return errEnded
		}
	}
	return nil
}

// look runs while a chunk isn't taken.
func (c *conn) look() {
	began := c.chunkBegan.Load()
	if began == nil {
		return // it was, just now
	}
	now := time.Now()
	if c.over(now) || now.Sub(*began) >= c.hub.limits.Stall && c.overflowed() {
		c.nc.SetWriteDeadline(now)
		return
	}
	c.watch.Reset(stallStep)
}

// over reports whether an ending has waited long enough for the client.
func (c *conn) over(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil && (c.ending.cut || !now.Before(c.until))
}

func (c *conn) overflowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.overflowed()
}

// sayClose writes the close frame. The reader then gives the client a while to
// answer it.
func (c *conn) sayClose() {
	e := c.ended()
	c.flush([][]byte{closeFrame(e.Code, e.Reason)}) // who doesn't take it is closed without
}
