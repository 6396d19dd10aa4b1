package manage_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/manage"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

// What an org used is told for both environments together, and nobody else's.
func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t)
		log := eventlogtest.Mem(t, usage.Topic)
		meter, totals := usage.NewMeter(usage.MeterConfig{Log: log}), usage.NewTotals(usage.TotalsConfig{Log: log})
		core := manage.NewCore(w.control, w.log, checkURL, dialects, totals)
		_, err := core.Usage(t.Context(), owner)
		wantError(t, err, 503, dialect.Unavailable)

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { totals.Run(ctx); close(done) }()
		defer func() { stop(); <-done }()
		count := func(org string, env event.Environment, requests, deliveries int) {
			meter.Of(org, env).Add(usage.Requests, requests)
			meter.Of(org, env).Add(usage.Metered, deliveries)
			meter.Of(org, env).Add(usage.Attempts, 1000)
			over, end := context.WithCancel(t.Context())
			end() // it appends what was counted, and is over
			meter.Run(over)
			time.Sleep(time.Second)
		}
		count("org_a", event.Sandbox, 2, 20)
		count("org_a", event.Live, 3, 30)
		count("org_b", event.Live, 4, 40)
		used, err := core.Usage(t.Context(), ownerLive)
		if err != nil {
			t.Fatal(err)
		}
		today := time.Now().UTC().Truncate(24 * time.Hour) // the first of a month: bubbles begin there
		want := dialect.UsedIn{Start: today, Requests: 5, Deliveries: 50}
		if len(used.Days) != 1 || used.Days[0] != want || used.Month != want || used.Since != today.AddDate(0, 0, -39) {
			t.Errorf("used %+v, want %+v", used, want)
		}
	})
}

func TestCountEndpoints(t *testing.T) {
	w := openWorld(t)
	for i, p := range []*struct {
		org, dialect string
		env          event.Environment
	}{{"org_a", "d", event.Sandbox}, {"org_a", "d", event.Live}, {"org_a", "silent", event.Live}, {"org_b", "d", event.Live}} {
		s := spec()
		s.Dialect = p.dialect
		ep, err := w.core.CreateEndpoint(t.Context(), principal(p.org, p.env), s)
		if err != nil {
			t.Fatal(err)
		}
		if paused := endpoint.Paused; i == 0 {
			if _, err := w.control.Do(t.Context(), &control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if all, active := w.core.CountEndpoints(owner, "d"); all != 2 || active != 1 {
		t.Errorf("%d endpoints, %d active; want 2 and 1", all, active)
	}
}
