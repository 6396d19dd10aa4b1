package dispatcher_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// crawling is a log from which commands come late.
type crawling struct{ eventlog.Log }

func (l crawling) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	tail, err := l.Log.Tail(ctx, p, from)
	if p.Topic != control.Topic.Name || err != nil {
		return tail, err
	}
	return crawlingTail{tail}, nil
}

type crawlingTail struct{ eventlog.Tail }

func (t crawlingTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	time.Sleep(time.Second)
	return records, err
}

// An endpoint that was made on another node just before an event gets it, though the
// dispatcher's node hears of it a second later.
func TestEndpointOfAnotherNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		there := w.control
		sealer, err := control.NewSealer(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		here, err := control.Open(t.Context(), control.Config{Log: crawling{w.log}, Sealer: sealer, Lanes: delivery.Lanes})
		if err != nil {
			t.Fatal(err)
		}
		defer here.Close()
		w.control = here
		w.start()
		w.control = there
		defer w.stop()
		w.endpoint("http://a")
		owed := w.publish(1)
		sleep(time.Minute)
		if got := ids(w.of("http://a")); !slices.Equal(got, owed) {
			t.Errorf("it got %v, want %v", got, owed)
		}
	})
}
