package dispatcher_test

import (
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// A machine's clock is a day ahead when its dispatcher starts, and is put right. The
// next owner doesn't take failures for some that are still to come: who has recovered
// gets what is new at once.
func TestFailedTomorrow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		tomorrow := func() time.Time { return time.Now().Add(24 * time.Hour) }
		w.wall = tomorrow
		w.start()
		w.set(func(request) delivery.Outcome {
			o := broken
			o.Started = tomorrow()
			return o
		})
		w.publish(1)
		sleep(10 * time.Second)
		w.stop()
		w.wall = nil
		w.set(nil)
		w.start()
		sleep(5 * time.Minute)
		began := time.Now()
		owed := w.publish(2)
		sleep(time.Hour)
		if late := w.latest(ep.URL, began, owed); late > time.Second {
			t.Errorf("what is new came after %v", late)
		}
	})
}
