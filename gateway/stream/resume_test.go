package stream_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/tetrafi"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/replay"
)

func TestResume(t *testing.T) { carried(t, testResume) }

func testResume(t *testing.T) {
	s := open(t, nil)
	resume := func(c *client, cursor string) {
		c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + cursor + `"}`)
	}
	for range 10 {
		s.publish("rfq.created")
		s.publish("quote.received")
	}
	s.settle()
	c := s.join(`"quote.*"`)
	resume(c, s.cursor(10))
	if m := c.want("subscribe.ok"); m.Cursor != s.cursor(10) {
		t.Errorf("the stream stands at %s", m.text)
	}
	c.wantN(10, 12, 14, 16, 18)
	s.publish("rfq.created")
	s.publish("quote.received")
	c.wantN(20, 21)

	t.Run("what an earlier pair covers isn't sent again", func(t *testing.T) {
		c.say(`{"type":"subscribe","channels":["*"],"cursor":"` + s.cursor(14) + `"}`)
		c.want("subscribe.ok")
		c.wantN(15, 17, 19) // the rfqs from 10 on were replayed, and 21 came live
		c.silentlyOpen()
	})
	t.Run("the same pair from further back", func(t *testing.T) {
		resume(c, s.cursor(5))
		c.want("subscribe.ok")
		c.wantN(6, 8)
		resume(c, s.cursor(5))
		c.want("subscribe.ok")
		c.silentlyOpen()
	})
	t.Run("after unsubscribe", func(t *testing.T) {
		c.say(`{"type":"unsubscribe","channels":["*","rfq.*"]}`)
		c.want("unsubscribe.ok")
		s.publish("rfq.created") // 22
		s.settle()
		resume(c, s.cursor(18))
		c.want("subscribe.ok")
		c.wantN(18, 20, 22)
	})
	t.Run("from the very end", func(t *testing.T) {
		d := s.dial()
		d.say(`{"type":"auth","token":"` + s.token + `"}`)
		d.want("auth.ok")
		resume(d, s.cursor(23))
		d.want("subscribe.ok")
		s.publish("rfq.created")
		d.wantN(23)
	})
}

func TestResumeTruncated(t *testing.T) { carried(t, testResumeTruncated) }

func testResumeTruncated(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"other.thing"`)
	s.publishAll(1500, "rfq.created")
	s.publish("other.thing")
	c.wantN(1500) // so its shard has seen the others
	c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(1) + `"}`)
	c.want("subscribe.ok")
	c.wantText(`{"type":"replay.truncated","missed":1399,"cursor":"` + s.cursor(1) + `"}`)
	for n := int64(1400); n < 1500; n++ {
		c.wantN(n)
	}
	// Truncated isn't covered: what was missed may be asked for.
	c.say(`{"type":"unsubscribe","channels":["other.thing"]}`)
	c.want("unsubscribe.ok")
	c.say(`{"type":"subscribe","channels":["*"],"cursor":"` + s.cursor(1398) + `"}`)
	c.want("subscribe.ok")
	c.wantN(1398, 1399, 1500)
	c.silentlyOpen()
	s.wantCount("sluice_stream_replays_total", "truncated", 1)
	s.wantCount("sluice_stream_replays_total", "whole", 1)
}

// TestCrowdResumes: clients that come back at once, with cursors near one another
// and older than the window, each get what they missed; the log is read and frames
// are encoded for about one of them.
func TestCrowdResumes(t *testing.T) { carried(t, testCrowdResumes) }

func testCrowdResumes(t *testing.T) {
	const crowd, missed = 120, 90
	var encoded atomic.Int64
	var log *countedLog
	s := open(t, func(c *stream.Config) {
		counting := *tetrafi.Dialect.Stream
		counting.AppendEvent = func(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
			encoded.Add(1)
			return tetrafi.Dialect.Stream.AppendEvent(dst, ev, cursor)
		}
		log = &countedLog{Reader: c.Log}
		c.Past[event.Sandbox] = replay.New(replay.Config{Log: log, Environment: event.Sandbox, Incarnation: c.Incarnation, Window: c.Windows[event.Sandbox]})
		c.Streams = []*dialect.Stream{&counting}
	})
	for range crowd / 2 {
		s.publish("quote.received") // where the cursors are
	}
	s.publishAll(missed, "rfq.created")
	s.publishAll(1000, "quote.received")
	s.settle()
	var clients sync.WaitGroup
	for i := range crowd {
		clients.Go(func() {
			c, err := s.tryDial(nil)
			if err != nil {
				t.Error(err)
				return
			}
			c.say(`{"type":"auth","token":"` + s.token + `"}`)
			c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(int64(i/2)) + `"}`)
			for n := int64(-2); n < missed; n++ {
				m, err := c.hear()
				if err != nil || n >= 0 && (m.N == nil || *m.N != crowd/2+n) {
					t.Errorf("client %d wants %d, and got %s %v", i, n, m.text, err)
					return
				}
			}
		})
	}
	clients.Wait()
	if n := log.reads.Load(); n > 4*4 {
		t.Errorf("the log was read %d times", n)
	}
	if n := encoded.Load(); n > 8*missed {
		t.Errorf("%d frames were encoded", n)
	}
	eventually(t, "all are counted", func() bool {
		return s.count("sluice_stream_replays_total", "whole") == crowd && s.count("sluice_stream_replays_waiting", "") == 0
	})
}

// countedLog counts what is read of the past.
type countedLog struct {
	eventlog.Reader
	reads atomic.Int64
}

func (l *countedLog) Read(ctx context.Context, p eventlog.Partition, from int64, bytes int) ([]eventlog.Record, error) {
	l.reads.Add(1)
	return l.Reader.Read(ctx, p, from, bytes)
}

func TestBadCursors(t *testing.T) { carried(t, testBadCursors) }

func testBadCursors(t *testing.T) {
	s := open(t, nil)
	s.publishAll(5, "rfq.created")
	s.settle()
	other := event.Cursor{Incarnation: event.Incarnation{1}, Environment: event.Sandbox, Next: 1}.String()
	foreign := event.Cursor{Incarnation: s.control.Incarnation(), Environment: event.Live}.String()
	for _, tt := range []struct{ name, cursor, code string }{
		{"garbage", "nonsense", "invalid_cursor"},
		{"another environment", foreign, "invalid_cursor"},
		{"past the end", s.cursor(99), "invalid_cursor"},
		{"another life of the log", other, "cursor_expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.settle()
			c := s.join(`"quote.*"`)
			c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + tt.cursor + `"}`)
			c.want("subscribe.ok")
			c.wantError(tt.code)
			n := s.publish("rfq.created")
			s.publish("quote.received")
			c.wantN(n, n+1)
		})
	}
}

// TestResumeSources: what a resume costs is seen from where its events are.
func TestResumeSources(t *testing.T) { carried(t, testResumeSources) }

func testResumeSources(t *testing.T) {
	s := open(t, nil)
	s.publishAll(300, "rfq.created") // the window has 256
	s.settle()
	c := s.join(`"other.thing"`)
	for _, next := range []int64{0, 43, 44, 299, 300} {
		c.say(`{"type":"subscribe","channels":["other.thing"],"cursor":"` + s.cursor(next) + `"}`)
		c.want("subscribe.ok")
	}
	c.silentlyOpen()
	for source, want := range map[string]float64{"log": 2, "window": 2, "none": 1} {
		s.wantCount("sluice_stream_resumes_total", source, want)
	}
}

// TestSplice has clients connect, break off at random and resume by their
// cursors while events are logged all the time: together, what each received is
// every event, once, in order.
func TestSplice(t *testing.T) { carried(t, testSplice) }

func testSplice(t *testing.T) {
	s := open(t, func(c *stream.Config) {
		c.Limits.QueueEvents = 1 << 16
		c.Limits.QueueBytes = 64 << 20
		c.Limits.Replay = 1 << 16
	})
	clients, total := 6, 4000
	if testing.Short() {
		total = 1500
	}
	var wg sync.WaitGroup
	start := s.publish("rfq.created")
	for i := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			next, cursor, rounds := start, s.cursor(start), 0
			for next < int64(total) && !t.Failed() {
				rounds++
				c, err := s.tryDial(nil)
				if err != nil {
					t.Error(err)
					return
				}
				c.say(`{"type":"auth","token":"` + s.token + `"}`)
				c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + cursor + `"}`)
				for left := 1 + rnd.IntN(400); left > 0 && next < int64(total); left-- {
					m, err := c.hear()
					if err != nil {
						t.Errorf("client %d at %d: %v", i, next, err)
						return
					}
					switch {
					case m.N == nil && (m.Type == "auth.ok" || m.Type == "subscribe.ok"):
						continue
					case m.N == nil || *m.N != next:
						t.Errorf("client %d: want %d, got %s", i, next, m.text)
						return
					}
					next, cursor = next+1, m.Cursor
				}
				if rnd.IntN(2) == 0 {
					c.ws.CloseNow()
				} else {
					go c.ws.Close(1000, "")
				}
			}
			t.Logf("client %d: %d connections", i, rounds)
		})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < total; {
		k := min(1+rnd.IntN(20), total-n)
		s.publishAll(k, "rfq.created")
		n += k
		time.Sleep(time.Duration(rnd.IntN(2)) * time.Millisecond)
	}
	wg.Wait()
}

// TestSubscribeBehindAppend subscribes right behind an append, with a cursor
// before it: whether the tail has read the event yet or not, it comes once.
func TestSubscribeBehindAppend(t *testing.T) { carried(t, testSubscribeBehindAppend) }

func testSubscribeBehindAppend(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Rate = 1e6 })
	c := s.join(`"nothing.here"`)
	for range 300 {
		n := s.publish("rfq.created")
		c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(n) + `"}`)
		c.want("subscribe.ok")
		c.wantN(n)
		c.say(`{"type":"unsubscribe","channels":["rfq.*"]}`)
		c.want("unsubscribe.ok")
	}
	c.silentlyOpen()
}

// TestCursorAhead resumes from a place that the log has and this node's tail
// hasn't read: what is before it isn't sent.
func TestCursorAhead(t *testing.T) { carried(t, testCursorAhead) }

func testCursorAhead(t *testing.T) {
	reads := make(chan struct{})
	s := open(t, func(c *stream.Config) { c.Log = later{c.Log, reads} })
	n := s.publishAll(3, "rfq.created")
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.token + `"}`)
	c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(n+2) + `"}`)
	c.want("auth.ok")
	c.want("subscribe.ok")
	close(reads)
	c.wantN(n + 2)
	n = s.publish("rfq.created")
	c.wantN(n)
}
