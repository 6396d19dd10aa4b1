package dispatcher_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sluice/pkg/control"
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
	inWorlds(t, 3, 1, unevenly)
}

func unevenly(w *world, seed uint64) {
	w.keeps = seed%2 == 1
	o := w.ordeal(4, seed, 14)
	var stops []func()
	var ends sync.WaitGroup
	defer ends.Wait()
	for range 10 {
		f := w.frozen(w.log, o.rnd.Uint64())
		f.blind = time.Duration(seed%3) * 5 * time.Second
		if o.rnd.IntN(2) == 0 {
			f.left.Store(int64(1 + o.rnd.IntN(150)))
		} else {
			f.left.Store(int64(100 + o.rnd.IntN(2000)))
		}
		u := &uneven{frozen: f, rnd: rand.New(rand.NewPCG(o.rnd.Uint64(), 1)), last: make(map[eventlog.Partition]chan struct{}), slow: o.rnd.IntN(3)}
		_, stop := w.run(u, frozenSender{f})
		for range 1 + o.rnd.IntN(5) {
			o.live()
			if last := o.eps[3].ID; o.rnd.IntN(4) == 0 && w.status(last) == endpoint.Disabled {
				w.do(&control.EnableEndpoint{Endpoint: last})
			}
			if o.rnd.IntN(20) == 0 {
				sleep(2 * time.Hour)
			}
		}
		if o.rnd.IntN(3) > 0 {
			f.freeze()
		}
		later := time.Duration(o.rnd.IntN(4000)) * time.Millisecond
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
	o.accounts(anything, math.MaxInt)
}
