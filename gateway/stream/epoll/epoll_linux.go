package epoll

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is a descriptor that was taken over. Whoever has it sees to it that nobody
// uses it after Close: its number is soon another's.
type FD int

// Take makes a descriptor of the connection's socket, which doesn't block. The
// connection keeps its own, and may be closed.
func Take(c *net.TCPConn) (FD, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("take connection over: %w", err)
	}
	fd := -1
	failed := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(failed, err); err != nil {
		return -1, fmt.Errorf("take connection over: %w", err)
	}
	return FD(fd), nil
}

// Read reads what is there. At the end it gives io.EOF.
func (fd FD) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, ErrAgain
		case err != nil:
			return 0, fmt.Errorf("read socket: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// CloseWrite tells the other side that nothing more comes.
func (fd FD) CloseWrite() { unix.Shutdown(int(fd), unix.SHUT_WR) }

// Shutdown ends both directions; who reads sees the end.
func (fd FD) Shutdown() { unix.Shutdown(int(fd), unix.SHUT_RDWR) }

// Close closes a descriptor that no Poller knows.
func (fd FD) Close() { unix.Close(int(fd)) }

// Writer writes many frames with one system call. It is one goroutine's.
type Writer struct {
	iov [64]unix.Iovec
}

// Write writes the front of frames, none of them empty, as far as the socket
// takes them, and gives the bytes it took.
func (w *Writer) Write(fd FD, frames [][]byte) (int, error) {
	for {
		var n int
		var err error
		if len(frames) == 1 {
			n, err = unix.Write(int(fd), frames[0])
		} else {
			n, err = w.writev(fd, frames)
		}
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, ErrAgain
		case err != nil:
			return 0, fmt.Errorf("write socket: %w", err)
		default:
			return n, nil
		}
	}
}

func (w *Writer) writev(fd FD, frames [][]byte) (int, error) {
	frames = frames[:min(len(frames), len(w.iov))]
	for i, f := range frames {
		w.iov[i].Base = unsafe.SliceData(f)
		w.iov[i].SetLen(len(f))
	}
	n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&w.iov)), uintptr(len(frames)))
	clear(w.iov[:len(frames)]) // what was written isn't held on to
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Poller tells the watchers of many descriptors when it is worth trying again.
// Its methods, but for Leave, may be called by any number of goroutines.
type Poller struct {
	file *os.File // of the epoll descriptor
	raw  syscall.RawConn
	done chan struct{}
	turn *turn // of the goroutine that polls, and its own

	mu       sync.Mutex
	watchers []Watcher // by descriptor
}

// turn is what epoll said last, of which the watchers from next on are to be told yet.
type turn struct {
	events  [256]unix.EpollEvent
	told    [256]Watcher
	next, n int
	left    *bool // the goroutine whose turn it is has left it to another
}

// New makes a poller, which works until Close.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	unix.SetNonblock(fd, true) // by which the runtime knows that it can watch it
	p := &Poller{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), turn: new(turn)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("watch epoll: %w", err)
	}
	go p.run()
	return p, nil
}

// inARow is how many watchers are told before all other goroutines get their turn: a
// crowd doesn't go before who is there.
const inARow = 8

// run polls until the file is closed, or the turn is left to another goroutine.
func (p *Poller) run() {
	t, left := p.turn, false
	t.left = &left
	for {
		for t.next < t.n {
			t.next++
			if t.tell(t.next - 1); left {
				return // t is another's by now
			}
			if t.next%inARow == 0 {
				runtime.Gosched()
			}
		}
		if p.await(t) != nil {
			close(p.done)
			return
		}
	}
}

// tell tells one watcher.
func (t *turn) tell(i int) {
	w, e := t.told[i], t.events[i].Events
	t.told[i] = nil
	if w != nil {
		const gone = unix.EPOLLHUP | unix.EPOLLERR
		w.Ready(e&(unix.EPOLLIN|unix.EPOLLRDHUP|gone) != 0, e&(unix.EPOLLOUT|gone) != 0)
	}
}

// await waits for what is ready.
func (p *Poller) await(t *turn) error {
	t.next, t.n = 0, 0
	err := p.raw.Read(func(fd uintptr) bool {
		for {
			var err error
			if t.n, err = unix.EpollWait(int(fd), t.events[:], 0); err != unix.EINTR {
				return t.n > 0
			}
		}
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range t.events[:t.n] {
		t.told[i] = p.watchers[t.events[i].Fd]
	}
	return nil
}

// Leave is called by a watcher within Ready, once, before it waits for anything or
// does what takes long: another goroutine polls on.
func (p *Poller) Leave() {
	*p.turn.left = true
	go p.run()
}

// Add has the watcher told when there is something to read, of what is there already too.
func (p *Poller) Add(fd FD, w Watcher) error {
	p.mu.Lock()
	for int(fd) >= len(p.watchers) {
		p.watchers = append(p.watchers, nil)
	}
	p.watchers[fd] = w
	p.mu.Unlock()
	if err := p.control(unix.EPOLL_CTL_ADD, fd, toRead); err != nil {
		p.forget(fd)
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// AwaitRoom has the watcher told, once, when the socket takes more, at once if it does
// by now. Who writes asks for it behind ErrAgain.
func (p *Poller) AwaitRoom(fd FD) error {
	if err := p.control(unix.EPOLL_CTL_MOD, fd, toRead|unix.EPOLLOUT); err != nil {
		return fmt.Errorf("watch socket for room: %w", err)
	}
	return nil
}

// toRead is what every socket is watched for. That it takes what is written is no news:
// to be told of it would wake everybody up once more for each that comes.
const toRead = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

func (p *Poller) control(op int, fd FD, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	var err error
	failed := p.raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, int(fd), &ev) })
	return errors.Join(failed, err)
}

// Remove forgets the descriptor and closes it. Epoll forgets the socket once who it
// was taken from has closed its copy, too; what is said of it until then reaches,
// if anybody, who has the number next, falsely.
func (p *Poller) Remove(fd FD) {
	p.forget(fd)
	fd.Close()
}

func (p *Poller) forget(fd FD) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[fd] = nil
}

// Close ends the poller. It returns when no watcher is told any more.
func (p *Poller) Close() {
	p.file.Close()
	<-p.done
}
