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
