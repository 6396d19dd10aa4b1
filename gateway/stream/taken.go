package stream

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"sluice/gateway/stream/epoll"
)

// taken carries a connection whose descriptor was taken over from the server. Its
// shard writes, and nobody else, so that an event costs a write() and no switch
// to another goroutine; what the client doesn't take at once is left over, and
// the rest waits in the queue. Its shard's poller reads, and leaves the polling to
// another goroutine before it waits for anything:
//
//	poller ─ in ──► readInto ─► heard ─► …
//	       └ out ─┐
//	wake, events ┴► shard ─► flush: left over, else a batch of the queue ─► write()
//	tasks ◄──────────────────┘ and what they hand over, or else what is said aside
type taken struct {
	c     *conn
	fd    epoll.FD
	leave func() // gives back the connection's place at the listener

	input   atomic.Int32 // who reads: quiet, reading, again, shut
	blocked atomic.Bool  // the socket took less than it was given, until the poller says otherwise
	posted  atomic.Bool  // flush is in the shard's inbox
	held    atomic.Bool  // it isn't to be for now: who reads has more to say
	wanted  atomic.Bool  // it would be, else
	polls   bool         // who reads is the poller; the reader's own

	// The shard's own.
	closed  bool          // the descriptor is
	state   word          // who has the word
	working int           // tasks at work, with the word or without
	rest    *leftOver     // what the socket didn't take; nil: nothing
	result  chan error    // the task waits there for what it handed over to be written; nil: it doesn't
	linger  time.Duration // until then a client that nothing goes out to is listened to
}

// word says who decides what is written next.
type word uint8

const (
	wordQueue word = iota
	wordTask       // a task that was queued
	wordLast       // the close frame
	wordNone       // nothing goes out
)

// leftOver is what the socket didn't take. It can't be dropped any more: a part of
// a frame may be out.
type leftOver struct {
	frames [][]byte
	events int           // sent when these are
	logged int64         // when the first of them was, in Unix milliseconds
	then   task          // to be done behind them
	since  time.Duration // when a byte was last taken, as hub.now
}

// take has a shard serve the connection's descriptor itself; false: it can't, and
// nothing was done.
func (h *Hub) take(c *conn, nc net.Conn) bool {
	tcp, ok := below(nc).(*net.TCPConn)
	if !ok || c.shard.poller() == nil {
		return false
	}
	tcp.SetWriteBuffer(h.limits.SendBuffer)
	fd, err := epoll.Take(tcp)
	if err != nil {
		h.cfg.Logger.Warn("connection not taken over, it costs more memory", "error", err)
		return false
	}
	k := &taken{c: c, fd: fd}
	k.input.Store(reading)
	c.carrier = k
	alive := c.shard.call(func() {
		if err = c.shard.poll.Add(fd, k); err == nil {
			k.leave = outlive(nc)
			c.shard.add(c)
		}
	})
	if !alive || err != nil {
		fd.Close()
		return false
	}
	h.late(c)
	k.begin(nc)
	return true
}

// outlive has the listener go on counting the connection when the server has
// closed its own descriptor of it.
func outlive(nc net.Conn) (leave func()) {
	for {
		if l, ok := nc.(interface{ Outlive() func() }); ok {
			return l.Outlive()
		}
		w, ok := nc.(interface{ UnsafeConn() net.Conn })
		if !ok {
			return func() {}
		}
		nc = w.UnsafeConn()
	}
}

func (k *taken) wake() {
	if k.held.Load() {
		if k.wanted.Store(true); k.held.Load() {
			return
		}
	}
	if k.posted.CompareAndSwap(false, true) {
		k.c.shard.inbox.post(work{flush: k})
	}
}

func (k *taken) hold(held bool) {
	if !held {
		k.passOn()
	}
	if k.held.Store(held); !held && k.wanted.Swap(false) {
		k.wake()
	}
}

// letGo has what was held written, by who reads, where the shard has nothing to do.
func (k *taken) letGo() {
	if k.held.Store(false); k.wanted.Swap(false) && k.posted.CompareAndSwap(false, true) {
		k.c.shard.perform(work{flush: k})
	}
}

func (k *taken) cut() { k.wake() }

// flush writes what there is, as far as the client takes it.
func (k *taken) flush() {
	for k.state != wordNone && k.send() && k.next() {
	}
	if k.state == wordNone {
		k.settle()
	}
}

// send writes what is left over; true: nothing is any more.
func (k *taken) send() bool {
	for k.rest != nil {
		r := k.rest
		if k.c.over() {
			k.hush()
			return false
		}
		var n int
		var err error
		if r.frames, n, err = k.push(r.frames); n > 0 {
			r.since = k.c.hub.now()
		}
		switch {
		case err != nil:
			k.broke()
			return false
		case len(r.frames) > 0:
			return false
		}
		k.rest = nil
		k.done(r.events, r.logged, r.then)
	}
	return true
}

// next goes on once nothing is left over; false: there is nothing to write now.
func (k *taken) next() bool {
	b := &k.c.shard.batch
	var some, over bool
	switch k.state {
	case wordLast:
		over = true
	case wordTask:
		if k.result != nil {
			k.result <- nil
			k.result = nil
		}
		over = k.c.over()
		some = !over && k.c.nextAside(b)
	default:
		some, over = k.c.next(b)
	}
	if over {
		k.hush()
	}
	if !some {
		return false
	}
	frames, _, err := k.push(b.bufs)
	switch {
	case err != nil:
		k.broke()
	case len(frames) > 0:
		k.rest = &leftOver{frames: slices.Clone(frames), events: b.events, logged: b.logged, then: b.task, since: k.c.hub.now()}
	default:
		k.done(b.events, b.logged, b.task)
	}
	clear(b.bufs)
	return err == nil
}

// push writes frames until the socket takes no more, and gives what is left.
func (k *taken) push(frames [][]byte) (left [][]byte, n int, err error) {
	w := &k.c.shard.writer
	for len(frames) > 0 && !k.blocked.Load() {
		took, err := w.Write(k.fd, frames)
		if errors.Is(err, epoll.ErrAgain) {
			k.blocked.Store(true) // first: the poller may say at once that it isn't
			if err = k.c.shard.poll.AwaitRoom(k.fd); err == nil {
				break
			}
		}
		if err != nil {
			return frames, n, err
		}
		n += took
		for len(frames) > 0 && took >= len(frames[0]) {
			took -= len(frames[0])
			frames = frames[1:]
		}
		if took > 0 {
			frames[0] = frames[0][took:]
		}
	}
	return frames, n, nil
}

// done counts what was written and begins what stands behind it.
func (k *taken) done(events int, logged int64, then task) {
	k.c.sentAt(events, logged, k.c.shard.clock)
	switch then.(type) {
	case nil:
	case closing:
		k.state = wordLast
		if last := k.c.closeFrame(); len(last) > 0 {
			k.rest = &leftOver{frames: [][]byte{last}, since: k.c.hub.now()}
		}
	case *readOn:
		k.working++
		go k.readOn(then)
	default:
		k.state = wordTask
		k.working++
		go k.run(then)
	}
}

// readOn does a task that leaves the word where it is.
func (k *taken) readOn(t task) {
	t.do(k.c)
	k.c.shard.call(func() {
		k.working--
		k.flush()
	})
}

// run does a task and gives the word back.
func (k *taken) run(t task) {
	err := t.do(k.c)
	k.c.shard.call(func() {
		k.working--
		switch {
		case k.state != wordTask:
		case err != nil:
			k.broke()
		default:
			k.state = wordQueue
		}
		k.flush()
	})
}

// write is how a task's frames go out: it hands them to the shard.
func (k *taken) write(frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	result := make(chan error, 1)
	hand := func() {
		if k.state != wordTask {
			result <- errEnded
			return
		}
		k.result = result
		if k.rest == nil {
			k.rest = &leftOver{frames: frames, since: k.c.hub.now()}
		} else {
			k.rest.frames = append(k.rest.frames, frames...) // behind what was said aside
		}
		k.flush()
	}
	if !k.c.shard.call(hand) {
		return errEnded
	}
	return <-result
}

// tick looks at what takes too long.
func (k *taken) tick(now time.Duration) {
	switch {
	case k.state == wordNone:
		k.settle()
	case k.c.over():
		k.hush()
		k.settle()
	case k.rest != nil && now-k.rest.since >= k.c.limits.Stall && k.c.overflowed():
		k.c.end(&endSlow, nil)
	}
}

// broke ends a connection whose client is gone.
func (k *taken) broke() {
	k.c.end(&endLost, nil)
	k.hush()
}

// hush says that nothing goes out any more. The client may still answer: to close
// with input unread would make the kernel reset the connection, and the close
// frame might never be seen.
func (k *taken) hush() {
	k.state, k.rest = wordNone, nil
	if k.result != nil {
		k.result <- errEnded
		k.result = nil
	}
	k.c.silence()
	if !k.c.gone() {
		k.linger = k.c.hub.now() + k.c.lastWords()
		k.fd.CloseWrite()
	}
}

// settle closes once nothing goes out, no task is at work, and the client has gone
// or was listened to for long enough.
func (k *taken) settle() {
	if k.closed || k.working > 0 {
		return
	}
	if k.input.Load() != shut {
		if k.c.hub.now() < k.linger && !k.c.gone() {
			return
		}
		if !k.input.CompareAndSwap(quiet, shut) {
			k.fd.Shutdown() // the reader sees it, and wakes us
			return
		}
	}
	k.closed = true
	k.c.shard.remove(k.c)
	k.c.shard.poll.Remove(k.fd)
	k.leave()
	k.c.hub.dismiss(k.c)
}
