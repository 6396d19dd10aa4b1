package epoll_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"sluice/gateway/stream/epoll"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair gives both sides of a connection.
func pair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	ok(t, err)
	taken, err := ln.Accept()
	ok(t, err)
	t.Cleanup(func() { dialed.Close(); taken.Close() })
	return taken.(*net.TCPConn), dialed.(*net.TCPConn)
}

func take(t *testing.T, c *net.TCPConn) epoll.FD {
	t.Helper()
	fd, err := epoll.Take(c)
	ok(t, err)
	return fd
}

// watcher notes what it is told, as much as it has room for.
type watcher chan [2]bool

func (w watcher) Ready(in, out bool) {
	select {
	case w <- [2]bool{in, out}:
	default:
	}
}

// want waits until it is told that there is something to read (0), or room (1).
func (w watcher) want(t *testing.T, what int) {
	t.Helper()
	for !w.told(t)[what] {
	}
}

// told waits for what it is told next.
func (w watcher) told(t *testing.T) (inOut [2]bool) {
	t.Helper()
	select {
	case inOut = <-w:
	case <-time.After(10 * time.Second):
		t.Fatal("it was never told")
	}
	return inOut
}

// read reads so many bytes, waiting for each change as its reader does.
func (w watcher) read(t *testing.T, fd epoll.FD, n int) string {
	t.Helper()
	buf := make([]byte, n)
	for got := 0; got < n; {
		k, err := fd.Read(buf[got:])
		if errors.Is(err, epoll.ErrAgain) {
			w.want(t, 0)
			continue
		}
		ok(t, err)
		got += k
	}
	return string(buf)
}

// TestTaken: the descriptor outlives the connection that it was taken from.
func TestTaken(t *testing.T) {
	p, err := epoll.New()
	ok(t, err)
	defer p.Close()
	ours, theirs := pair(t)
	w, fd := make(watcher, 100), take(t, ours)
	ok(t, p.Add(fd, w))
	ours.Close()
	theirs.Write([]byte("hello"))
	if got := w.read(t, fd, 5); got != "hello" {
		t.Error(got)
	}

	// What is written in parts comes whole, whatever the client takes at a time.
	var frames [][]byte
	total := 0
	for i := range 1000 {
		frames = append(frames, make([]byte, 1+i*7))
		total += 1 + i*7
	}
	read := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, theirs)
		read <- n
	}()
	var writer epoll.Writer
	for len(frames) > 0 {
		n, err := writer.Write(fd, frames)
		if errors.Is(err, epoll.ErrAgain) {
			ok(t, p.AwaitRoom(fd))
			w.want(t, 1)
			continue
		}
		ok(t, err)
		for len(frames) > 0 && n >= len(frames[0]) {
			n, frames = n-len(frames[0]), frames[1:]
		}
		if n > 0 {
			frames[0] = frames[0][n:]
		}
	}
	p.Remove(fd)
	if n := <-read; n != int64(total) {
		t.Errorf("%d of %d bytes", n, total)
	}
}

// TestNumberUsedAgain: who gets the number of a descriptor that was removed is told
// of its own, and maybe of what was of the other as long as the connection is open
// from which that was taken; the other is told of nothing.
func TestNumberUsedAgain(t *testing.T) {
	p, err := epoll.New()
	ok(t, err)
	defer p.Close()
	first, theirs1 := pair(t)
	second, theirs2 := pair(t)
	was, fd := make(watcher, 100), take(t, first)
	ok(t, p.Add(fd, was))
	p.Remove(fd)
	again := take(t, second)
	if again != fd {
		t.Skip("another has taken the number")
	}
	w := make(watcher, 100)
	ok(t, p.Add(again, w))
	theirs1.Write([]byte("of the first"))
	if _, err := again.Read(make([]byte, 9)); !errors.Is(err, epoll.ErrAgain) {
		t.Errorf("the second has %v", err)
	}
	theirs2.Write([]byte("of its own"))
	w.want(t, 0)
	if got := w.read(t, again, 10); got != "of its own" {
		t.Error(got)
	}
	first.Close()
	p.Remove(again)
	if len(was) > 0 {
		t.Error("the first was told")
	}
}

// TestRoom: who asks for room is told at once where there is some, and nobody is who
// hasn't asked: not even of what comes to be read.
func TestRoom(t *testing.T) {
	p, err := epoll.New()
	ok(t, err)
	defer p.Close()
	ours, theirs := pair(t)
	w, fd := make(watcher, 100), take(t, ours)
	ok(t, p.Add(fd, w))
	defer p.Remove(fd)
	theirs.Write([]byte("x"))
	if told := w.told(t); told != [2]bool{true, false} {
		t.Errorf("told of %v", told)
	}
	for range 2 {
		ok(t, p.AwaitRoom(fd))
		w.want(t, 1)
	}
}

// TestEnd: the end of one direction is told, and that of the poller is final.
func TestEnd(t *testing.T) {
	p, err := epoll.New()
	ok(t, err)
	ours, theirs := pair(t)
	w, fd := make(watcher, 100), take(t, ours)
	ok(t, p.Add(fd, w))
	theirs.CloseWrite()
	for {
		_, err := fd.Read(make([]byte, 1))
		if errors.Is(err, io.EOF) {
			break
		}
		if !errors.Is(err, epoll.ErrAgain) {
			t.Fatal(err)
		}
		w.want(t, 0)
	}
	p.Remove(fd)
	p.Close()
	other, _ := pair(t)
	fd = take(t, other)
	defer fd.Close()
	if p.Add(fd, w) == nil {
		t.Error("it watches on")
	}
}

// leaver holds up the goroutine that tells it, until it is let go.
type leaver struct {
	p    *epoll.Poller
	free chan struct{}
}

func (l leaver) Ready(bool, bool) {
	l.p.Leave()
	<-l.free
}

// TestLeave: who leaves holds up nobody, of those who were ready with it neither.
func TestLeave(t *testing.T) {
	p, err := epoll.New()
	ok(t, err)
	defer p.Close()
	slow := leaver{p, make(chan struct{})}
	defer close(slow.free)
	for range 20 {
		ours, theirs := pair(t)
		fd := take(t, ours)
		theirs.Write([]byte("x"))
		ok(t, p.Add(fd, slow))
		defer p.Remove(fd)

		ours, theirs = pair(t)
		fd = take(t, ours)
		theirs.Write([]byte("x"))
		w := make(watcher, 1)
		ok(t, p.Add(fd, w))
		defer p.Remove(fd)
		w.want(t, 0)
	}
}
