package control_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// crawling is a log that is read slowly.
type crawling struct{ eventlog.Log }

func (l crawling) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	tail, err := l.Log.Tail(ctx, p, from)
	return crawlingTail{tail}, err
}

type crawlingTail struct{ eventlog.Tail }

func (t crawlingTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	time.Sleep(10 * time.Second)
	return t.Tail.Next(ctx)
}

// A node that starts has everything that was in the log before anybody can ask it:
// else there would be no endpoints, and nothing to fan out.
func TestNothingIsAskedOfAnEmptyState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		a := open(t, log)
		history(t, a)
		tok := string(key.New(event.Sandbox))
		do(t, a, &control.CreateKey{Org: "org_a", Environment: event.Sandbox, Scopes: key.Scopes, Hash: key.Hash(tok)})
		begun := time.Now()
		b := open(t, crawling{log})
		if took := time.Since(begun); took < 10*time.Second || b.Applied() < a.Applied() {
			t.Errorf("open after %s, with %d of %d commands", took, b.Applied()+1, a.Applied()+1)
		}
		ev := &event.Event{Type: "rfq.created", Environment: event.Sandbox, Audience: event.Audience{All: true}, Offset: 1}
		if got, want := len(b.Matching(ev)), len(a.Matching(ev)); got != want || want == 0 {
			t.Errorf("%d endpoints match, not %d", got, want)
		}
		a.Close()
		b.Close()
	})
}
