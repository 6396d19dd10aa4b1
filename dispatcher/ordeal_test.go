package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// ordeal is what endpoints go through while dispatchers come and go, by seed: one
// request in four is refused, and all of the last endpoint's; the first is paused at
// times.
type ordeal struct {
	*world
	rnd  *rand.Rand
	eps  []*endpoint.Endpoint
	owed []string // events
	calm atomic.Bool
}

func (w *world) ordeal(endpoints int, seed, stream uint64) *ordeal {
	o := &ordeal{world: w, rnd: rand.New(rand.NewPCG(seed, stream))}
	for i := range endpoints {
		o.eps = append(o.eps, w.endpoint(fmt.Sprintf("http://%d", i)))
	}
	last, fails := o.eps[endpoints-1].URL, rand.New(rand.NewPCG(seed, stream+1))
	w.set(func(r request) delivery.Outcome {
		answer := ok
		if !o.calm.Load() && (fails.IntN(4) == 0 || r.url == last) {
			answer = broken
		}
		answer.Took = time.Duration(fails.IntN(40)) * time.Millisecond
		return answer
	})
	return o
}

// live publishes some, and waits a little.
func (o *ordeal) live() {
	o.owed = append(o.owed, o.publish(1+o.rnd.IntN(20))...)
	if o.rnd.IntN(4) == 0 {
		paused := endpoint.Paused
		o.do(&control.UpdateEndpoint{Endpoint: o.eps[0].ID, Status: &paused})
	}
	sleep(time.Duration(o.rnd.IntN(2000)) * time.Millisecond)
	if o.rnd.IntN(2) == 0 {
		o.resume()
	}
}

func (o *ordeal) resume() {
	if active := endpoint.Active; o.status(o.eps[0].ID) == endpoint.Paused {
		o.do(&control.UpdateEndpoint{Endpoint: o.eps[0].ID, Status: &active})
	}
}

// relent has all receivers take whatever comes.
func (o *ordeal) relent() {
	o.calm.Store(true)
	o.resume()
}

// recover runs a dispatcher until all that is owed has come, or is dead.
func (o *ordeal) recover() {
	o.start()
	sleep(3 * time.Hour)
	for _, ep := range o.eps {
		if o.status(ep.ID) == endpoint.Disabled {
			o.do(&control.EnableEndpoint{Endpoint: ep.ID})
		}
	}
	sleep(3 * time.Hour)
}

// accounts compares what each endpoint was owed with what it got. An event may come
// again where that is excused, and no oftener than bound.
func (o *ordeal) accounts(excused func(before, again request) bool, bound int) {
	o.t.Helper()
	for _, ep := range o.eps {
		delivered := make(map[string]request)
		doubles := 0
		for _, r := range o.of(ep.URL) {
			if r.ended.IsZero() {
				continue
			}
			if before, twice := delivered[r.event]; twice {
				doubles++
				if !excused(before, r) {
					o.t.Errorf("%s got %s twice, answered at %v and %v", ep.URL, r.event, before.ended, r.ended)
				}
			}
			delivered[r.event] = r
		}
		dead := make(map[string]bool)
		for _, d := range o.deliveries("dead", ep.ID) {
			dead[d.Event.ID] = true
		}
		lost := 0
		for _, id := range o.owed {
			if _, came := delivered[id]; !came && !dead[id] {
				lost++
			}
		}
		o.t.Logf("%s: %d owed, %d came twice, %d dead", ep.URL, len(o.owed), doubles, len(dead))
		if lost > 0 {
			o.t.Errorf("%s lost %d of %d", ep.URL, lost, len(o.owed))
		}
		if doubles > bound {
			o.t.Errorf("%s got %d twice; at most %d were in flight", ep.URL, doubles, bound)
		}
	}
}
