package stream_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// reader is a client of server-sent events.
type reader struct {
	t    testing.TB
	nc   net.Conn
	in   *bufio.Reader
	resp *http.Response
	id   string // the last that was read
}

// sent is a block of a stream: what stands between blank lines.
type sent struct{ id, name, data, comment, retry string }

func (s sent) n() int64 {
	digits, _ := strings.CutPrefix(s.data, `{"n":`)
	n, err := strconv.ParseInt(strings.TrimSuffix(digits, "}"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// tryRead asks for a stream.
func (s *stage) tryRead(query string, headers ...string) (*reader, error) {
	nc, err := net.Dial("tcp", s.calls)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	head := "GET /api/events/stream" + query + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token + "\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := nc.Write([]byte(head + "\r\n")); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(nc, 512)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	return &reader{t: s.t, nc: nc, in: bufio.NewReaderSize(resp.Body, 512), resp: resp}, nil
}

// read asks for a stream and reads what it opens with.
func (s *stage) read(query string, headers ...string) *reader {
	s.t.Helper()
	r, err := s.tryRead(query, headers...)
	ok(s.t, err)
	if r.resp.StatusCode != 200 {
		text, _ := io.ReadAll(r.in)
		s.t.Fatalf("%s %s", r.resp.Status, text)
	}
	if b, err := r.next(); err != nil || b.id == "" || b.retry == "" || b.data != "" || b.name != "" {
		s.t.Fatalf("opens with %+v, %v", b, err)
	}
	return r
}

// next reads a block that isn't a heartbeat.
func (r *reader) next() (b sent, err error) {
	for b.comment = "heartbeat"; err == nil && b.comment == "heartbeat"; {
		b, err = r.block()
	}
	return b, err
}

func (r *reader) block() (b sent, err error) {
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			return b, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n":
			if b.id != "" {
				r.id = b.id
			}
			return b, nil
		case name == "":
			b.comment = value
		case name == "id":
			b.id = value
		case name == "event":
			b.name = value
		case name == "data":
			b.data += value
		case name == "retry":
			b.retry = value
		default:
			return b, fmt.Errorf("line %q", line)
		}
	}
}

// hurry has the system take what comes quickly, for one who had it take little.
func (r *reader) hurry() { r.nc.(*net.TCPConn).SetReadBuffer(1 << 20) }

// want reads a block of the name.
func (r *reader) want(name string) sent {
	r.t.Helper()
	b, err := r.next()
	if err != nil || b.name != name {
		r.t.Fatalf("want %s, got %+v, %v", name, b, err)
	}
	return b
}

// wantN reads events with these numbers and nothing between.
func (r *reader) wantN(numbers ...int64) {
	r.t.Helper()
	for _, n := range numbers {
		if b, err := r.next(); err != nil || b.n() != n {
			r.t.Fatalf("want event %d, got %+v, %v", n, b, err)
		}
	}
}

func (r *reader) wantEnd() {
	r.t.Helper()
	if b, err := r.next(); err != io.EOF || b != (sent{}) {
		r.t.Fatalf("want the end, got %+v, %v", b, err)
	}
}

func upTo(n int64) (numbers []int64) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}

func TestEvents(t *testing.T) { carried(t, testEvents) }

func testEvents(t *testing.T) {
	s := open(t, nil)
	r := s.read("?types=rfq.*,%20quote.received", "Accept: text/event-stream")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Content-Length": "", "Transfer-Encoding": "",
	} {
		if got := r.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.id != s.cursor(0) || !r.resp.Close {
		t.Errorf("stands at %s, closes: %t", r.id, r.resp.Close)
	}
	s.publish("rfq.created")
	s.publish("settlement.complete")
	s.publish("quote.received", func(ev *event.Event) { ev.Data = []byte(`{"text":"für \n \u2028 日本"}`) })
	s.publish("rfq.created", to("org_b"))
	s.publish("rfq.created", func(ev *event.Event) { ev.Environment = event.Live })
	s.publish("rfq.closed", in("somewhere"))
	if b := r.want("rfq.created"); b != (sent{id: s.cursor(1), name: "rfq.created", data: `{"n":0}`}) {
		t.Errorf("%+v", b)
	}
	if b := r.want("quote.received"); b != (sent{id: s.cursor(3), name: "quote.received", data: `{"text":"für \n \u2028 日本"}`}) {
		t.Errorf("%+v", b)
	}
	r.want("rfq.closed")

	t.Run("resumed", func(t *testing.T) {
		r := s.read("", "Last-Event-ID: "+s.cursor(1))
		r.wantN(1)
		r.want("quote.received")
		r.wantN(5)
		s.publish("other.thing")
		r.want("other.thing")
	})
	t.Run("the header is newer than the query", func(t *testing.T) {
		r := s.read("?lastEventId="+s.cursor(0), "Last-Event-ID: "+s.cursor(4))
		r.wantN(5)
		r = s.read("?lastEventId=" + s.cursor(4))
		r.wantN(5)
	})
	t.Run("one who speaks", func(t *testing.T) {
		r := s.read("")
		r.nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		r.wantEnd()
	})
	s.wantCount("sluice_stream_endings_total", "spoke", 1)
}

func TestEventsRefused(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.PerOrg = 2 })
	for _, tt := range []struct {
		query   string
		headers []string
		status  int
		says    string
	}{
		{"", []string{"Accept: application/json"}, 406, "text/event-stream"},
		{"", []string{"Accept: text/event-stream;q=0, text/html"}, 406, "text/event-stream"},
		{"", []string{"Accept: text/html, */*;q=0.1"}, 200, ""},
		{"", []string{"Accept: TEXT/Event-Stream;q=0.5"}, 200, ""},
		{"?type=a.b", nil, 400, `"type"`},
		{"?token=" + s.token, nil, 400, `"token"`},
		{"?types=,", nil, 400, `"types"`},
		{"?types=" + strings.Repeat("a.b1,", 50) + "a.b" + strings.Repeat(",a.*", 49), nil, 200, ""},
		{"", []string{"X-API-Key: sk_test_other"}, 400, "two different keys"},
	} {
		r, err := s.tryRead(tt.query, tt.headers...)
		ok(t, err)
		if r.resp.StatusCode != tt.status {
			t.Errorf("%.40s %v: %s", tt.query, tt.headers, r.resp.Status)
		}
		if tt.status != 200 {
			if text, _ := io.ReadAll(r.in); !strings.Contains(string(text), tt.says) {
				t.Errorf("%.40s %v: %s", tt.query, tt.headers, text)
			}
		}
		r.nc.Close()
		eventually(t, "it is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 0 })
	}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprint("a.b", i))
	}
	if r, err := s.tryRead("?types=" + strings.Join(many, ",")); err != nil || r.resp.StatusCode != 400 {
		t.Errorf("101 patterns: %v, %v", r.resp.Status, err)
	}
	s.read("")
	s.read("")
	// An EventSource gives up for good after any answer but a stream.
	r, err := s.tryRead("", "Accept: text/event-stream")
	ok(t, err)
	b, err := r.next()
	if r.resp.StatusCode != 200 || err != nil || b.retry == "" || b.id != "" {
		t.Errorf("too many: %s, %+v, %v", r.resp.Status, b, err)
	}
	r.wantEnd()
	if r, err := s.tryRead(""); err != nil || r.resp.StatusCode != 503 || r.resp.Header.Get("Retry-After") == "" {
		t.Errorf("too many: %v, %v", r.resp, err)
	}
}

// TestEventsSplice has clients read slowly and quickly, break off at random and
// resume by their last id while events are logged: together, what each received is
// every event, once, in order.
func TestEventsSplice(t *testing.T) { carried(t, testEventsSplice) }

func testEventsSplice(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.QueueEvents = 8; c.Limits.SendBuffer = 16 << 10 })
	const clients, total = 6, 3000
	pad := strings.Repeat("x", 300)
	padded := func(ev *event.Event) { ev.Key = pad }
	s.publish("rfq.created")
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			next, id, rounds := int64(0), s.cursor(0), 0
			for next < total && !t.Failed() {
				rounds++
				r, err := s.tryRead("?types=rfq.*", "Last-Event-ID: "+id)
				if err != nil {
					t.Error(err)
					return
				}
				r.nc.(*net.TCPConn).SetReadBuffer(16 << 10)
				for left := 1 + rnd.IntN(1500); left > 0 && next < total; left-- {
					b, err := r.next()
					switch {
					case err != nil:
						t.Errorf("client %d at %d: %v", i, next, err)
						return
					case b.name == "":
						left++
						continue
					case b.n() != next || b.id != s.cursor(next+1):
						t.Errorf("client %d: want %d, got %+v", i, next, b)
						return
					}
					next++
					if i%2 == 0 && rnd.IntN(100) == 0 {
						time.Sleep(2 * time.Millisecond)
					}
				}
				id = r.id
				r.nc.Close()
			}
			t.Logf("client %d: %d connections", i, rounds)
		})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < total; {
		k := min(1+rnd.IntN(40), total-n)
		s.publishAll(k, "rfq.created", padded)
		n += k
		if rnd.IntN(8) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	wg.Wait()
	if n := s.count("sluice_stream_events_dropped_total", ""); n != 0 {
		t.Errorf("%v events were dropped", n)
	}
	eventually(t, "nobody is behind", func() bool { return s.count("sluice_stream_behind", "") == 0 })
}

// TestEventsSlow stops reading while far more is logged than its queue, its socket and
// the window hold, and gets everything all the same, then goes on live.
func TestEventsSlow(t *testing.T) { carried(t, testEventsSlow) }

func testEventsSlow(t *testing.T) {
	s := open(t, func(c *stream.Config) {
		c.Limits.QueueEvents, c.Limits.SendBuffer, c.Limits.Stall = 16, 16<<10, time.Hour
	})
	slow := s.read("?types=rfq.*")
	slow.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	quick := s.read("?types=rfq.*,quote.*")
	const total = 6000
	for range total / 500 {
		s.publishAll(500, "rfq.created")
	}
	quick.wantN(upTo(total)...)
	eventually(t, "one is behind", func() bool { return s.count("sluice_stream_behind", "") == 1 })
	slow.hurry()
	slow.wantN(upTo(total)...)
	eventually(t, "none is behind", func() bool { return s.count("sluice_stream_behind", "") == 0 })
	s.publish("rfq.created")
	slow.wantN(total)
	if n := s.count("sluice_stream_events_dropped_total", ""); n != 0 {
		t.Errorf("%v events were dropped", n)
	}
}

func TestEventsBadCursors(t *testing.T) {
	s := open(t, nil)
	s.publishAll(5, "rfq.created")
	s.settle()
	other := event.Cursor{Incarnation: event.Incarnation{1}, Environment: event.Sandbox, Next: 1}.String()
	foreign := event.Cursor{Incarnation: s.control.Incarnation(), Environment: event.Live}.String()
	for cursor, name := range map[string]string{"nonsense": "invalid_cursor", foreign: "invalid_cursor", s.cursor(99): "invalid_cursor", other: "cursor_expired"} {
		s.settle()
		r := s.read("", "Last-Event-ID: "+cursor)
		b := r.want(name)
		if !strings.Contains(b.data, `"message"`) || b.id == "" || b.id == cursor {
			t.Errorf("%s: %+v", cursor, b)
		}
		r.wantN(s.publish("rfq.created"))
		// Who comes back from where it was told goes on from there.
		s.read("", "Last-Event-ID: "+b.id).wantN(r.last(s))
	}
}

// last is the number of the event behind which the reader is.
func (r *reader) last(s *stage) int64 {
	c, err := event.ParseCursor(r.id)
	ok(s.t, err)
	return c.Next - 1
}

// TestEventsDrain tells where they stand those who are live, and those who are far
// behind, and both go on from there without hole or repeat.
func TestEventsDrain(t *testing.T) { carried(t, testEventsDrain) }

func testEventsDrain(t *testing.T) {
	s := open(t, func(c *stream.Config) {
		c.Limits.QueueEvents = 16
		c.Limits.SendBuffer = 4 << 10
		c.Limits.Linger = time.Minute
	})
	slow := s.read("")
	slow.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	live := s.read("?types=other.thing")
	const total = 6000
	for range total / 500 {
		s.publishAll(500, "rfq.created")
	}
	s.settle()
	eventually(t, "one is behind", func() bool { return s.count("sluice_stream_behind", "") == 1 })
	drained := make(chan error, 1)
	go func() { drained <- s.hub.Drain(t.Context()) }()
	if b := live.want("going_away"); b.id != s.cursor(total) || b.data != `{"cursor":"`+b.id+`"}` {
		t.Errorf("%+v", b)
	}
	live.wantEnd()
	next := int64(0)
	slow.hurry()
	for {
		b, err := slow.next()
		ok(t, err)
		if b.name == "going_away" {
			break
		}
		if b.n() != next {
			t.Fatalf("want event %d, got %+v", next, b)
		}
		next++
	}
	if next == 0 || next == total || slow.id != s.cursor(next) {
		t.Errorf("told %s at event %d", slow.id, next)
	}
	slow.wantEnd()
	ok(t, <-drained)
	if n := s.count("sluice_stream_behind", ""); n != 0 {
		t.Errorf("%v are behind", n)
	}
	r, err := s.tryRead("", "Accept: text/event-stream")
	ok(t, err)
	if b, err := r.next(); err != nil || b.retry == "" || b.id != "" {
		t.Errorf("while draining: %+v, %v", b, err)
	}
}

func TestEventsRevoked(t *testing.T) { carried(t, testEventsRevoked) }

func testEventsRevoked(t *testing.T) {
	s := open(t, nil)
	var id string
	s.token, id = s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
	r := s.read("")
	s.revoke(id)
	if b := r.want("unauthorized"); !strings.Contains(b.data, `"UNAUTHORIZED"`) {
		t.Errorf("%+v", b)
	}
	r.wantEnd()
	if r, err := s.tryRead(""); err != nil || r.resp.StatusCode != 401 {
		t.Errorf("%v, %v", r.resp, err)
	}
	s.wantCount("sluice_stream_endings_total", "revoked", 1)
}
