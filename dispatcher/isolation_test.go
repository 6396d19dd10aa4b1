package dispatcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// hangs is what a sender says of one that accepts and never answers.
var hangs = delivery.Outcome{Class: delivery.Timeout, Took: 30 * time.Second}

// takes is a receiver's answer after a while.
func takes(d time.Duration) delivery.Outcome {
	return delivery.Outcome{Class: delivery.Delivered, Status: 200, Took: d}
}

// latest gives how long after the moment the last of the events came to an address
// for the first time; all of them must have come.
func (w *world) latest(url string, since time.Time, owed []string) time.Duration {
	w.t.Helper()
	first := make(map[string]time.Time)
	for _, r := range w.of(url) {
		if _, came := first[r.event]; !came {
			first[r.event] = r.at
		}
	}
	var late time.Duration
	for _, id := range owed {
		at, came := first[id]
		if !came {
			w.t.Fatalf("%s never got %s, and %d of %d", url, id, len(first), len(owed))
		}
		late = max(late, at.Sub(since))
	}
	return late
}

// One org's endpoints all hang, more of them than requests fit, and it publishes
// for two minutes. Neither another org's endpoint nor the one of the same org that
// answers waits for that; nor does one whose org the dispatcher has never met.
func TestFloodOfAnOrg(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, id := range []string{"flood", "quiet", "new"} {
			w.do(&control.CreateOrg{ID: id, Name: id, Plan: control.Enterprise})
		}
		w.perLane = 16
		w.start()
		var none endpoint.OptionsPatch
		w.set(func(r request) delivery.Outcome {
			if strings.HasPrefix(r.url, "http://hangs") {
				return hangs
			}
			return takes(5 * time.Millisecond)
		})
		w.endpointOf("flood", "http://own", none)
		w.endpointOf("quiet", "http://quiet", none)
		w.publishTo("flood", "k", 1)
		w.publishTo("quiet", "k", 1)
		sleep(time.Minute)
		for i := range 20 * delivery.Lanes {
			w.endpointOf("flood", fmt.Sprintf("http://hangs/%d", i), none)
		}
		for i := range 6 {
			began := time.Now()
			flood, quiet := w.publishTo("flood", "k", 20), w.publishTo("quiet", "k", 1)
			sleep(10 * time.Second)
			if late := w.latest("http://quiet", began, quiet); late > 50*time.Millisecond {
				t.Errorf("round %d: the quiet org's endpoint got its event after %v", i, late)
			}
			// 20 at 2 a time, 5 ms each
			if late := w.latest("http://own", began, flood); late > 150*time.Millisecond {
				t.Errorf("round %d: the flooding org's own endpoint got its last after %v", i, late)
			}
		}
		w.endpointOf("new", "http://new", none)
		began := time.Now()
		owed := w.publishTo("new", "k", 3)
		sleep(time.Second)
		if late := w.latest("http://new", began, owed); late > 50*time.Millisecond {
			t.Errorf("an org that nobody knew yet got its events after %v", late)
		}
	})
}

// An endpoint gets as much at once as fits how fast it answers: little while
// nobody knows, one at a time when it hangs, and all when it is fast again. Its
// retries go when they are due.
func TestAsFastAsItAnswers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		w.endpoint("http://a")
		answer := func(o delivery.Outcome) { w.set(func(request) delivery.Outcome { return o }) }
		answer(hangs)
		began := time.Now()
		w.publish(200)
		under := func(from, to time.Duration) (fresh, retries int) {
			for _, r := range w.of("http://a") {
				if at := r.at.Sub(began); from <= at && at < to && r.attempt == 1 {
					fresh++
				} else if from <= at && at < to {
					retries++
				}
			}
			return fresh, retries
		}
		sleep(70 * time.Second)
		if n, _ := under(0, 30*time.Second); n != 8 {
			t.Errorf("%d requests at once to one that nobody knows", n)
		}
		if n, again := under(30*time.Second, 60*time.Second); n != 1 || again != 8 {
			t.Errorf("%d new and %d due retries to one that hangs", n, again)
		}
		answer(takes(10 * time.Millisecond))
		sleep(2 * time.Minute)
		w.forget()
		began = time.Now()
		answer(takes(time.Second))
		w.publish(100)
		sleep(500 * time.Millisecond)
		if n, _ := under(0, time.Second); n != 32 {
			t.Errorf("%d requests at once to one that is fast again", n)
		}
	})
}

// An event that very many endpoints want is fanned out in several appends. A kill in
// the middle has it done again, and no endpoint gets it once more for that, or never.
func TestOneEventToMany(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const many = control.MaxEndpoints
		for i := range many {
			w.endpoint(fmt.Sprintf("http://%d", i))
		}
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(1, 1))}
		m.left.Store(1 << 40)
		w.startOn(m, false)
		sleep(time.Minute)
		owed := w.publishAs("test.event", 1, 4080) // 4.3 MB of deliveries, which are two appends
		m.left.Store(2)
		sleep(time.Minute)
		m.kill()
		w.stop()
		w.start()
		sleep(time.Minute)
		for i := range many {
			// Twice, if it was in flight.
			if got := ids(w.of(fmt.Sprintf("http://%d", i))); len(got) > 2 || !slices.Equal(slices.Compact(got), owed) {
				t.Fatalf("%d got %v", i, got)
			}
		}
	})
}

// A receiver that takes one in five is never disabled, whatever it is sent.
func TestFlapping(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://a")
		n := 0
		w.set(func(request) delivery.Outcome {
			if n++; n%5 == 0 {
				return ok
			}
			return broken
		})
		var owed []string
		for range 90 {
			owed = append(owed, w.publish(1)...)
			sleep(time.Minute)
			if w.status(ep.ID) != endpoint.Active {
				t.Fatalf("disabled after %d events", len(owed))
			}
		}
		w.set(nil)
		sleep(3 * time.Hour)
		come := ids(w.of("http://a"))
		for _, d := range w.deliveries("dead", ep.ID) {
			come = append(come, d.Event.ID)
		}
		if left := missing(come, owed); len(left) > 0 {
			t.Errorf("%d of %d neither came nor died: %v", len(left), len(owed), left)
		}
	})
}

// A delivery that its endpoint never takes disables it only if it takes nothing else
// either: what waits goes ahead of the attempt that would be counted, and soon.
func TestRefusedAlone(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		for after, soon := range map[time.Duration]time.Duration{
			10 * time.Second: 35 * time.Second, 2 * time.Minute: 335 * time.Second, 10 * time.Minute: 3935 * time.Second,
		} {
			t.Run(fmt.Sprintf("ordered %v, another after %v", ordered, after), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.start()
					ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{Ordered: &ordered})
					w.set(func(r request) delivery.Outcome {
						if r.event == "e00001" {
							return broken
						}
						return takes(time.Second)
					})
					began := time.Now()
					w.publishTo("org", "k", 1)
					sleep(after)
					other := w.publishTo("org", "other", 1)
					sleep(2 * time.Hour)
					if late := w.latest(ep.URL, began, other); late > soon+10*time.Millisecond {
						t.Errorf("the other came after %v, want %v", late, soon)
					}
					if w.status(ep.ID) != endpoint.Active || len(w.deliveries("dead", ep.ID)) != 1 {
						t.Errorf("the endpoint is %s, with %d dead letters", w.status(ep.ID), len(w.deliveries("dead", ep.ID)))
					}
				})
			})
		}
	}
}

// endpointIn makes an endpoint whose lane is that one.
func (w *world) endpointIn(lane int32, url string) *endpoint.Endpoint {
	w.t.Helper()
	return w.endpointOfIn(lane, "org", url)
}

func (w *world) endpointOfIn(lane int32, org, url string) *endpoint.Endpoint {
	w.t.Helper()
	return w.inLane(lane, func() *endpoint.Endpoint { return w.endpointOf(org, url, endpoint.OptionsPatch{}) })
}

// Many orgs' endpoints hang, as many as fit. One that is known to be quick doesn't
// wait for that.
func TestManyThatHang(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.perLane = 16
		w.start()
		w.answers("http://hangs", hangs, takes(5*time.Millisecond))
		w.endpoint("http://quick")
		w.publish(1)
		sleep(time.Minute)
		var orgs []string
		for i := range 24 {
			id := fmt.Sprintf("org%d", i)
			orgs = append(orgs, id)
			w.do(&control.CreateOrg{ID: id, Name: id, Plan: control.Enterprise})
			for range 24 {
				w.endpointOf(id, "http://hangs", endpoint.OptionsPatch{})
			}
		}
		for i := range 4 {
			for _, id := range orgs {
				w.publishTo(id, "k", 5)
			}
			sleep(time.Second)
			began := time.Now()
			owed := w.publish(1)
			sleep(9 * time.Second)
			if late := w.latest("http://quick", began, owed); late > 50*time.Millisecond {
				t.Errorf("round %d: one that is quick got its event after %v", i, late)
			}
		}
	})
}

// Endpoints of an org that were quick begin to hang, and have all the room that their
// org has for such. The one that answers gets its events as before, once it is known
// that they hang.
func TestQuickThatHang(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		ep := w.endpoint("http://quick")
		for range 6 {
			w.endpointIn(delivery.Lane(ep.ID), "http://hangs")
		}
		w.set(func(request) delivery.Outcome { return takes(5 * time.Millisecond) })
		w.publish(1)
		sleep(time.Minute)
		w.answers("http://hangs", hangs, takes(5*time.Millisecond))
		for _, soon := range []time.Duration{time.Second, 50 * time.Millisecond, 50 * time.Millisecond} {
			began := time.Now()
			owed := w.publish(20)
			sleep(2 * time.Second)
			if late := w.latest("http://quick", began, owed); late > soon {
				t.Errorf("one that is quick got its events after %v, want %v", late, soon)
			}
		}
	})
}

// retriesDue logs retries of an endpoint that are due at one instant.
func (w *world) retriesDue(ep *endpoint.Endpoint, n int, due time.Time) {
	w.t.Helper()
	var records []eventlog.Record
	for i := range n {
		ev := &event.Event{ID: fmt.Sprintf("r%d", i), Type: "test.event", Environment: event.Live, Org: ep.Org, Key: ep.Org, Data: []byte("{}")}
		d := delivery.New(ev, ep.ID, 0)
		d.First, d.Attempts, d.Due = false, 1, due
		records = append(records, eventlog.Record{
			Partition: eventlog.Partition{Topic: "tier.5s", Number: delivery.Lane(ep.ID)}, Key: []byte(ep.ID), Value: d.AppendRecord(nil)})
	}
	for chunk := range slices.Chunk(records, 1000) {
		if _, err := w.log.Append(context.Background(), chunk); err != nil {
			w.t.Fatal(err)
		}
	}
}

// More retries are due at one instant than fit into memory. First attempts don't
// wait for them, to the same endpoint neither; no more of them go out at once than
// leaves others their turn, and none goes to held.
func TestStormOfRetries(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		var eps []*endpoint.Endpoint
		for i := range 4 {
			eps = append(eps, w.endpointIn(5, fmt.Sprintf("http://%d", i)))
		}
		var mu sync.Mutex
		var now, most int
		w.set(func(r request) delivery.Outcome {
			if r.attempt == 1 {
				return takes(10 * time.Millisecond)
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.AfterFunc(20*time.Millisecond, func() { mu.Lock(); now--; mu.Unlock() })
			return takes(20 * time.Millisecond)
		})
		w.publish(10)
		sleep(time.Second)
		for _, ep := range eps {
			w.retriesDue(ep, 5000, time.Now().Add(5*time.Second))
		}
		sleep(5 * time.Second)
		for range 10 {
			began := time.Now()
			owed := w.publish(1)
			sleep(150 * time.Millisecond)
			for i := range eps {
				if late := w.latest(fmt.Sprintf("http://%d", i), began, owed); late > 100*time.Millisecond {
					t.Errorf("%d got a first attempt after %v", i, late)
				}
			}
		}
		sleep(time.Minute)
		for i, ep := range eps {
			if n := len(w.of(fmt.Sprintf("http://%d", i))); n != 5020 {
				t.Errorf("%d requests to %d, want 5020", n, i)
			}
			if n := len(w.records("held", ep.ID)); n > 0 {
				t.Errorf("%d went to held", n)
			}
		}
		if most > 60 { // 32, and those that end at that very moment
			t.Errorf("%d retries at once", most)
		}
	})
}

// The same behind a start, when nobody knows yet how fast endpoints answer: what those
// are owed that answer stays where it is, and one that hangs holds them up for no more
// than a moment.
func TestStormBehindStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		due := time.Now().Add(5 * time.Second)
		w.retriesDue(w.endpointIn(5, "http://hangs"), 2000, due)
		var eps []*endpoint.Endpoint
		for i := range 2 {
			eps = append(eps, w.endpointIn(5, fmt.Sprintf("http://%d", i)))
			w.retriesDue(eps[i], 3000, due)
		}
		w.answers("http://hangs", hangs, takes(20*time.Millisecond))
		w.start()
		sleep(time.Minute)
		for i, ep := range eps {
			got := w.of(ep.URL)
			if len(got) != 3000 {
				t.Fatalf("%d requests to %d, want 3000", len(got), i)
			}
			// 32 at once of an org, 20 ms each
			if late := got[len(got)-1].at.Sub(due); late > 4500*time.Millisecond {
				t.Errorf("%d had all its retries after %v", i, late)
			}
			if n := len(w.deliveries("held", ep.ID)); n > 0 {
				t.Errorf("of %d's %d went to held", i, n)
			}
		}
	})
}

// Its owner says how many requests an endpoint takes at once, and how many a
// second; retries and what was held are among them, and nothing is lost by it.
func TestOwnersBounds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		most, rate := 3, 20.0
		w.endpointOf("org", "http://few", endpoint.OptionsPatch{MaxInFlight: &most})
		w.endpointOf("org", "http://rare", endpoint.OptionsPatch{RatePerSecond: &rate})
		ep := w.endpointOf("org", "http://later", endpoint.OptionsPatch{})
		var mu sync.Mutex
		under, atOnce := 0, 0
		w.set(func(r request) delivery.Outcome {
			if r.url == "http://few" {
				mu.Lock()
				under++
				atOnce = max(atOnce, under)
				mu.Unlock()
				time.AfterFunc(9*time.Millisecond, func() { mu.Lock(); under--; mu.Unlock() })
			}
			if r.attempt == 1 && strings.HasSuffix(r.event, "7") {
				return delivery.Outcome{Class: delivery.HTTPError, Status: 500, Took: 10 * time.Millisecond}
			}
			return takes(10 * time.Millisecond)
		})
		owed := w.publish(1500) // more than memory holds for one
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{RatePerSecond: &rate}})
		sleep(5 * time.Minute)
		if mu.Lock(); atOnce != most {
			t.Errorf("%d requests at once, want %d", atOnce, most)
		}
		mu.Unlock()
		for _, url := range []string{"http://few", "http://rare", "http://later"} {
			got := w.of(url)
			if left := missing(ids(got), owed); len(left) > 0 || len(got) != 1650 {
				t.Errorf("%s: %d requests, and %d events never came", url, len(got), len(left))
			}
			for i := range got {
				if url == "http://rare" && i >= 20 && got[i].at.Sub(got[i-20].at) < 950*time.Millisecond {
					t.Fatalf("%d requests within %v", 20, got[i].at.Sub(got[i-20].at))
				}
			}
		}
	})
}

// Endpoints of one org that take long want more than it has room for, for as long as
// events come. The retries of one that fails still have their turn.
func TestRetriesBesideFlood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.perLane = 8
		w.start()
		w.answers("http://fails", delivery.Outcome{Class: delivery.HTTPError, Status: 500, Took: time.Second}, takes(10*time.Second))
		w.endpointIn(5, "http://fails")
		for i := range 4 {
			w.endpointIn(5, fmt.Sprintf("http://%d", i))
		}
		for range 8 {
			w.publish(12)
			sleep(time.Minute)
		}
		got := w.of("http://fails")
		if last := got[len(got)-1]; last.attempt < 4 {
			t.Errorf("after 8 minutes %d requests were made, the last of them attempt %d", len(got), last.attempt)
		}
	})
}

// An endpoint whose owner raises its rate doesn't wait for as long as the old one
// would have had it.
func TestRaisedRate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		low, high := 1e-5, 10.0
		ep := w.endpointOf("org", "http://a", endpoint.OptionsPatch{RatePerSecond: &low})
		w.publish(3)
		sleep(time.Hour)
		if n := len(w.of("http://a")); n != 1 {
			t.Errorf("%d requests in an hour, at one a day", n)
		}
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{RatePerSecond: &high}})
		sleep(time.Second)
		if n := len(w.of("http://a")); n != 3 {
			t.Errorf("%d requests when it may have 10 a second", n)
		}
		low = 1e-12
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{RatePerSecond: &low}})
		w.publish(3)
		sleep(time.Hour)
		if n := len(w.of("http://a")); n != 4 {
			t.Errorf("%d requests when it may have hardly any", n)
		}
	})
}

// Requests that hang count for their org although their endpoints are deleted: who
// makes one after the other gets no more room than who keeps them.
func TestRoomOfTheDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.perLane = 16
		w.start()
		w.set(func(request) delivery.Outcome { return hangs })
		for range 10 {
			ep := w.endpointIn(5, "http://hangs")
			w.publish(10)
			sleep(time.Second)
			w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
			sleep(time.Second)
		}
		if n := len(w.of("http://hangs")); n > 4 {
			t.Errorf("%d requests hang at once, of an org that has room for 4", n)
		}
	})
}
