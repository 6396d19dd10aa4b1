package stream

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"sluice/gateway/stream/epoll"
)

// What input says.
const (
	quiet   = iota // nobody reads; the poller does what comes
	reading        // a reader is at it
	again          // and there is more since
	shut           // there is nothing to be read any more
)

// begin hears what came behind the handshake and is in the server's buffer, then
// what is in the socket.
func (k *taken) begin(nc net.Conn) {
	buf := chunks.Get().(*[chunkBytes]byte)
	k.hold(true)
	nc.SetReadDeadline(time.Unix(1, 0)) // nothing but the buffer is read
	for {
		n, err := nc.Read(buf[:])
		if n > 0 {
			k.c.heard(buf[:n])
		}
		if err != nil || n == 0 {
			break
		}
	}
	k.readInto(buf)
}

const chunkBytes = 4 << 10

// chunks are what readers read into. Who is idle has none.
var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// Ready is told by the poller that the socket may have, or take, more.
func (k *taken) Ready(in, out bool) {
	if out && k.blocked.CompareAndSwap(true, false) {
		k.wake()
	}
	for in {
		switch k.input.Load() {
		case quiet:
			if k.input.CompareAndSwap(quiet, reading) {
				k.polls = true
				k.readInto(chunks.Get().(*[chunkBytes]byte))
				return
			}
		case reading:
			if k.input.CompareAndSwap(reading, again) {
				return
			}
		default:
			return
		}
	}
}

// chunksInARow is how much the poller reads of one connection before another polls on.
const chunksInARow = 4

// readInto reads until there is nothing. It waits for nothing but what the client
// asked for. What is said to all that came goes out together.
func (k *taken) readInto(buf *[chunkBytes]byte) {
	defer chunks.Put(buf)
	for chunk := 0; ; chunk++ {
		if chunk >= chunksInARow {
			k.passOn()
		}
		k.hold(true)
		k.c.awaitRoom()
		n, err := k.fd.Read(buf[:])
		if err == nil && k.c.heard(buf[:n]) && n < len(buf) { // of one that has ended, without looking
			continue
		}
		k.letGo()
		switch {
		case err == nil:
		case !errors.Is(err, epoll.ErrAgain):
			// Who says that nothing more comes may still listen: if an ending is on its way
			// out, it isn't cut.
			if !errors.Is(err, io.EOF) || k.c.ended() == nil {
				k.c.end(&endLost, nil)
			}
			k.input.Store(shut)
			k.wake()
			return
		case k.input.CompareAndSwap(reading, quiet):
			if k.c.ended() != nil {
				k.wake() // the shard may have waited for us
			}
			return
		default:
			k.input.Store(reading)
		}
	}
}

// passOn has another goroutine poll, if who reads is the poller.
func (k *taken) passOn() {
	if k.polls {
		k.polls = false
		k.c.shard.poll.Leave()
	}
}
