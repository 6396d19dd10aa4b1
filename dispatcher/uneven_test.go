package dispatcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// uneven is a log as brokers are when some of them are slow: what one append has for
// a partition lands there when it pleases, in the order of the calls, and when the
// caller has waited for long the append is an error and lands for all that.
type uneven struct {
	*frozen
	slow int // of ten parts, so many take seconds

	mu   sync.Mutex
	rnd  *rand.Rand
	last map[eventlog.Partition]chan struct{} // closed when what was appended last has landed
}

var errUneven = errors.New("the outcome is unknown")

func (u *uneven) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	places := make(map[eventlog.Partition][]int)
	var order []eventlog.Partition
	for i, r := range records {
		if places[r.Partition] == nil {
			order = append(order, r.Partition)
		}
		places[r.Partition] = append(places[r.Partition], i)
	}
	var landed sync.WaitGroup
	u.mu.Lock()
	for _, p := range order {
		at := places[p]
		part := make([]eventlog.Record, len(at))
		for i, place := range at {
			r := records[place]
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			part[i] = r
		}
		before, done := u.last[p], make(chan struct{})
		u.last[p] = done
		delay := time.Duration(u.rnd.IntN(3)) * time.Millisecond
		if u.rnd.IntN(10) < u.slow {
			delay = time.Duration(u.rnd.IntN(4000)) * time.Millisecond
		}
		landed.Go(func() {
			defer close(done)
			if before != nil {
				<-before
			}
			time.Sleep(delay)
			got, err := u.frozen.Append(context.Background(), part)
			if err != nil {
				return
			}
			for i, place := range at {
				offsets[place] = got[i]
			}
		})
	}
	u.mu.Unlock()
	all := make(chan struct{})
	go func() { landed.Wait(); close(all) }()
	select {
	case <-all:
		return offsets, nil
	case <-time.After(5 * time.Second):
		u.pass()
		return nil, errUneven
	}
}

// What one append has for several partitions doesn't land at once, markers and claims
// neither, and an append that is an error may land for all that; owners freeze
// anywhere meanwhile, and wake up among their successors. Nothing is lost.
func TestUneven(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { unevenly(w, seed) })
		})
	}
}

func unevenly(w *world, seed uint64) {
	w.keeps = seed%2 == 1
	rnd := rand.New(rand.NewPCG(seed, 14))
	fails := rand.New(rand.NewPCG(seed, 15))
	var eps []*endpoint.Endpoint
	for i := range 4 {
		eps = append(eps, w.endpoint(fmt.Sprintf("http://%d", i)))
	}
	var calm atomic.Bool
	w.set(func(r request) delivery.Outcome {
		o := ok
		if !calm.Load() && (fails.IntN(4) == 0 || r.url == "http://3") {
			o = broken
		}
		o.Took = time.Duration(fails.IntN(40)) * time.Millisecond
		return o
	})
	paused, active := endpoint.Paused, endpoint.Active
	var owed []string
	var zombies []*frozen
	var stops []func()
	var ends sync.WaitGroup
	defer ends.Wait()
	for range 10 {
		f := w.frozen(w.log, rnd.Uint64())
		f.blind = time.Duration(seed%3) * 5 * time.Second
		zombies = append(zombies, f)
		if rnd.IntN(2) == 0 {
			f.left.Store(int64(1 + rnd.IntN(150)))
		} else {
			f.left.Store(int64(100 + rnd.IntN(2000)))
		}
		u := &uneven{frozen: f, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 1)), last: make(map[eventlog.Partition]chan struct{}), slow: rnd.IntN(3)}
		_, stop := w.run(u, frozenSender{f})
		for range 1 + rnd.IntN(5) {
			owed = append(owed, w.publish(1+rnd.IntN(20))...)
			if rnd.IntN(4) == 0 {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &paused})
			}
			if rnd.IntN(4) == 0 && w.status(eps[3].ID) == endpoint.Disabled {
				w.do(&control.EnableEndpoint{Endpoint: eps[3].ID})
			}
			sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			if rnd.IntN(20) == 0 {
				sleep(2 * time.Hour)
			}
			if w.status(eps[0].ID) == endpoint.Paused && rnd.IntN(2) == 0 {
				w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &active})
			}
		}
		if rnd.IntN(3) > 0 {
			f.freeze()
		}
		later := time.Duration(rnd.IntN(4000)) * time.Millisecond
		stops = append(stops, func() {
			f.wake()
			time.Sleep(later)
			f.left.Store(1 << 40)
			ended := make(chan struct{})
			go func() { stop(); close(ended) }()
			for over := false; !over; {
				f.wake() // one that was about to freeze may have
				select {
				case <-ended:
					over = true
				case <-time.After(time.Second):
				}
			}
		})
		if len(stops) > 2 || rnd.IntN(2) == 0 {
			first := stops[0]
			stops = stops[1:]
			ends.Go(first)
		}
	}
	calm.Store(true)
	if w.status(eps[0].ID) == endpoint.Paused {
		w.do(&control.UpdateEndpoint{Endpoint: eps[0].ID, Status: &active})
	}
	for _, stop := range stops {
		ends.Go(stop)
	}
	sleep(time.Minute)
	w.start()
	sleep(3 * time.Hour)
	for _, ep := range eps {
		if w.status(ep.ID) == endpoint.Disabled {
			w.do(&control.EnableEndpoint{Endpoint: ep.ID})
		}
	}
	sleep(3 * time.Hour)
	for _, ep := range eps {
		w.accounts(ep, owed, zombies, true)
	}
}
