package web

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener is where connections come from: as many as there may be, and as many
// of one address. The library gives up at the first error of Accept, and with it
// would the process; so those that pass are waited out here. Closing it twice is
// no error.
type listener struct {
	net.Listener
	log              *slog.Logger
	most, perAddress int // 0: no bound
	refused          func()
	patience         time.Duration // with the first byte of a request that was nearly too late
	taken            int           // by Accept, which one goroutine calls

	queue   syscall.RawConn // where those wait who are to be taken
	streams atomic.Int64    // that came since pace last looked, less those that turned out to be none
	apart   time.Duration   // that streams come in
	next    time.Time       // when the next may; Accept's own
	crowd   bool            // somebody waited when pace last looked; so is this
	due     time.Time       // when it last let one in, or would have; so is this
	hurry   atomic.Bool     // who waits is to be let in now

	mu   sync.Mutex
	room sync.Cond // a connection closed, or the listener did
	open int
	from map[netip.Addr]int // counted with perAddress only
	told time.Time          // when a lack of room was last told
	shut bool

	once sync.Once
	err  error
}

func newListener(below net.Listener, cfg *Config, refused func()) *listener {
	l := &listener{Listener: below, log: cfg.Logger, most: cfg.MaxConns, perAddress: cfg.MaxPerAddress, refused: refused, patience: cfg.ReadTimeout, from: make(map[netip.Addr]int), queue: queueOf(below), apart: streamsApart / time.Duration(runtime.GOMAXPROCS(0))}
	l.room.L = &l.mu
	return l
}

// inARow is how many connections are taken before their goroutines, and all others,
// get their turn: a crowd of newcomers doesn't go before who is there.
const inARow = 8

func (l *listener) Accept() (net.Conn, error) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	for delay := shortest; ; {
		l.awaitRoom()
		l.pace()
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			if l.taken++; l.taken%inARow == 0 {
				runtime.Gosched()
			}
			if c := l.admit(c); c != nil {
				return c, nil
			}
		case !passes(err):
			return nil, err
		default:
			l.log.Warn("connection not taken, trying again", "error", err, "delay", delay)
			time.Sleep(delay)
			delay = min(2*delay, longest)
		}
	}
}

// How streams come in: so far apart, on one processor, behind so many at once. To come
// in, and to be given what was missed, takes some tenths of a millisecond of it.
const (
	streamsApart  = 2 * time.Millisecond
	streamsAtOnce = 100
)

// Who lets streams in is late by more than this where others wait for the processors as
// well, and so takes so many times streamsApart at most off their way.
const (
	lateBy   = time.Millisecond
	lateMost = 5
)

// pace has a crowd of streams come in so slowly that those that are there keep most of
// the processors. Who comes meanwhile waits in the system's queue, which costs nothing;
// who finds that full tries again by itself, later each time. Everybody is taken for a
// stream until it is known better: a crowd says what it wants only once all are in. Where
// nobody waits there is no crowd.
//
// Some come in together: to wake for each would take as long as to let it in.
//
// How long others take is more than the newcomers' number tells: garbage is collected, or
// the machine has other work. Then its own turn comes late, and what was lost isn't made
// good, but waited for once more.
func (l *listener) pace() {
	now := time.Now()
	came := time.Duration(l.streams.Swap(0))
	apart, crowd := l.apart, crowded(l.queue)
	if late := now.Sub(l.due); crowd && l.crowd && late > lateBy {
		apart += 2 * min(late, lateMost*l.apart)
	}
	if earliest := now.Add(-streamsAtOnce * l.apart); l.next.Before(earliest) || !crowd {
		l.next = earliest
	}
	l.next = l.next.Add(came * apart)
	l.due, l.crowd = now, crowd
	if l.next.Sub(now) < inARow*l.apart {
		return
	}
	for ; !l.hurry.Load() && now.Before(l.next); l.due = l.next {
		time.Sleep(min(l.next.Sub(now), 10*time.Millisecond))
		now = time.Now()
	}
}

// awaitRoom waits until there may be one more connection. Those who come wait in
// the system's queue meanwhile.
func (l *listener) awaitRoom() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.most > 0 && l.open >= l.most && !l.shut {
		if time.Since(l.told) > time.Minute {
			l.told = time.Now()
			l.log.Warn("as many connections are open as this process may have: others wait", "connections", l.open)
		}
		l.room.Wait()
	}
}

// admit counts a connection, or closes it where its address has too many.
func (l *listener) admit(c net.Conn) net.Conn {
	from := addressOf(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perAddress > 0 && l.from[from] >= l.perAddress {
		c.Close()
		l.refused()
		return nil
	}
	l.open++
	l.streams.Add(1)
	if l.perAddress > 0 {
		l.from[from]++
	}
	return &counted{Conn: c, l: l, from: from}
}

func addressOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// passes reports whether an error is of one connection, or of a shortage that
// ends when others close.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.err = l.Listener.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.shut = true
		l.room.Broadcast()
	})
	return l.err
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	l      *listener
	from   netip.Addr
	called bool         // it is no stream; the server's own
	unused atomic.Int64 // unix nanoseconds since which it has had its answers; 0: one is due, or was never asked for
	// dismissed: who waits for a request is to look once more, and to close.
	dismissed atomic.Bool
	once      sync.Once
}

// isCall says that what the connection is for is no stream.
func (c *counted) isCall() {
	if !c.called {
		c.called = true
		c.l.streams.Add(-1)
	}
}

// Read ends a connection that was dismissed as soon as nobody has asked for anything:
// with nothing done between that look and the end, hardly anybody asks then.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.dismissed.Swap(false) {
		return n, err
	}
	if c.unused.Load() != 0 && !unread(c.Conn) {
		c.Close()
		return n, err
	}
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.l.patience)); err != nil {
		return n, err
	}
	return c.Conn.Read(b)
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.l.leave(c.from) })
	return err
}

// Outlive has the connection count until leave is called, however soon it is
// closed: for who has taken its descriptor over.
func (c *counted) Outlive() (leave func()) {
	leave = func() {}
	l, from := c.l, c.from // all that is kept of it
	c.once.Do(func() { leave = func() { l.leave(from) } })
	return leave
}

// leave counts one connection of the address less.
func (l *listener) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[from]--; l.from[from] <= 0 {
		delete(l.from, from)
	}
	l.room.Signal()
}

// CloseWrite tells the client that nothing more comes, where that can be told.
func (c *counted) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// UnsafeConn gives the connection itself, which isn't to be closed by its taker.
func (c *counted) UnsafeConn() net.Conn { return c.Conn }
