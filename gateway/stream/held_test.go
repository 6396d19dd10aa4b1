package stream_test

import (
	"context"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/replay"
)

// held is a log in which nothing old is read until its gate is opened.
type held struct {
	eventlog.Reader
	gate chan struct{}
}

func (h held) Read(ctx context.Context, p eventlog.Partition, from int64, bytes int) ([]eventlog.Record, error) {
	select {
	case <-h.gate:
		return h.Reader.Read(ctx, p, from, bytes)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestEventsHeldUp: who waits for the past is told that we are there, and goes when it
// wants.
func TestEventsHeldUp(t *testing.T) { carried(t, testEventsHeldUp) }

func testEventsHeldUp(t *testing.T) {
	gate := make(chan struct{})
	s := open(t, func(c *stream.Config) {
		c.Limits.Heartbeat, c.Limits.ReplayWithin = 50*time.Millisecond, time.Hour
		c.Past[event.Sandbox] = replay.New(replay.Config{Log: held{c.Log, gate}, Environment: event.Sandbox, Incarnation: c.Incarnation, Window: c.Windows[event.Sandbox]})
	})
	s.publishAll(1000, "rfq.created")
	s.settle()
	waits, leaves := s.read("?lastEventId="+s.cursor(0)), s.read("?lastEventId="+s.cursor(0))
	for range 3 {
		for _, r := range []*reader{waits, leaves} {
			if b, err := r.block(); err != nil || b != (sent{id: s.cursor(0), comment: "heartbeat"}) {
				t.Fatalf("%+v, %v", b, err)
			}
		}
	}
	leaves.nc.Close()
	eventually(t, "one is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 1 })
	close(gate)
	waits.wantN(upTo(1000)...)
}

// TestReplayHeldUp: whose replay waits for the past is pinged, and has its own pings
// answered; then it has what it missed, and what came meanwhile behind that.
func TestReplayHeldUp(t *testing.T) { carried(t, testReplayHeldUp) }

func testReplayHeldUp(t *testing.T) {
	gate := make(chan struct{})
	s := open(t, func(c *stream.Config) {
		c.Limits.Ping, c.Limits.ReplayWithin = 50*time.Millisecond, time.Hour
		c.Past[event.Sandbox] = replay.New(replay.Config{Log: held{c.Log, gate}, Environment: event.Sandbox, Incarnation: c.Incarnation, Window: c.Windows[event.Sandbox]})
	})
	s.publishAll(10, "rfq.created")
	s.publishAll(1000, "rfq.closed") // which the window is full of
	s.settle()
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.token + `"}`)
	c.want("auth.ok")
	c.say(`{"type":"subscribe","channels":["rfq.created"],"cursor":"` + s.cursor(0) + `"}`)
	heard := func() (m message) {
		for m.Type = "ping"; m.Type == "ping"; {
			var err error
			if m, err = c.hear(); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	if m := heard(); m.Type != "subscribe.ok" {
		t.Fatal(m.text)
	}
	live := s.publish("rfq.created")
	for range 3 {
		pinged := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			pinged <- c.ws.Ping(ctx)
		}()
		c.want("ping")
		c.say(`{"type":"ping"}`)
		if m := heard(); m.Type != "pong" {
			t.Fatal(m.text)
		}
		for answered := false; !answered; {
			select {
			case err := <-pinged:
				ok(t, err)
				answered = true
			default:
				c.want("ping") // and with it, or with one of the next, what it waits for
			}
		}
	}
	close(gate)
	for _, n := range append(upTo(10), live) {
		if m := heard(); m.N == nil || *m.N != n {
			t.Fatalf("want event %d, got %s", n, m.text)
		}
	}
}
