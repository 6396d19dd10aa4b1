package dispatcher_test

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

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

// signedWith lists the secrets that the request is signed with.
func (r *request) signedWith(t *testing.T, secrets ...string) (good []string) {
	t.Helper()
	h := http.Header{}
	h.Set("webhook-id", r.event)
	h.Set("webhook-timestamp", strconv.FormatInt(r.at.Unix(), 10))
	h.Set("webhook-signature", r.signature)
	for _, s := range secrets {
		verifier, err := standardwebhooks.NewWebhookRaw([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		if verifier.VerifyIgnoringTimestamp([]byte(r.body), h) == nil {
			good = append(good, s)
		}
	}
	return good
}

// Each attempt is made with the secrets, headers and options of its moment; what is
// owed already is owed whatever the filter says since.
func TestOptionsChangeWhileRetried(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://hook")
		w.set(func(r request) delivery.Outcome {
			if r.attempt > 3 {
				return ok
			}
			return broken
		})
		rotate := func(to string, overlap time.Duration) {
			w.do(&control.RotateSecret{Endpoint: ep.ID, NewSecret: control.NewSecret{Secret: endpoint.Secret(to), Overlap: int64(overlap / time.Second)}})
		}
		headers := func(team string) endpoint.OptionsPatch {
			return endpoint.OptionsPatch{Headers: &[]endpoint.Header{{Name: "X-Team", Value: team}}}
		}
		w.publish(1)
		sleep(time.Second)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: headers("blue")})
		rotate("the second", 10*time.Minute)
		sleep(15 * time.Second) // the attempt after 5 s
		nothing := `{"a":{"exists":false}}`
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{Filter: &nothing}})
		rotate("the third", 0)
		sleep(time.Minute) // that after 30 s
		rotate("the fourth", time.Minute)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: headers("red")})
		sleep(10 * time.Minute) // that after 5 min: the overlap is over
		w.publish(1)            // which the filter doesn't want
		sleep(time.Minute)
		w.stop()

		got := w.of("http://hook")
		want := []struct {
			signed []string
			team   string
		}{
			{[]string{"12345678"}, ""},
			{[]string{"12345678", "the second"}, "blue"},
			{[]string{"the third"}, "blue"},
			{[]string{"the fourth"}, "red"},
		}
		if len(got) != len(want) {
			t.Fatalf("%d requests came, not %d", len(got), len(want))
		}
		for i, r := range got {
			if good := r.signedWith(t, "12345678", "the second", "the third", "the fourth"); !slices.Equal(good, want[i].signed) || r.team != want[i].team {
				t.Errorf("attempt %d is signed with %q, for team %q: want %+v", i+1, good, r.team, want[i])
			}
		}
	})
}
