package dispatcher_test

import (
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// While this process can't make attempts, they wait for it: nobody's failure is
// counted, no attempt is used up, and no lane stops for it.
func TestNotMade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome { return notMade })
		w.publish(3)
		sleep(2 * time.Hour)
		if err := w.healthy(); err != nil {
			t.Errorf("a lane stopped: %v", err)
		}
		w.set(nil)
		sleep(time.Minute)
		got := w.of("http://a")
		if len(got) < 3*2*60*60/30 {
			t.Errorf("only %d tries in two hours", len(got))
		}
		delivered := make(map[string]bool)
		for _, r := range got {
			if r.attempt != 1 {
				t.Fatalf("%+v is another attempt", r)
			}
			if !r.ended.IsZero() {
				delivered[r.event] = true
			}
		}
		if len(delivered) != 3 || w.status(ep.ID) != endpoint.Active {
			t.Errorf("%v delivered, the endpoint is %s", delivered, w.status(ep.ID))
		}
	})
}
