package dispatcher_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog/eventlogtest"
)

// Dispatchers come and go all the time, on brokers. Every event comes to every
// endpoint while they do; what comes twice was in flight when a lane moved.
func TestStorm(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		w := &world{t: t, receivers: &receivers{}, speaks: []*dialect.Dialect{testDialect}, log: eventlogtest.Kafka(t, topics()...), keeps: true}
		sealer, err := control.NewSealer(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		w.control, err = control.Open(t.Context(), control.Config{Log: w.log, Sealer: sealer, Lanes: delivery.Lanes})
		if err != nil {
			t.Fatal(err)
		}
		defer w.control.Close()
		w.do(&control.CreateOrg{ID: "org", Name: "org", Plan: control.Enterprise})
		eps := make(map[int32]*endpoint.Endpoint) // one in each lane
		for i := 0; len(eps) < delivery.Lanes; i++ {
			ep := w.endpoint(fmt.Sprintf("http://%d", i))
			if eps[delivery.Lane(ep.ID)] != nil {
				w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
				continue
			}
			eps[delivery.Lane(ep.ID)] = ep
		}
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = 5 * time.Millisecond
			return o
		})

		var stops []func()
		defer func() {
			for _, stop := range stops {
				stop()
			}
		}()
		const changes = 9
		var owed []string
		for i := range changes {
			if i%3 < 2 {
				_, stop := w.run(eventlogtest.Kafka(t, topics()...), w.receivers)
				stops = append(stops, stop)
			} else { // the oldest of three, or two
				stops[0]()
				stops = stops[1:]
			}
			// Each lane goes on with what is published from now on.
			var now []string
			moves := func(ep *endpoint.Endpoint) bool {
				return slices.ContainsFunc(w.of(ep.URL), func(r request) bool { return slices.Contains(now, r.event) })
			}
			rest := maps.Clone(eps)
			for end := time.Now().Add(time.Minute); len(rest) > 0; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("a minute after change %d lanes %v stand still", i, slices.Sorted(maps.Keys(rest)))
				}
				now = append(now, w.publish(1)...)
				maps.DeleteFunc(rest, func(_ int32, ep *endpoint.Endpoint) bool { return moves(ep) })
			}
			owed = append(owed, now...)
		}
		all := func() bool {
			for _, ep := range eps {
				if len(missing(ids(w.of(ep.URL)), owed)) > 0 {
					return false
				}
			}
			return true
		}
		for end := time.Now().Add(time.Minute); !all() && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		}
		doubles := 0
		for lane, ep := range eps {
			got := ids(w.of(ep.URL))
			if left := missing(got, owed); len(left) > 0 {
				t.Errorf("lane %d lost %d of %d: %v", lane, len(left), len(owed), left)
			}
			slices.Sort(got)
			doubles += len(got) - len(slices.Compact(got))
			if doubles > 32*changes {
				t.Errorf("lane %d: %d came twice", lane, doubles)
			}
		}
		t.Logf("%d events to %d endpoints, %d came twice", len(owed), len(eps), doubles)
	})
}
