package web_test

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

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
	if statuses, _, text := exchange(t, ln.Addr().String(), "GET /open HTTP/1.1\r\nHost: a\r\n\r\n"); len(statuses) != 1 || statuses[0] != 200 {
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

type failing struct {
	net.Listener
	err error
}

func (l failing) Accept() (net.Conn, error) { return nil, l.err }
