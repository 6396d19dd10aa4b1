package dispatcher_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/usage"
)

const freeQuota = 1000

// counting is what a process counts with.
type counting struct {
	meter  *usage.Meter
	totals *usage.Totals
	stop   func()
}

// counts has the next dispatcher count, and go by, what all do; it ends with stop.
func (w *world) counts() *counting {
	w.t.Helper()
	w.quota = new(usage.Quota)
	w.meter = usage.NewMeter(usage.MeterConfig{Log: w.log, Quota: w.quota})
	c := &counting{meter: w.meter, totals: usage.NewTotals(usage.TotalsConfig{Log: w.log, Quota: w.quota})}
	var stops []func()
	for _, run := range []func(context.Context) error{c.totals.Run, c.meter.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); run(ctx) }()
		stops = append(stops, func() { cancel(); <-done })
	}
	c.stop = func() { stops[1](); stops[0]() }
	<-c.totals.Ready()
	return c
}

// used is what is counted of an org's in a month.
func (c *counting) used(t *testing.T, org string, month time.Month) (n int64) {
	t.Helper()
	months, _, err := c.totals.Of(org)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range months {
		if m.Start.Month() == month {
			n += m.Counts[usage.Metered]
		}
	}
	return n
}

// onFree puts the world's org onto the free plan, with so much of its month used up.
func (w *world) onFree(used int) {
	w.plan("org", control.Free)
	another := usage.NewMeter(usage.MeterConfig{Log: w.log})
	another.Of("org", event.Live).Add(usage.Metered, used)
	over, end := context.WithCancel(context.Background())
	end() // it appends what was counted, and is over
	another.Run(over)
	sleep(time.Second)
}

func (w *world) plan(org string, p control.Plan) {
	w.t.Helper()
	w.do(&control.UpdateOrg{Org: org, Plan: &p})
}

// metered makes an endpoint whose deliveries count, and come one by one.
func (w *world) metered(org, url string, options endpoint.OptionsPatch) *endpoint.Endpoint {
	w.t.Helper()
	options.MaxInFlight = new(1)
	return w.do(&control.CreateEndpoint{Org: org, Environment: event.Live, Dialect: metered.Name, URL: url,
		Patterns: []string{"*"}, Secret: endpoint.Secret("12345678"), Options: options}).Endpoint
}

// turn is when the world's first month is over. Quotas are tried in its last hours.
var turn = time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)

func inQuota(t *testing.T, fn func(t *testing.T, w *world, c *counting)) {
	t.Helper()
	inWorldFrom(t, turn.Add(-3*time.Hour), func(t *testing.T, w *world) {
		c := w.counts()
		defer func() {
			if w.stop != nil {
				w.stop()
			}
			c.stop()
		}()
		fn(t, w, c)
	}, metered)
}

// wantGot fails unless an address got these events, each as often, in this order.
func (w *world) wantGot(url string, want []string) {
	w.t.Helper()
	if got := ids(w.of(url)); !slices.Equal(got, want) {
		w.t.Errorf("%s got %d of %d, or in another order: %v, not %v", url, len(got), len(want), got, want)
	}
}

// What is past the month's quota is held: exactly what is left goes out, however
// many endpoints and lanes share it. It costs no attempt and nobody else waits. When
// the month turns it goes out in order, and counts in the new one.
func TestQuotaHolds(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, c *counting) {
		w.do(&control.CreateOrg{ID: "other", Name: "other", Plan: control.Free})
		one := w.inLane(3, func() *endpoint.Endpoint { return w.metered("org", "http://one", endpoint.OptionsPatch{}) })
		two := w.inLane(4, func() *endpoint.Endpoint { return w.metered("org", "http://two", endpoint.OptionsPatch{}) })
		plain := w.endpointOf("org", "http://plain", endpoint.OptionsPatch{MaxInFlight: new(1)})
		w.metered("other", "http://other", endpoint.OptionsPatch{})
		w.start()
		w.onFree(freeQuota - 10)
		sleep(30 * time.Second) // the looks of each minute aren't at the turn
		owed := w.publish(8)
		theirs := w.publishTo("other", "k", 8)
		sleep(time.Minute)
		first := len(w.of(one.URL)) + len(w.of(two.URL))
		if first != 10 {
			t.Errorf("%d went out where 10 are left", first)
		}
		w.wantGot(plain.URL, owed)
		w.wantGot("http://other", theirs)
		owed = append(owed, w.publish(2)...) // held at once
		if n := held(w, one, two); n != 20-10 {
			t.Errorf("%d are held", n)
		}
		sleep(time.Until(turn) - time.Second)
		if n := len(w.of(one.URL)) + len(w.of(two.URL)); n != first {
			t.Errorf("%d went out before the month was over", n-first)
		}
		if n := c.used(t, "org", time.January); n != freeQuota {
			t.Errorf("%d are counted of %d", n, freeQuota)
		}
		sleep(2 * time.Second)
		w.wantGot(one.URL, owed)
		w.wantGot(two.URL, owed)
		sleep(time.Minute)
		if jan, feb := c.used(t, "org", time.January), c.used(t, "org", time.February); jan != freeQuota || feb != 10 {
			t.Errorf("%d are counted in the one month and %d in the next", jan, feb)
		}
		for _, ep := range []*endpoint.Endpoint{one, two} {
			for _, r := range w.of(ep.URL) {
				if r.attempt != 1 {
					t.Errorf("%s came as attempt %d", r.event, r.attempt)
				}
			}
			if now := w.control.Endpoint(ep.ID); now.Missed != 0 || now.Status != endpoint.Active {
				t.Errorf("it missed %d and is %s", now.Missed, now.Status)
			}
		}
	})
}

// held counts what these endpoints were ever held.
func held(w *world, eps ...*endpoint.Endpoint) (n int) {
	sleep(time.Second)
	for _, ep := range eps {
		n += len(w.deliveries(delivery.HeldTopic, ep.ID))
	}
	return n
}

// What is held goes out when the plan changes, at once and in order, to one that has
// more and to one that doesn't hold; a paid plan's goes out past its quota.
func TestQuotaPlanChanges(t *testing.T) {
	for _, to := range []control.Plan{control.Starter, control.Enterprise} {
		t.Run(string(to), func(t *testing.T) {
			inQuota(t, func(t *testing.T, w *world, c *counting) {
				ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
				w.start()
				w.onFree(freeQuota)
				owed := w.publish(100)
				sleep(time.Hour)
				w.wantGot(ep.URL, nil)
				w.plan("org", to)
				sleep(100 * time.Millisecond)
				w.wantGot(ep.URL, owed)
				w.plan("org", control.Free)
				w.publish(10)
				sleep(time.Hour)
				w.wantGot(ep.URL, owed)
			})
		})
	}
	t.Run("overage", func(t *testing.T) {
		inQuota(t, func(t *testing.T, w *world, c *counting) {
			ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
			w.start()
			w.onFree(10_000)
			w.plan("org", control.Starter)
			owed := w.publish(10)
			sleep(time.Second)
			w.wantGot(ep.URL, owed)
			sleep(time.Second)
			if n := c.used(t, "org", time.January); n != 10_010 {
				t.Errorf("%d are counted", n)
			}
		})
	})
}

// What is held for too long is missed, counted, and never attempted.
func TestQuotaExpires(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, _ *counting) {
		w.heldFor = time.Hour
		ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
		w.start()
		w.onFree(freeQuota)
		w.publish(20)
		sleep(time.Hour - time.Minute)
		if n := w.control.Endpoint(ep.ID).Missed; n != 0 {
			t.Errorf("%d are missed already", n)
		}
		sleep(3 * time.Minute)
		if n := w.control.Endpoint(ep.ID).Missed; n != 20 {
			t.Errorf("%d are missed of 20", n)
		}
		w.plan("org", control.Pro)
		sleep(time.Hour)
		w.wantGot(ep.URL, nil)
	})
}

// A delivery that was counted is tried again whatever is left, and holds up none of
// what is new when there is quota again; of an ordered endpoint, too.
func TestQuotaRetries(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered %v", ordered), func(t *testing.T) {
			inQuota(t, func(t *testing.T, w *world, c *counting) {
				ep := w.metered("org", "http://a", endpoint.OptionsPatch{Ordered: &ordered})
				w.set(func(r request) delivery.Outcome {
					if r.attempt < 3 {
						return broken
					}
					return ok
				})
				w.start()
				w.onFree(freeQuota - 1)
				owed := w.publish(4)
				sleep(10 * time.Minute)
				w.wantGot(ep.URL, []string{owed[0], owed[0], owed[0]})
				w.set(nil)
				w.plan("org", control.Starter)
				sleep(time.Minute)
				w.wantGot(ep.URL, append([]string{owed[0], owed[0]}, owed...))
				sleep(time.Second)
				if n := c.used(t, "org", time.January); n != freeQuota+3 {
					t.Errorf("%d are counted", n)
				}
			})
		})
	}
}

// A replay's deliveries count, and wait for quota as others do, keeping nothing in
// memory; what is held goes before them. A test counts for nothing, and goes; what a
// person asks for goes if it was counted.
func TestQuotaAskedFor(t *testing.T) {
	inQuota(t, func(t *testing.T, w *world, c *counting) {
		ep := w.metered("org", "http://a", endpoint.OptionsPatch{})
		w.start()
		w.onFree(freeQuota - 4)
		owed := w.publish(3)
		sleep(time.Second)
		w.replay(ep) // of which one may go
		sleep(time.Second)
		w.wantGot(ep.URL, append(slices.Clone(owed), owed[0]))
		owed = append(owed, w.publish(2)...)
		sleep(time.Second)
		w.forget()
		made := w.attempts(ep.ID)[0]
		w.byHand(ep, &delivery.Delivery{ID: made.Delivery, Event: event.Event{ID: made.EventID, Environment: event.Live, Type: made.Type}, Attempts: 1})
		sleep(time.Second)
		w.wantGot(ep.URL, owed[:1])
		uncounted := w.deliveries(delivery.HeldTopic, ep.ID)[0]
		w.byHand(ep, uncounted)
		sleep(time.Hour)
		w.wantGot(ep.URL, owed[:1])
		if n := c.used(t, "org", time.January); n != freeQuota {
			t.Errorf("%d are counted", n)
		}
		w.forget()
		w.plan("org", control.Pro)
		sleep(time.Minute)
		w.wantGot(ep.URL, append(owed[3:5:5], owed[1:3]...))
	})
}
