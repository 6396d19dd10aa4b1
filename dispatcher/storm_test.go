package dispatcher_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog/eventlogtest"
)

// Dispatchers come and go all the time, on brokers. Every event comes to every
// endpoint while they do; what comes twice was in flight when a lane moved.
func TestStorm(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		w := &world{t: t, receivers: &receivers{}, log: eventlogtest.Kafka(t, topics()...), keeps: true}
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
		var came [changes]int
		for i := range changes {
			if i%3 < 2 {
				_, stop := w.run(eventlogtest.Kafka(t, topics()...), w.receivers)
				stops = append(stops, stop)
			} else { // the oldest of three, or two
				stops[0]()
				stops = stops[1:]
			}
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				owed = append(owed, w.publish(1)...)
			}
			for _, ep := range eps {
				came[i] += len(w.of(ep.URL))
			}
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
		// The first owner of a new log may have to wait for others.
		if came[changes-1] <= came[2] || slices.Index(came[3:], 0) >= 0 {
			t.Errorf("after each change there had come %v", came)
		}
		t.Logf("%d events to %d endpoints, %d came twice; after each change there had come %v", len(owed), len(eps), doubles, came)
	})
}
