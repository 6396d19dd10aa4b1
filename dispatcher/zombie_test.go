package dispatcher_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/dispatcher/fanout"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Dispatchers are stopped anywhere, in the middle of an append too, and wake up
// when others have had their lanes for long. Nothing is lost; what comes twice was
// under way, or not written down, when its dispatcher froze, or was sent by one
// that had been frozen.
func TestZombies(t *testing.T) {
	inWorlds(t, 4, 2, haunting)
}

func haunting(w *world, seed uint64) {
	w.keeps = seed/2%2 == 1
	o := w.ordeal(4, seed, 4)
	// Those of odd seeds don't hear of their successors for a while.
	blind := time.Duration(seed%2) * 7 * time.Second
	var stops []func()
	var ends sync.WaitGroup
	defer ends.Wait()
	const zombies = 8
	for range zombies {
		f := w.frozen(w.log, o.rnd.Uint64())
		f.honest, f.blind = seed%3 == 0, blind
		f.left.Store(int64(20 + o.rnd.IntN(150)))
		_, stop := w.run(f, frozenSender{f})
		for range 5 {
			o.live()
		}
		f.freeze() // if it isn't yet
		// The next has begun when this one wakes up, and goes, at some time later.
		later := time.Duration(o.rnd.IntN(4000)) * time.Millisecond
		stops = append(stops, func() {
			f.wake()
			time.Sleep(later)
			stop()
		})
		if len(stops) > 2 || o.rnd.IntN(2) == 0 {
			first := stops[0]
			stops = stops[1:]
			ends.Go(first)
		}
	}
	o.relent()
	for _, stop := range stops {
		ends.Go(stop)
	}
	sleep(time.Minute)
	o.recover()
	if blind > 0 {
		o.accounts(anything, math.MaxInt)
		return
	}
	o.accounts(func(before, again request) bool {
		return before.from.astray(before.ended) || again.from.astray(again.at)
	}, 32*zombies)
}

// anything excuses what comes twice: those that are blind repeat what they like until
// they hear of their successors.
func anything(_, _ request) bool { return true }

// One that wakes up with much to send sends none of it: its clock tells.
func TestWokenSendsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.keeps = true
		ep := w.endpoint("http://a")
		w.set(func(request) delivery.Outcome {
			o := ok
			o.Took = time.Second
			return o
		})
		f := w.frozen(w.log, 1)
		f.honest, f.blind = true, time.Hour
		_, stop := w.run(f, frozenSender{f})
		owed := w.publish(500)
		sleep(2500 * time.Millisecond)
		f.freeze()
		before := len(w.of(ep.URL))
		sleep(10 * time.Second)
		w.start()
		sleep(time.Minute)
		after := len(w.of(ep.URL))
		f.wake()
		sleep(10 * time.Second)
		stop()
		if n := len(w.of(ep.URL)) - after; n > 0 || before >= len(owed) {
			t.Errorf("it sent %d when it woke up; %d of %d before", n, before, len(owed))
		}
		if doubles := after - len(owed); doubles > 32 {
			t.Errorf("%d came twice", doubles)
		}
	})
}

// One that wakes up and for long doesn't hear that it was displaced does no harm:
// its hops and its outcomes count for nothing, nor does a snapshot that is made of
// them, it trims nothing that its successors need, and what it heard of an endpoint
// disables none.
func TestBlindZombie(t *testing.T) {
	for _, status := range []int{500, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ep := w.endpoint("http://a")
				refused := delivery.Outcome{Class: delivery.HTTPError, Status: status, Took: time.Second}
				w.set(func(request) delivery.Outcome { return refused })
				f := w.frozen(w.log, 1)
				f.blind = time.Hour
				_, stop := w.run(f, frozenSender{f})
				w.publish(1)
				sleep(500 * time.Millisecond)
				f.freeze()

				hang := ok
				hang.Took = time.Hour
				w.set(func(request) delivery.Outcome { return hang })
				m := w.unkillable(w.log)
				w.startOn(m, true)
				sleep(time.Second)
				w.set(func(r request) delivery.Outcome { return refused })
				f.wake()
				sleep(time.Minute) // it follows its own hop, writes it down, trims
				m.kill()
				w.stop()
				f.freeze() // for good
				if n := len(w.of(ep.URL)); n < 2 || w.status(ep.ID) != endpoint.Active {
					t.Errorf("%d requests, the endpoint is %s", n, w.status(ep.ID))
				}

				w.forget()
				w.set(nil)
				w.start()
				w.publish(1)
				sleep(time.Second)
				got := w.of(ep.URL)
				if len(got) != 2 || got[0].attempt != 1 || got[1].attempt != 1 {
					t.Errorf("the third owner sent %+v, want both events as first attempts", got)
				}
				f.wake()
				stop()
			})
		})
	}
}

// What a zombie puts to the held and to the dead letters, late, isn't owed to
// anybody: its successor did it already.
func TestLateRecords(t *testing.T) {
	t.Run("held", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			ep := w.endpoint("http://a")
			paused, active := endpoint.Paused, endpoint.Active
			w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
			f := w.frozen(w.log, 1)
			_, stop := w.run(f, frozenSender{f})
			sleep(time.Second)
			f.before.Store(delivery.HeldTopic)
			owed := w.publish(3)
			sleep(time.Second)
			w.startOn(w.unkillable(w.log), true)
			sleep(time.Second)
			owed = append(owed, w.publish(2)...)
			sleep(time.Second)
			f.wake()
			owed = append(owed, w.publish(2)...)
			stop()
			sleep(time.Second)
			// Another owner knows it from a snapshot.
			w.stop()
			w.start()
			w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
			sleep(time.Minute)
			owed = append(owed, w.publish(2)...)
			sleep(time.Minute)
			got := ids(w.of(ep.URL))
			slices.Sort(got)
			if !slices.Equal(got, owed) {
				t.Errorf("%v came, want %v", got, owed)
			}
		})
	})
	t.Run("buried", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			f := w.frozen(w.log, 1)
			_, stop := w.run(f, frozenSender{f})
			sleep(time.Second)
			f.before.Store(delivery.DeadTopic)
			if _, err := w.log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Live.Topic()}, Value: []byte("no event")}}); err != nil {
				t.Fatal(err)
			}
			sleep(time.Second)
			w.start()
			sleep(time.Second)
			f.wake()
			sleep(time.Second)
			stop()
			if n := len(w.records(delivery.DeadTopic, laneOne(t))); n != 1 {
				t.Errorf("the event is buried %d times", n)
			}
		})
	})
	t.Run("dead", func(t *testing.T) {
		inWorld(t, lateDeadLetter)
	})
}

func lateDeadLetter(t *testing.T, w *world) {
	ep := w.endpoint("http://a")
	w.set(func(r request) delivery.Outcome {
		if r.event != "e00002" {
			return broken
		}
		// A success after the other's first failure: four more don't disable the
		// endpoint, and who is out of attempts is dead, not held.
		late := ok
		late.Took = 100 * time.Millisecond
		return late
	})
	f := w.frozen(w.log, 1)
	_, stop := w.run(f, frozenSender{f})
	w.publish(2)
	sleep(time.Second) // its marker is there
	f.before.Store(delivery.DeadTopic)
	sleep(2 * time.Hour)
	w.start()
	sleep(time.Second)
	f.wake()
	stop()
	sleep(2 * time.Hour)
	w.publish(1)
	sleep(time.Minute)
	if n := len(w.deliveries("dead", ep.ID)); w.status(ep.ID) != endpoint.Disabled || n != 1 {
		t.Fatalf("the endpoint is %s, with %d dead letters", w.status(ep.ID), n)
	}
	w.forget()
	w.set(nil)
	w.do(&control.EnableEndpoint{Endpoint: ep.ID})
	sleep(time.Hour)
	got := ids(w.of(ep.URL))
	slices.Sort(got)
	if want := []string{"e00001", "e00003"}; !slices.Equal(got, want) {
		t.Errorf("%v came, want %v", got, want)
	}
}

// Fan-outs that take themselves for the one there is, each from a place of its own
// and standing still now and then, append as they like: every endpoint gets every
// event once. What one of them appends for an endpoint has no hole, so that no
// event comes behind a later one for the first time.
func TestZombieFanOuts(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				rnd := rand.New(rand.NewPCG(seed, 6))
				var eps []*endpoint.Endpoint
				for i := range 4 {
					eps = append(eps, w.endpoint(fmt.Sprintf("http://%d", i)))
				}
				w.start()
				var zombies []*frozen
				var ends sync.WaitGroup
				ctx, cancel := context.WithCancel(context.Background())
				var owed []string
				for range 12 {
					f := w.frozen(w.log, rnd.Uint64())
					f.left.Store(int64(1 + rnd.IntN(4)))
					zombies = append(zombies, f)
					from := int64(rnd.IntN(w.events + 1))
					ends.Go(func() {
						fanout.Run(ctx, fanout.Config{Log: f, Control: w.control, Logger: logger(), Metrics: fanout.NewMetrics(nil),
							Environment: event.Live, Lane: 1, Next: from, Progress: func(int64) {}})
					})
					for range rnd.IntN(4) {
						owed = append(owed, w.publish(1+rnd.IntN(30))...)
						sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
						zombies[rnd.IntN(len(zombies))].wake()
					}
				}
				for _, f := range zombies {
					f.left.Store(1 << 40)
					f.wake()
				}
				sleep(time.Minute)
				cancel()
				ends.Wait()
				for _, ep := range eps {
					got := ids(w.of(ep.URL))
					slices.Sort(got)
					if !slices.Equal(got, owed) {
						t.Errorf("%s got %d, want %d; missing %v", ep.URL, len(got), len(owed), missing(got, owed))
					}
				}
			})
		})
	}
}
