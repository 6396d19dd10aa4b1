package stream_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
)

// TestHalfClosed: who says that nothing more comes, behind what ends the
// connection, still hears all that it is to be told.
func TestHalfClosed(t *testing.T) { carried(t, testHalfClosed) }

func testHalfClosed(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.SendBuffer = 4 << 10 })
	for _, tt := range []struct {
		name  string
		frame []byte
		code  uint16
	}{
		{"leaves", masked(0x88, []byte{3, 232}), 1000},
		{"a key that isn't known", masked(0x81, []byte(`{"type":"auth","token":"nonsense"}`)), 4401},
		{"unmasked", []byte{0x81, 1, 'x'}, 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := s.raw(t, "")
			r.response()
			r.join(s, `"rfq.*"`, "")
			r.frame()
			r.frame()
			s.publishAll(30, "rfq.created", func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 3000) + `"}`) })
			r.nc.Write(tt.frame)
			r.nc.(*net.TCPConn).CloseWrite()
			r.wantClose(tt.code, true)
		})
	}
	eventually(t, "nobody is left", func() bool {
		return s.count("sluice_stream_connections", "authenticated")+s.count("sluice_stream_connections", "unauthenticated") == 0
	})
	if n := s.count("sluice_stream_endings_total", "lost"); n != 0 {
		t.Errorf("%v were lost", n)
	}
}

// TestSilentSocket: a client that gives no sign of life is told so.
func TestSilentSocket(t *testing.T) { carried(t, testSilentSocket) }

func testSilentSocket(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Ping, c.Limits.Silent = time.Hour, 300*time.Millisecond })
	r := s.raw(t, "")
	r.response()
	r.join(s, `"rfq.*"`, "")
	r.wantClose(4408, false)
}

// TestStalledSocket: a client that takes no byte while its queue is full is cut off.
func TestStalledSocket(t *testing.T) { carried(t, testStalledSocket) }

func testStalledSocket(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.SendBuffer, c.Limits.Stall = 4<<10, 300*time.Millisecond })
	r := s.raw(t, "")
	r.nc.(*net.TCPConn).SetReadBuffer(1 << 10)
	r.response()
	r.join(s, `"rfq.*"`, "")
	r.frame()
	r.frame()
	// More comes all the time, or what is on its way to the socket may leave the queue with room.
	eventually(t, "it is cut off", func() bool {
		s.publishAll(20, "rfq.created", func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 4000) + `"}`) })
		return s.count("sluice_stream_endings_total", "slow") == 1
	})
	eventually(t, "it is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 0 })
}

// TestStuck: clients that take nothing, live or in a replay, don't hold up a drain
// for longer than the endings may wait, nor a stop at all.
func TestStuck(t *testing.T) { carried(t, testStuck) }

func testStuck(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(map[bool]string{false: "drain", true: "stop"}[stop], func(t *testing.T) {
			s := open(t, func(c *stream.Config) {
				c.Limits.SendBuffer, c.Limits.Linger = 4<<10, 300*time.Millisecond
				if stop {
					c.Limits.Linger = time.Minute
				}
			})
			big := func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 9000) + `"}`) }
			s.publishAll(100, "rfq.created", big)
			s.settle()
			for _, cursor := range []string{"", s.cursor(0)} {
				for range 5 {
					r := s.raw(t, "")
					r.nc.(*net.TCPConn).SetReadBuffer(1 << 10)
					r.response()
					r.join(s, `"rfq.*"`, cursor)
					r.frame()
					r.frame()
				}
			}
			s.publishAll(700, "rfq.created", big)
			eventually(t, "all queues are full", func() bool { return s.count("sluice_stream_events_dropped_total", "") > 10*256 })
			began := time.Now()
			if !stop {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				ok(t, s.hub.Drain(ctx))
			}
			s.stop()
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := s.count("sluice_stream_connections", "authenticated"); n != 0 {
				t.Errorf("%v are left", n)
			}
		})
	}
}
