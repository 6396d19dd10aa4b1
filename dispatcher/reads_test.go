package dispatcher_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// countedHeld counts the records that are read of what is held.
type countedHeld struct {
	eventlog.Log
	read *atomic.Int64
}

func (l countedHeld) Read(ctx context.Context, p eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	records, err := l.Log.Read(ctx, p, from, most)
	if p.Topic == "held" {
		l.read.Add(int64(len(records)))
	}
	return records, err
}

// An endpoint is owed much more than fits into memory. What is read for it is sent to
// it, and not read again for each of the next few.
func TestHeldIsReadOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return takes(10 * time.Millisecond) })
		var read atomic.Int64
		w.startOn(countedHeld{w.log, &read}, true)
		owed := w.publish(20_000)
		sleep(time.Minute)
		if left := missing(ids(w.of("http://a")), owed); len(left) > 0 {
			t.Fatalf("%d never came", len(left))
		}
		if n := read.Load(); n < 10_000 || n > 100_000 {
			t.Errorf("%d records of held were read, for 20,000 events", n)
		}
	})
}
