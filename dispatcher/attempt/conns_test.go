package attempt

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// TestReuse holds that connections are used again, only when they are fit for
// it, and that no request is ever sent twice.
func TestReuse(t *testing.T) {
	send := func(t *testing.T, s *HTTPSender, r *receiver, want delivery.Class) {
		t.Helper()
		o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr + "/", Body: []byte(`{}`)})
		if err != nil || o.Class != want {
			t.Errorf("outcome %s %q, %v", o.Class, o.Detail, err)
		}
	}
	counts := func(t *testing.T, r *receiver, accepts, asked int64) {
		t.Helper()
		if r.accepts.Load() != accepts || r.asked.Load() != asked {
			t.Errorf("%d connections and %d requests, want %d and %d", r.accepts.Load(), r.asked.Load(), accepts, asked)
		}
	}
	t.Run("again", func(t *testing.T) {
		r, s := receive(t, answer(ok)), newSender(t, patient())
		for range 5 {
			send(t, s, r, delivery.Delivered)
		}
		counts(t, r, 1, 5)
	})
	t.Run("after an error", func(t *testing.T) {
		r, s := receive(t, answer("HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nno!")), newSender(t, patient())
		for range 3 {
			send(t, s, r, delivery.HTTPError)
		}
		counts(t, r, 1, 3)
	})
	t.Run("past its time", func(t *testing.T) {
		t.Parallel()
		cfg := patient()
		cfg.Total, cfg.Body = 6*time.Second, 6*time.Second
		r, s := receive(t, answer(ok)), newSender(t, cfg)
		send(t, s, r, delivery.Delivered)
		<-time.After(cfg.Total + 100*time.Millisecond) // the deadlines of the first are over
		send(t, s, r, delivery.Delivered)
		counts(t, r, 1, 2)
	})
	t.Run("not when closing", func(t *testing.T) {
		r, s := receive(t, answer("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")), newSender(t, patient())
		for range 3 {
			send(t, s, r, delivery.Delivered)
		}
		counts(t, r, 3, 3)
	})
	t.Run("not when it said too much", func(t *testing.T) {
		r, s := receive(t, answer(ok+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), newSender(t, patient())
		for range 3 {
			send(t, s, r, delivery.Delivered)
		}
		counts(t, r, 3, 3)
	})
	t.Run("not when closed meanwhile", func(t *testing.T) {
		closed := make(chan struct{}, 3)
		r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
			if _, _, whole := r.request(br); whole {
				io.WriteString(c, ok)
			}
			c.Close()
			closed <- struct{}{}
		})
		s := newSender(t, patient())
		for range 3 {
			send(t, s, r, delivery.Delivered)
			<-closed
		}
		counts(t, r, 3, 3)
	})
	t.Run("not after a 101", func(t *testing.T) {
		r, s := receive(t, answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")), newSender(t, patient())
		for range 3 {
			send(t, s, r, delivery.HTTPError)
		}
		counts(t, r, 3, 3)
	})
	t.Run("no request twice", func(t *testing.T) {
		r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, ok)
			r.request(br)
			c.(*net.TCPConn).SetLinger(0)
		})
		s := newSender(t, patient())
		send(t, s, r, delivery.Delivered)
		send(t, s, r, delivery.Connection)
		counts(t, r, 1, 2)
	})
	t.Run("bounded", func(t *testing.T) {
		cfg := patient()
		cfg.PerHost, cfg.Kept, cfg.Idle = 2, 3, 50*time.Millisecond
		const each = 4
		gate := make(chan struct{})
		hold := func(r *receiver, c net.Conn, br *bufio.Reader) {
			for {
				if _, _, whole := r.request(br); !whole {
					return
				}
				<-gate
				io.WriteString(c, ok)
			}
		}
		s := newSender(t, cfg)
		results := make(chan error)
		hosts := []*receiver{receive(t, hold), receive(t, hold)}
		for _, r := range hosts {
			for range each {
				go func() {
					_, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr + "/", Body: []byte(`{}`)})
					results <- err
				}()
			}
		}
		for hosts[0].asked.Load()+hosts[1].asked.Load() < 2*each {
			<-time.After(time.Millisecond)
		}
		close(gate)
		for range 2 * each {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		s.conns.mu.Lock()
		unused, open := s.conns.unused, len(s.conns.open)
		s.conns.mu.Unlock()
		if unused > 3 || open != unused {
			t.Errorf("%d unused, %d open", unused, open)
		}
		for deadline := time.Now().Add(muchLater); unused > 0 && time.Now().Before(deadline); {
			<-time.After(5 * time.Millisecond)
			s.conns.mu.Lock()
			unused = len(s.conns.open)
			s.conns.mu.Unlock()
		}
		if unused != 0 {
			t.Errorf("%d kept past their time", unused)
		}
	})
}
