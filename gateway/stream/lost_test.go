package stream_test

import (
	"context"
	"sync/atomic"
	"testing"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// losing is a log whose tails say, once, that what they had yet to read is gone.
type losing struct {
	eventlog.Reader
	lose atomic.Bool
}

func (l *losing) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	t, err := l.Reader.Tail(ctx, p, from)
	return &losingTail{t, l}, err
}

type losingTail struct {
	eventlog.Tail
	log *losing
}

func (t *losingTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	if err == nil && t.log.lose.CompareAndSwap(true, false) {
		return nil, eventlog.ErrTooOld
	}
	return records, err
}

// TestPlaceLost: when the log gives up what a tail had yet to read, no stream goes
// on as if nothing were missing: each is closed, and its client finds by its cursor
// what the log still has, or is told that it hasn't.
func TestPlaceLost(t *testing.T) { carried(t, testPlaceLost) }

func testPlaceLost(t *testing.T) {
	log := new(losing)
	s := open(t, func(c *stream.Config) {
		log.Reader = c.Log
		c.Log = log
	})
	resume := func(cursor string) *client {
		c := s.dial()
		c.say(`{"type":"auth","token":"` + s.token + `"}`)
		c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + cursor + `"}`)
		c.want("auth.ok")
		c.want("subscribe.ok")
		return c
	}
	c := s.join(`"rfq.*"`)
	const rounds = 10
	for range rounds {
		n := s.publish("rfq.created")
		cursor := c.wantN(n).Cursor
		log.lose.Store(true)
		s.publishAll(3, "rfq.created")
		c.wantClose(1012)
		c = resume(cursor) // at once
		c.wantN(n+1, n+2, n+3)
	}
	s.wantCount("sluice_stream_endings_total", "log_lost", rounds)
	n := s.publish("rfq.created")
	c.wantN(n)
}

// TestRetentionPasses: a cursor whose events retention has taken is said to have
// expired, and its stream goes on live.
func TestRetentionPasses(t *testing.T) { carried(t, testRetentionPasses) }

func testRetentionPasses(t *testing.T) {
	s := open(t, nil)
	s.publishAll(5, "rfq.created")
	s.settle()
	ok(t, s.log.Trim(t.Context(), eventlog.Partition{Topic: event.Sandbox.Topic()}, 3))
	c := s.join(`"other.thing"`)
	c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(2) + `"}`)
	c.want("subscribe.ok")
	c.wantError("cursor_expired")
	n := s.publish("rfq.created")
	c.wantN(n)
	d := s.join(`"other.thing"`)
	d.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(3) + `"}`)
	d.want("subscribe.ok")
	d.wantN(3, 4, n)
	s.wantCount("sluice_stream_replays_total", "expired", 1)
}
