package stream_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// ugly are ways in which clients leave.
var ugly = []func(r *raw, s *stage){
	func(r *raw, s *stage) {}, // at once
	func(r *raw, s *stage) { r.response() },
	func(r *raw, s *stage) { r.response(); r.nc.Write([]byte{0x81}) },
	func(r *raw, s *stage) { r.response(); r.text(`{"type":"auth","token":"nonsense"}`); r.frame() },
	func(r *raw, s *stage) { r.response(); r.nc.Write([]byte{0x81, 0x01, 'x'}); r.frame() },
	func(r *raw, s *stage) { r.response(); r.join(s, `"rfq.*"`, ""); r.nc.Write(masked(0x88, nil)) },
	func(r *raw, s *stage) {
		r.response()
		r.join(s, `"rfq.*"`, "")
		r.nc.Write(masked(0x88, []byte{3, 232}))
		r.frame()
		r.frame()
	},
	func(r *raw, s *stage) { r.response(); r.join(s, `"rfq.*"`, s.cursor(0)) },
	func(r *raw, s *stage) {
		r.response()
		r.join(s, `"rfq.*"`, s.cursor(0))
		r.frame()
		r.frame()
		r.frame()
	},
	func(r *raw, s *stage) {
		r.response()
		r.join(s, `"rfq.*"`, "")
		r.nc.(*net.TCPConn).CloseWrite()
		r.frame()
	},
	func(r *raw, s *stage) { // takes nothing until its socket and its queue are full
		r.response()
		r.nc.(*net.TCPConn).SetReadBuffer(1 << 10)
		r.join(s, `"rfq.*"`, "")
		time.Sleep(20 * time.Millisecond)
	},
}

func (r *raw) text(text string) { r.nc.Write(masked(0x81, []byte(text))) }

func (r *raw) join(s *stage, channels, cursor string) {
	r.text(`{"type":"auth","token":"` + s.token + `"}`)
	if cursor != "" {
		cursor = `,"cursor":"` + cursor + `"`
	}
	r.text(`{"type":"subscribe","channels":[` + channels + `]` + cursor + `}`)
}

// TestUgly: whoever comes, and however they leave, nothing is left of them.
func TestUgly(t *testing.T) { carried(t, testUgly) }

func testUgly(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.SendBuffer = 4 << 10; c.Limits.Linger = 100 * time.Millisecond })
	total := 3000
	if hide {
		total = 400
	}
	stop := make(chan struct{})
	var publisher sync.WaitGroup
	t.Cleanup(func() {
		close(stop)
		publisher.Wait()
	})
	publisher.Go(func() {
		pad := func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 3000) + `"}`) }
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				s.publish("rfq.created", pad)
			}
		}
	})
	churn := func(n int) {
		var clients sync.WaitGroup
		for i := range 16 {
			clients.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 5))
				for range n / 16 {
					r := s.raw(t, "")
					ugly[rnd.IntN(len(ugly))](r, s)
					if rnd.IntN(2) == 0 {
						r.nc.(*net.TCPConn).SetLinger(0) // a reset
					}
					r.nc.Close()
				}
			})
		}
		clients.Wait()
	}
	nobody := func() bool {
		return s.count("sluice_stream_connections", "authenticated")+s.count("sluice_stream_connections", "unauthenticated") == 0
	}
	churn(160) // the library's workers and pools have come, and stay for a while
	eventually(t, "the first are gone", nobody)
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	churn(total)
	eventually(t, "all are gone", nobody)
	eventually(t, "no descriptor is left", func() bool { return descriptors(t) <= files })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+16 })
	c := s.join(`"other.thing"`)
	c.silentlyOpen()
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system doesn't tell")
	}
	return len(entries)
}

// TestIdle: connections that were taken over have no goroutine each, and get what
// they subscribed to all the same.
func TestIdle(t *testing.T) {
	s := open(t, nil)
	before := runtime.NumGoroutine()
	clients := make([]*raw, 300)
	for i := range clients {
		clients[i] = s.raw(t, "")
		clients[i].response()
		clients[i].join(s, `"rfq.*"`, "")
		clients[i].frame()
		clients[i].frame()
	}
	eventually(t, "readers have ended", func() bool { return runtime.NumGoroutine() < before+50 })
	s.publishAll(3, "rfq.created")
	for i, c := range clients {
		for n := range 3 {
			if _, text, err := c.frame(); err != nil || !bytes.Contains(text, fmt.Appendf(nil, `"n":%d`, n)) {
				t.Fatalf("client %d, event %d: %s %v", i, n, text, err)
			}
		}
	}
}

// TestAccounting: of clients that read now and then, each receives every event,
// or is told that it lost it, in its place; and that is what is counted.
func TestAccounting(t *testing.T) { carried(t, testAccounting) }

func testAccounting(t *testing.T) {
	const least, most = 1000, 100_000
	s := open(t, func(c *stream.Config) {
		c.Limits.SendBuffer, c.Limits.QueueEvents = 4<<10, 20
	})
	clients := make([]*client, 8)
	for i := range clients {
		clients[i] = s.join(list("rfq.*", "that.was_all"))
	}
	received, declared := make([]int64, len(clients)), make([]int64, len(clients))
	var reading sync.WaitGroup
	for i, c := range clients {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 6))
			for next := int64(0); ; {
				if i > 0 && rnd.IntN(100) == 0 { // the first always reads
					time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
				}
				m, err := c.hear()
				switch {
				case err != nil:
					t.Errorf("client %d at %d: %v", i, next, err)
					return
				case m.Type == "dropped" && m.Cursor == s.cursor(next):
					declared[i] += m.Count
					next += m.Count
				case m.N != nil && *m.N == next:
					received[i]++
					next++
					if m.Type == "that.was_all" {
						return
					}
				default:
					t.Errorf("client %d at %d: %.200s", i, next, m.text)
					return
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	pad := func(ev *event.Event) {
		ev.Data = append([]byte(`{"pad":"`+strings.Repeat("x", rnd.IntN(6000))+`",`), ev.Data[1:]...)
	}
	slow := func() bool { return s.count("sluice_stream_events_dropped_total", "") > 0 }
	for n := 0; n < least || n < most && !slow(); { // who is slow on this machine isn't known before
		k := 1 + rnd.IntN(10)
		s.publishAll(k, "rfq.created", pad)
		n += k
		time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
	}
	s.publish("that.was_all")
	reading.Wait()
	var sent, dropped int64
	for i := range clients {
		sent, dropped = sent+received[i], dropped+declared[i]
	}
	t.Logf("%d received, %d declared", sent, dropped)
	if dropped == 0 {
		t.Error("nobody was slow: this says nothing")
	}
	eventually(t, "all that was sent is counted", func() bool {
		return s.count("sluice_stream_events_sent_total", "") == float64(sent) && s.count("sluice_stream_events_dropped_total", "") == float64(dropped)
	})
}

// TestRevokedWhileStuck: a client that takes nothing is closed all the same.
func TestRevokedWhileStuck(t *testing.T) { carried(t, testRevokedWhileStuck) }

func testRevokedWhileStuck(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.SendBuffer = 4 << 10 })
	token, id := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
	r := s.raw(t, "")
	r.nc.(*net.TCPConn).SetReadBuffer(1 << 10)
	r.response()
	r.text(`{"type":"auth","token":"` + token + `"}`)
	r.text(`{"type":"subscribe","channels":["rfq.*"]}`)
	r.frame()
	r.frame()
	s.publishAll(500, "rfq.created", func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 4000) + `"}`) })
	eventually(t, "its queue is full", func() bool { return s.count("sluice_stream_events_dropped_total", "") > 0 })
	s.revoke(id)
	eventually(t, "it is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 0 })
	s.wantCount("sluice_stream_endings_total", "revoked", 1)
}
