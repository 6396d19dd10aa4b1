package attempt

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"time"
)

// conn is one connection to a receiver. An attempt has it to itself; between
// attempts it lies in conns.
type conn struct {
	net.Conn // what is spoken over: TLS, or the connection itself
	under    net.Conn
	raw      syscall.RawConn // of under; nil where it has none
	key      string

	left int   // bytes that may still be read
	fail error // of the last Read

	since        time.Time // unused since
	older, newer *conn     // in the order of since
}

// Read takes bytes off the connection, left of them at most: nobody can send
// more than an answer may have.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.fail = errTooMuch
		return 0, c.fail
	}
	var n int
	n, c.fail = c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, c.fail
}

// cut ends whatever is done on the connection. It may be called from anywhere.
func (c *conn) cut() { c.under.Close() }

// stale reports whether the connection can't be used again: its peer has closed
// it, or said something unasked. An attempt on such a connection would fail
// though the receiver is well.
func (c *conn) stale() bool {
	if c.raw == nil {
		return false
	}
	gone := true
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = err != syscall.EAGAIN
		return true
	})
	return err != nil || gone
}

// conns keeps connections that may be used again: the newest of a host first, so
// that what isn't needed grows old and is closed. The number kept is bounded per
// host and in all, and with it their memory: one over TLS takes some 27 KB, without
// next to nothing; the number in use is for the lanes to bound, so that a host
// that serves many can't make one of its endpoints wait for another.
type conns struct {
	idle         time.Duration
	perHost, all int

	mu     sync.Mutex
	hosts  map[string][]*conn // unused, oldest first
	oldest *conn
	newest *conn
	unused int
	open   map[*conn]struct{} // all there are
	timer  *time.Timer        // for the oldest; nil: none is unused
	closed bool
}

func newConns(idle time.Duration, perHost, all int) *conns {
	return &conns{idle: idle, perHost: perHost, all: all, hosts: map[string][]*conn{}, open: map[*conn]struct{}{}}
}

// add takes a new connection into account, or closes it if it came too late.
func (cs *conns) add(c *conn) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		c.cut()
		return false
	}
	cs.open[c] = struct{}{}
	return true
}

// take gives an unused connection that is good until deadline, or nil.
func (cs *conns) take(key string, deadline time.Time) *conn {
	for {
		cs.mu.Lock()
		list := cs.hosts[key]
		if len(list) == 0 {
			cs.mu.Unlock()
			return nil
		}
		c := list[len(list)-1]
		cs.unlink(c, len(list)-1)
		cs.mu.Unlock()
		if c.SetDeadline(deadline) == nil && !c.stale() {
			return c
		}
		cs.drop(c)
	}
}

// keep puts a connection by for later.
func (cs *conns) keep(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		cs.close(c)
		return
	}
	if list := cs.hosts[c.key]; len(list) >= cs.perHost {
		cs.evict(list[0])
	} else if cs.unused >= cs.all {
		cs.evict(cs.oldest)
	}
	c.since = time.Now()
	if c.older = cs.newest; c.older != nil {
		c.older.newer = c
	} else {
		cs.oldest = c
	}
	cs.newest = c
	cs.hosts[c.key] = append(cs.hosts[c.key], c)
	cs.unused++
	if cs.timer == nil {
		cs.timer = time.AfterFunc(cs.idle, cs.expire)
	}
}

// spare closes the oldest unused connection, for one that is needed more. It
// reports whether there was one.
func (cs *conns) spare() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.oldest == nil {
		return false
	}
	cs.evict(cs.oldest)
	return true
}

// drop closes a connection that is in use.
func (cs *conns) drop(c *conn) {
	cs.mu.Lock()
	cs.close(c)
	cs.mu.Unlock()
}

func (cs *conns) expire() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.timer = nil
	if cs.closed {
		return
	}
	now := time.Now()
	for cs.oldest != nil && now.Sub(cs.oldest.since) >= cs.idle {
		cs.evict(cs.oldest)
	}
	if cs.oldest != nil {
		cs.timer = time.AfterFunc(cs.idle-now.Sub(cs.oldest.since), cs.expire)
	}
}

// evict closes the oldest unused connection of a host. It needs mu.
func (cs *conns) evict(c *conn) {
	cs.unlink(c, 0)
	cs.close(c)
}

// unlink takes an unused connection, at i in its host's list, out. It needs mu.
func (cs *conns) unlink(c *conn, i int) {
	list := cs.hosts[c.key]
	copy(list[i:], list[i+1:])
	list[len(list)-1] = nil
	if list = list[:len(list)-1]; len(list) > 0 {
		cs.hosts[c.key] = list
	} else {
		delete(cs.hosts, c.key)
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		cs.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		cs.newest = c.older
	}
	c.older, c.newer = nil, nil
	cs.unused--
}

// close closes a connection that isn't among the unused. It needs mu.
func (cs *conns) close(c *conn) {
	delete(cs.open, c)
	// Not tls.Conn.Close, which would wait for its farewell to be taken.
	c.under.Close()
}

// shut closes every connection, those in use too, and takes no more.
func (cs *conns) shut() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	if cs.timer != nil {
		cs.timer.Stop()
	}
	for c := range cs.open {
		c.under.Close()
	}
	clear(cs.open)
	clear(cs.hosts)
	cs.oldest, cs.newest, cs.unused = nil, nil, 0
}

// maxScratch bounds the buffers that wait to be used again, in bytes.
const maxScratch = 32 << 10

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	scratch = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
)

// tlsSessions bounds the receivers whose TLS sessions are remembered, which
// spares them and us most of the next handshake.
const tlsSessions = 4096

func newTLSConfig(cfg *Config) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            cfg.RootCAs,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
	}
}
