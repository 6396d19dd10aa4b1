package drive

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"sluice/loadtest/fleet"
)

// seat is what another process of a run than the first has of it: it hears orders until
// the first has no more, and tells what it sees.
type seat struct {
	run      *run
	stop     context.CancelFunc // as Ctrl-C does
	released [stages]chan struct{}
	looks    chan int
	gone     chan struct{} // there are no more orders

	mu    sync.Mutex
	tells *gob.Encoder
	peak  float64 // of the processors' share, in a second
}

// Join has this process do its share of a run that another has started. in and out are
// what it has as standard input and output, table is its file 3; calls makes the API's
// calls with these keys. It returns when the run is over, whose outcome is the first's.
func Join(ctx context.Context, in io.Reader, out io.Writer, table *os.File, calls func(url string, keys []string) Call) error {
	orders := gob.NewDecoder(in)
	var first order
	if err := orders.Decode(&first); err != nil || first.Setup == nil {
		return fmt.Errorf("only sluice loadtest --processes starts this: read what is to be done: %w", err)
	}
	s := first.Setup
	wanted, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	r := newRun(wanted, Config{Scenario: &s.Scenario, URL: s.URL, Stream: s.Stream, Keys: s.Keys, Seed: s.Seed, ReceiveOn: s.ReceiveOn, ReceiveAt: s.ReceiveAt,
		Call: calls(s.URL, s.Keys), Say: func(string) {}}, s.Name, share{s.Number, s.Of})
	// From here on by this process's own clock, which nobody can set.
	if err := r.book.Share(table, time.Now().Add(-time.Since(s.Began)), false); err != nil {
		return err
	}
	if s.Judge {
		r.book.Judge(fleet.Rules, fleet.InFlight)
	}
	seat := &seat{run: r, stop: stop, looks: make(chan int, 1), gone: make(chan struct{}), tells: gob.NewEncoder(out)}
	for at := range seat.released {
		seat.released[at] = make(chan struct{})
	}
	r.peers, r.watch = seat, seat.watch
	go seat.hear(ctx, orders) // until the first process has no more to say, which is waited for
	if err := r.perform(wanted, seat.conclude); err != nil {
		seat.tell(told{Failed: err.Error()})
		<-seat.gone
	}
	return seat.tell(told{Done: true})
}

// hear takes orders until there are no more.
func (s *seat) hear(ctx context.Context, orders *gob.Decoder) {
	defer close(s.gone)
	defer context.AfterFunc(ctx, func() { s.run.fail(errors.New("it was told to end by a signal")) })()
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			s.run.fail(errors.New("the first process is no more"))
			return
		}
		switch {
		case o.Go > 0:
			close(s.released[o.Go])
		case o.Look > 0:
			select {
			case s.looks <- o.Look:
			case <-s.run.over:
			}
		case o.Fault != nil:
			s.run.book.Broke(*o.Fault)
		case o.Stop:
			s.stop()
		}
	}
}

func (s *seat) tell(t told) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tells.Encode(t)
}

func (s *seat) arrive(_ context.Context, at stage) error {
	return s.tell(told{At: at})
}

func (s *seat) leave(ctx context.Context, at stage) error {
	select {
	case <-s.released[at]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch has what is counted told when the first process asks for it, until all is over:
// it asks once more when all is seen.
func (s *seat) watch(context.Context, *seconds) {
	r, used := s.run, usage{time.Now(), cpuTime()}
	retries := make([]int64, len(r.publishers))
	r.background.Go(func() {
		for {
			select {
			case look := <-s.looks:
				s.tell(told{Looked: s.look(look, &used, retries)})
			case <-r.over:
				return
			}
		}
	})
}

// look gives what was counted since the last one.
func (s *seat) look(number int, used *usage, retries []int64) *looked {
	l := &looked{Look: number}
	var took time.Duration
	if l.CPU, took = used.look(); took > time.Second/2 {
		s.mu.Lock()
		s.peak = max(s.peak, l.CPU)
		s.mu.Unlock()
	}
	for i, p := range s.run.publishers {
		n := p.retries.Load()
		l.Publishers, l.Retries = append(l.Publishers, p.meter.take()), append(l.Retries, n-retries[i])
		retries[i] = n
	}
	for _, of := range s.run.streams {
		l.Streams = append(l.Streams, of.meter.take())
	}
	for _, of := range s.run.receivers {
		l.Receivers = append(l.Receivers, of.meter.take())
	}
	return l
}

// conclude tells what this process saw, and returns when the first one wants no more.
func (s *seat) conclude(_ context.Context, all *seen) error {
	p := &part{Result: s.run.result(all), Report: all.report, Took: all.published}
	p.Result.Scenario = nil
	s.mu.Lock()
	p.Result.Client.CPUPeak = s.peak
	s.mu.Unlock()
	err := s.tell(told{Part: p})
	<-s.gone
	return err
}
