package attempt

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// A process that may open no more files is no fault of the receiver: the attempt
// waits for one, and counts for nothing where none comes.
func TestShortOfFiles(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := receive(t, answer(ok))
	cfg := patient()
	cfg.Total = 12 * time.Second
	s := newSender(t, cfg)
	guard := s.dialer.Control
	var left atomic.Int32
	s.dialer.Control = func(network, address string, c syscall.RawConn) error {
		if left.Add(-1) >= 0 {
			return os.NewSyscallError("socket", syscall.EMFILE)
		}
		return guard(network, address, c)
	}
	left.Store(3)
	o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr})
	if err != nil || o.Class != delivery.Delivered {
		t.Errorf("after a while: %+v, %v", o, err)
	}

	// What isn't in use is closed before anything waits.
	other := receive(t, answer(ok))
	left.Store(1)
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + other.addr}); err != nil || !o.OK() {
		t.Errorf("beside an unused connection: %+v, %v", o, err)
	}
	if s.conns.unused != 1 {
		t.Errorf("%d connections unused", s.conns.unused)
	}

	// One that had to wait has its whole time then.
	slow := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
		r.request(br)
		<-time.After(cfg.Total / 2)
		io.WriteString(c, ok)
	})
	s.conns.shut()
	s.conns = newConns(time.Minute, 1, 1)
	left.Store(10) // 50 ms, 100, 200, 400, 800, and 5 times a second: more than half of the time
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + slow.addr}); err != nil || !o.OK() {
		t.Errorf("after waiting: %+v, %v", o, err)
	}
	s.conns.shut()
	s.conns = newConns(time.Minute, 1, 1)
	left.Store(1000)
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr}); !errors.Is(err, ErrNotMade) || o.Class != "" {
		t.Errorf("for too long: %+v, %v", o, err)
	}
}
