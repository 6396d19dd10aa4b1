package dispatcher_test

import (
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// What becomes of an endpoint between two attempts counts for the next: paused, it
// waits and goes where the endpoint is then; deleted, it is dropped and no dead
// letter; and all of it although no dispatcher ran when it was said.
func TestEndpointChangesWhileRetried(t *testing.T) {
	for name, away := range map[string]bool{"running": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.start()
				paused, deleted, disabled := w.endpoint("http://paused"), w.endpoint("http://deleted"), w.endpoint("http://disabled")
				w.set(func(r request) delivery.Outcome {
					if r.url == "http://new" || r.url == "http://disabled" && r.attempt > 1 {
						return ok
					}
					return broken
				})
				want := w.publish(3)
				sleep(time.Second)
				if away {
					w.stop()
				}
				no, yes, elsewhere := endpoint.Paused, endpoint.Active, "http://new"
				w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &no})
				w.do(&control.DeleteEndpoint{Endpoint: deleted.ID})
				w.do(&control.DisableEndpoint{Endpoint: disabled.ID, Epoch: disabled.Epoch, Reason: "of the test"})
				if away {
					w.start()
				}
				sleep(2 * time.Hour)
				for _, url := range []string{"http://paused", "http://deleted", "http://disabled"} {
					if n := len(w.of(url)); n != 3 {
						t.Errorf("%s got %d requests, want the first three attempts only", url, n)
					}
				}
				w.do(&control.UpdateEndpoint{Endpoint: paused.ID, URL: &elsewhere})
				w.do(&control.UpdateEndpoint{Endpoint: paused.ID, Status: &yes})
				w.do(&control.EnableEndpoint{Endpoint: disabled.ID})
				sleep(2 * time.Hour)
				w.stop()
				if got := ids(w.of("http://new")); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
					t.Errorf("the new address got %v, want %v", got, want)
				}
				if got := ids(w.of("http://disabled")[3:]); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
					t.Errorf("the enabled one got %v, want %v", got, want)
				}
				if n := len(w.of("http://deleted")); n != 3 {
					t.Errorf("the deleted one got %d requests", n)
				}
				for _, ep := range []*endpoint.Endpoint{paused, deleted, disabled} {
					if n := len(w.deliveries("dead", ep.ID)); n != 0 {
						t.Errorf("%s has %d dead letters", ep.URL, n)
					}
				}
			})
		})
	}
}
