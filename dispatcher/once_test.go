package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// An event that many are owed has its data once in the log, and all of them get it.
// What fails carries it from then on: its event may be gone before it is delivered.
func TestDataOnceInTheLog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.keeps = true
		w.start()
		const many = 8
		first := w.endpoint("http://a/0")
		for i := 1; i < many; i++ {
			w.endpoint(fmt.Sprintf("http://a/%d", i))
		}
		w.set(func(r request) delivery.Outcome {
			if r.url == "http://a/0" && r.attempt == 1 {
				return broken
			}
			return ok
		})
		small, large := w.publishAs("test.event", 1, 100), w.publishAs("test.event", 1, 1000)
		sleep(3 * time.Second)
		for i, d := range w.deliveries(delivery.Tier(0), first.ID) {
			if once := d.Event.ID == large[0]; d.Reference != once || (len(d.Event.Data) > 0) == once {
				t.Errorf("delivery %d is by reference: %v, with %d bytes of data", i, d.Reference, len(d.Event.Data))
			}
		}
		retries := w.deliveries(delivery.Tier(schedule[1]), first.ID)
		if len(retries) != 2 {
			t.Fatalf("%d retries, want 2", len(retries))
		}
		for _, d := range retries {
			if d.Reference || len(d.Event.Data) < 100 {
				t.Errorf("the retry of %s is by reference: %v, with %d bytes of data", d.Event.ID, d.Reference, len(d.Event.Data))
			}
		}
		sleep(time.Minute)
		for i := range many {
			got := w.of(fmt.Sprintf("http://a/%d", i))
			if want := 2; i > 0 && len(got) != want || i == 0 && len(got) != 2*want {
				t.Errorf("endpoint %d got %d requests", i, len(got))
			}
			for _, r := range got {
				size := 100
				if r.event != small[0] {
					size = 1000
				}
				if !strings.Contains(r.body, strings.Repeat("x", size)) {
					t.Errorf("endpoint %d got %d bytes of %s", i, len(r.body), r.event)
				}
			}
		}
	})
}
