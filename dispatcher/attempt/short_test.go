package attempt

import (
	"errors"
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
	r := receive(t, answer(ok))
	cfg := local()
	cfg.Total = 2 * time.Second
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
	s.conns.shut()
	s.conns = newConns(time.Minute, 1, 1)
	left.Store(1000)
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr}); !errors.Is(err, ErrShort) || o.Class != "" {
		t.Errorf("for too long: %+v, %v", o, err)
	}
}
