package stream

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// wrapped carries a connection that isn't a plain socket of ours: TLS, or
// something else around it. It has a reader, whose goroutine serve is, and a
// writer, the only one that writes.
type wrapped struct {
	c   *conn
	nc  net.Conn // below the server's wrappers
	in  net.Conn // where reads find what came behind the handshake, too
	due sync.Cond

	written chan struct{} // closed when the writer has ended

	// What the task that has the word hands over to be written. c.mu guards both.
	handed [][]byte
	result chan error // the task waits there; nil: it doesn't

	// The writer's own, on TLS.
	watch      *time.Timer               // runs look
	chunkBegan atomic.Pointer[time.Time] // nil: nothing is being written
}

// wrap serves the connection until it is over.
func (h *Hub) wrap(c *conn, nc net.Conn) {
	defer h.dismiss(c)
	// The server's wrapper is closed by the server, when we return. To close what is
	// below it is dangerous: where the server counts connections by address, a closed
	// one goes to a pool, and a second Close, or a late write, would be another client's.
	defer nc.Close()
	w := &wrapped{c: c, nc: below(nc), in: nc, written: make(chan struct{})}
	w.due.L = &c.mu
	c.carrier = w
	socket := w.nc
	if tls, ok := socket.(secure); ok {
		socket = tls.NetConn()
	}
	if tcp, ok := socket.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(h.limits.SendBuffer)
	}
	go w.run()
	if c.shard.call(func() { c.shard.add(c) }) {
		h.late(c)
		w.read()
		c.end(&endLost, nil)
		<-w.written
		c.shard.call(func() { c.shard.remove(c) })
		return
	}
	c.end(&endShutdown, nil)
	<-w.written
}

func (w *wrapped) wake()                  { w.due.Broadcast() }
func (w *wrapped) hold(bool)              {}
func (w *wrapped) flush()                 { w.due.Broadcast() }
func (w *wrapped) tick(now time.Duration) {}

// cut makes reads and writes fail from now on; wrap closes.
func (w *wrapped) cut() {
	w.nc.SetDeadline(time.Unix(1, 0))
	w.due.Broadcast()
}

// readChunk is what is read at a time. An idle connection waits with it.
const readChunk = 512

// read feeds the connection until it is over.
func (w *wrapped) read() {
	buf := make([]byte, readChunk)
	for {
		w.c.awaitRoom()
		n, err := w.in.Read(buf)
		if n > 0 {
			w.c.heard(buf[:n])
		}
		if w.c.ended() != nil {
			w.lastWords(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// lastWords lets the writer finish, then reads on for a while without looking:
// closing with input unread would make the kernel reset the connection, and the
// close frame might never be seen.
func (w *wrapped) lastWords(buf []byte) {
	<-w.written
	if w.c.gone() {
		return
	}
	w.nc.SetReadDeadline(time.Now().Add(w.c.lastWords()))
	for {
		if _, err := w.in.Read(buf); err != nil {
			return
		}
	}
}

// run takes what is queued, batch by batch, until the connection is over.
func (w *wrapped) run() {
	c := w.c
	defer close(w.written)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer w.nc.SetReadDeadline(time.Now()) // the reader is to see that it is over
	defer c.silence()
	var b batch
	for w.next(&b) {
		if err := w.send(b.bufs); err != nil {
			c.end(&endLost, nil)
			return
		}
		c.sentAt(b.events, b.logged, time.Now().UnixMilli())
		clear(b.bufs) // an idle connection holds no frame
		switch b.task.(type) {
		case nil:
		case closing:
			if last := c.closeFrame(); len(last) > 0 {
				if w.send([][]byte{last}) != nil {
					return // who doesn't take it is closed without
				}
			}
			w.closeWrite()
			return
		case *readOn: // it writes nothing: others needn't wait for it
			t := b.task
			reads.Go(func() { t.do(c) })
		default:
			if err := w.do(b.task); err != nil {
				c.end(&endLost, nil)
				return
			}
		}
	}
}

// closeWrite tells the client that nothing more comes. Its own last words may, but who
// reads to the end needn't wait until these were waited for.
func (w *wrapped) closeWrite() {
	if half, ok := w.nc.(interface{ CloseWrite() error }); ok && !w.c.over() {
		half.CloseWrite() // on TLS it gives up by itself, too
	}
}

// do has a task done, writes what it hands over, and between that what is said aside.
func (w *wrapped) do(t task) (err error) {
	var over bool
	var failed error // the task
	go func() {
		err := t.do(w.c)
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		over, failed = true, err
		w.due.Broadcast()
	}()
	var b batch
	for {
		w.c.mu.Lock()
		for !over && w.result == nil && len(w.c.aside) == 0 {
			w.due.Wait()
		}
		some := w.c.nextAsideLocked(&b)
		frames, result, last := w.handed, w.result, over
		w.handed, w.result = nil, nil
		w.c.mu.Unlock()
		if some && err == nil {
			err = w.send(b.bufs)
		}
		if result != nil {
			if err == nil {
				err = w.send(frames)
			}
			result <- err
		}
		if last {
			return cmp.Or(failed, err)
		}
	}
}

// write is how a task's frames go out: it hands them to the writer.
func (w *wrapped) write(frames [][]byte) error {
	result := make(chan error, 1)
	w.c.mu.Lock()
	w.handed, w.result = frames, result
	w.due.Broadcast()
	w.c.mu.Unlock()
	return <-result
}

// next waits for something to write; false: there is nothing to be written any
// more.
func (w *wrapped) next(b *batch) bool {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for {
		if some, over := w.c.nextLocked(b); some || over {
			return some
		}
		w.due.Wait()
	}
}

// stallStep is how often a write that doesn't get on is looked at.
const stallStep = time.Second

// send writes frames, in one system call where the client takes them. It gives
// up when the connection is over, and ends it when the queue is full and not a
// byte was taken for too long.
func (w *wrapped) send(frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	if _, ok := w.nc.(secure); ok {
		return w.writeWhole(bytes.Join(frames, nil))
	}
	bufs := net.Buffers(frames)
	if _, ok := w.nc.(*net.TCPConn); !ok && len(bufs) > 1 {
		bufs = net.Buffers{bytes.Join(frames, nil)} // there is no writev: one write of a copy
	}
	last := time.Now()
	for {
		// First the deadline, then the look: a cut behind the look moves the deadline.
		now := time.Now()
		w.nc.SetWriteDeadline(now.Add(stallStep))
		if w.c.over() {
			return errEnded
		}
		n, err := bufs.WriteTo(w.nc)
		now = time.Now()
		if n > 0 {
			last = now
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case w.c.over():
			return errEnded
		case now.Sub(last) >= w.c.limits.Stall && w.c.overflowed():
			w.c.end(&endSlow, nil)
			return errEnded
		}
	}
}

// wholeChunk is how much is written at a time where a write must not be
// interrupted: what TLS puts into one record.
const wholeChunk = 16 << 10

// secure is a TLS connection.
type secure interface{ NetConn() net.Conn }

// writeWhole is write for TLS, where a write that passed its deadline is the
// connection's last: half a record may be out. So a chunk has no deadline; watch
// looks after it, and interrupts what is given up. Whether the client takes bytes
// is seen chunk by chunk.
func (w *wrapped) writeWhole(text []byte) error {
	if w.watch == nil {
		w.watch = time.AfterFunc(time.Hour, w.look)
	}
	defer w.watch.Stop()
	for len(text) > 0 {
		chunk := text[:min(len(text), wholeChunk)]
		text = text[len(chunk):]
		// First the deadline, then the look: a cut behind the look moves the deadline.
		w.nc.SetWriteDeadline(time.Time{})
		began := time.Now()
		if w.c.over() {
			return errEnded
		}
		w.chunkBegan.Store(&began)
		w.watch.Reset(stallStep)
		_, err := w.nc.Write(chunk)
		w.chunkBegan.Store(nil)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		default:
			if !w.c.over() {
				w.c.end(&endSlow, nil)
			}
			return errEnded
		}
	}
	return nil
}

// look runs while a chunk isn't taken.
func (w *wrapped) look() {
	began := w.chunkBegan.Load()
	if began == nil {
		return // it was, just now
	}
	now := time.Now()
	if w.c.over() || now.Sub(*began) >= w.c.limits.Stall && w.c.overflowed() {
		w.nc.SetWriteDeadline(now)
		return
	}
	w.watch.Reset(stallStep)
}
