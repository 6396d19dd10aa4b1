package dispatcher_test

import (
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/usage"
)

// metered is a dialect whose deliveries count against a quota.
var metered = &dialect.Dialect{Name: "metered", Webhook: &dialect.Webhook{
	Schedule: schedule, DisableAfter: 5, Metered: true,
	AppendBody: testDialect.Webhook.AppendBody, AppendHeaders: testDialect.Webhook.AppendHeaders,
}}

// Of a dialect that is metered each delivery counts once, with its first attempt,
// however many there are; others don't, and neither do tests.
func TestMeteredOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.meter = usage.NewMeter(usage.MeterConfig{Log: w.log})
		w.start()
		counted := w.meter.Of("org", event.Live)
		w.do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: metered.Name, URL: "http://metered",
			Patterns: []string{"*"}, Secret: endpoint.Secret("12345678")})
		w.endpoint("http://other")
		w.set(func(r request) delivery.Outcome {
			if r.attempt == 1 && r.url == "http://metered" {
				return broken
			}
			return ok
		})
		w.publish(3)
		sleep(time.Second)
		if first := counted[usage.Metered].Load(); first == 0 || first > 3 {
			t.Errorf("%d are counted with their first attempts", first)
		}
		sleep(time.Hour)
		if got := len(w.of("http://metered")); got < 4 {
			t.Errorf("%d attempts, and none should have been the only one", got)
		}
		if m, d := counted[usage.Metered].Load(), counted[usage.Delivered].Load(); m != 3 || d != 6 {
			t.Errorf("%d are counted of 3, and %d delivered of 6", m, d)
		}
	}, metered)
}
