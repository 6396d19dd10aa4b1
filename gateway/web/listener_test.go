package web_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gateway/web"
	"sluice/pkg/control"
)

// short is a listener that first has no file descriptors left for a while.
type short struct {
	net.Listener
	errs atomic.Int32
}

func (l *short) Accept() (net.Conn, error) {
	if l.errs.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestServesOnWhenFileDescriptorsWereShort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &short{Listener: ln}
	l.errs.Store(4)
	s := web.New(web.Config{Access: access{control.Enterprise}})
	for _, r := range routes {
		s.Handle(r)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	if statuses, _, text := exchange(t, ln.Addr().String(), "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); len(statuses) != 1 || statuses[0] != 200 {
		t.Errorf("%v: %s", statuses, text)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeSaysWhenTheListenerIsBroken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	broken := errors.New("broken")
	if err := web.New(web.Config{Access: access{control.Enterprise}}).Serve(failing{ln, broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// As many connections are open as there may be: those who come wait until one
// closes, and one that was upgraded counts until it is over, be it served by a
// descriptor of its own.
func TestNoMoreConnectionsThanThereMayBe(t *testing.T) {
	t.Run("served", func(t *testing.T) {
		noMoreThanThereMayBe(t, func(_ net.Conn, end chan struct{}) { <-end })
	})
	t.Run("taken over", func(t *testing.T) {
		noMoreThanThereMayBe(t, func(c net.Conn, end chan struct{}) {
			c = c.(interface{ UnsafeConn() net.Conn }).UnsafeConn()
			leave := c.(interface{ Outlive() func() }).Outlive()
			go func() {
				<-end
				leave()
			}()
		})
	})
}

func noMoreThanThereMayBe(t *testing.T, upgraded func(net.Conn, chan struct{})) {
	end := make(chan struct{})
	s := start(t, web.Config{MaxConns: 2}, append(routes, web.Route{Method: "GET", Path: "/hijack", Open: true, Serve: web.Raw(func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(101)
		ctx.Hijack(func(c net.Conn) { upgraded(c, end) })
	})})...)
	first, second := dial(t, s.addr, ""), dial(t, s.addr, "")
	first.ask(t, "/open", 200)
	second.ask(t, "/hijack", 101)
	third := dial(t, s.addr, "")
	io.WriteString(third, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
	third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection got %d bytes", n)
	}
	third.SetReadDeadline(time.Time{})
	first.ask(t, "/open", 200) // whoever is there isn't disturbed
	first.Close()
	third.answered(t, 200)
	fourth := dial(t, s.addr, "")
	close(end)
	fourth.ask(t, "/open", 200)
}

// A server that is stopped before it has begun doesn't begin.
func TestStoppedBeforeItServes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(web.Config{Access: access{control.Enterprise}})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Errorf("Serve gave %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port gives %v", err)
	}
}

func TestNoMoreOfOneAddressThanThereMayBe(t *testing.T) {
	s := start(t, web.Config{MaxPerAddress: 2}, routes...)
	first, second := dial(t, s.addr, ""), dial(t, s.addr, "")
	first.ask(t, "/open", 200)
	second.ask(t, "/open", 200)
	third := dial(t, s.addr, "")
	if text, err := io.ReadAll(third); len(text) > 0 {
		t.Errorf("a third connection got %q, %v", text, err)
	}
	dial(t, s.addr, "127.0.0.2").ask(t, "/open", 200)
	first.Close()
	for { // until the server has seen it
		again := dial(t, s.addr, "")
		io.WriteString(again, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, err := http.ReadResponse(again.answers, nil); err == nil && resp.StatusCode == 200 {
			break
		}
	}
}

// caller is a connection with what is read of it.
type caller struct {
	net.Conn
	answers *bufio.Reader
}

// dial connects from an address of this machine; empty: any.
func dial(t *testing.T, addr, from string) *caller {
	t.Helper()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &caller{c, bufio.NewReader(c)}
}

func (c *caller) ask(t *testing.T, path string, want int) {
	t.Helper()
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	c.answered(t, want)
}

func (c *caller) answered(t *testing.T, want int) {
	t.Helper()
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%v, %v; want %d", resp, err, want)
	}
	if want != 101 {
		io.Copy(io.Discard, resp.Body)
	}
}

type failing struct {
	net.Listener
	err error
}

func (l failing) Accept() (net.Conn, error) { return nil, l.err }
