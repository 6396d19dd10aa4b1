package stream_test

import (
	"context"
	"testing"

	"sluice/gateway/stream"
	"sluice/pkg/eventlog"
)

// later is a log whose tails give nothing before reads is closed, so that a node stays
// behind.
type later struct {
	eventlog.Reader
	reads chan struct{}
}

func (l later) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	tail, err := l.Reader.Tail(ctx, p, from)
	return laterTail{tail, l.reads}, err
}

type laterTail struct {
	eventlog.Tail
	reads chan struct{}
}

func (t laterTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	select {
	case <-t.reads:
		return t.Tail.Next(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestGoingAwayAhead: who came from a node that had read more isn't sent back by one
// that stops before it has caught up; nor on, past what another subscription of theirs
// was still to get.
func TestGoingAwayAhead(t *testing.T) { carried(t, testGoingAwayAhead) }

func testGoingAwayAhead(t *testing.T) {
	s := open(t, func(cfg *stream.Config) { cfg.Log = later{cfg.Log, nil} })
	n := s.publishAll(3, "rfq.created")
	come := func() *client {
		c := s.dial()
		c.say(`{"type":"auth","token":"` + s.token + `"}`)
		c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(n+2) + `"}`)
		c.want("auth.ok")
		c.want("subscribe.ok")
		return c
	}
	alone, beside := come(), come()
	beside.say(`{"type":"subscribe","channels":["quote.*"]}`)
	beside.want("subscribe.ok")

	drained := make(chan error)
	go func() { drained <- s.hub.Drain(t.Context()) }()
	if m := alone.want("going_away"); m.Cursor != s.cursor(n+2) {
		t.Errorf("%s; want the cursor %s", m.text, s.cursor(n+2))
	}
	if m := beside.want("going_away"); m.Cursor != s.cursor(n) {
		t.Errorf("beside another: %s; want the cursor %s", m.text, s.cursor(n))
	}
	alone.wantClose(1012)
	beside.wantClose(1012)
	ok(t, <-drained)
}
