package dispatcher_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// stepped is a log, and a wall clock, that somebody sets.
type stepped struct {
	eventlog.Log
	by atomic.Int64
}

func (s *stepped) now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

func (s *stepped) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	t, err := s.Log.Tail(ctx, p, from)
	return steppedTail{t, s}, err
}

type steppedTail struct {
	eventlog.Tail
	s *stepped
}

func (t steppedTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	for i := range records {
		records[i].Time = records[i].Time.Add(time.Duration(t.s.by.Load()))
	}
	return records, err
}

// A step of the wall clock, with retries waiting, moves none of them, nor the
// pace of failures; what is told of attempts is the wall clock's.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 5 * time.Minute} {
		for _, when := range []time.Duration{time.Second, 10 * time.Second, 50 * time.Second, 10 * time.Minute} {
			t.Run(fmt.Sprintf("%v/after %v", step, when), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) { clockSteps(t, w, step, when) })
			})
		}
	}
}

func clockSteps(t *testing.T, w *world, step, when time.Duration) {
	log := &stepped{Log: w.log}
	w.wall = log.now
	w.startOn(log, true)
	ep := w.endpoint("http://a")
	w.set(func(r request) delivery.Outcome {
		o := broken
		if r.attempt == 1 {
			o.Status, o.RetryAt = 503, log.now().Add(5*time.Second)
		}
		o.Started = log.now()
		return o
	})
	began := time.Now()
	w.publish(1)
	sleep(when)
	log.by.Store(int64(step))
	sleep(2*time.Hour - when)
	got := w.of("http://a")
	want := []time.Duration{0, 5 * time.Second, 35 * time.Second, 335 * time.Second, 3935 * time.Second}
	if len(got) != len(want) {
		t.Fatalf("%d attempts, want %d", len(got), len(want))
	}
	for i, r := range got {
		if late := r.at.Sub(began) - want[i]; late < 0 || late > 10*time.Millisecond {
			t.Errorf("attempt %d after %v, want %v", i+1, r.at.Sub(began), want[i])
		}
	}
	if w.status(ep.ID) != endpoint.Disabled {
		t.Errorf("the endpoint is %s after five counted failures", w.status(ep.ID))
	}
	for i, r := range w.records("attempts", ep.ID) {
		a, err := delivery.DecodeAttempt(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		told := began.Add(want[i])
		if want[i] >= when {
			told = told.Add(step)
		}
		if a.Outcome.Started.Sub(told).Abs() > 10*time.Millisecond {
			t.Errorf("attempt %d began at %v, says the journal; want %v", i+1, a.Outcome.Started, told)
		}
	}
}

// late is a sender that begins its first request a while after it was asked to: the
// machine had something else to do.
type late struct {
	*receivers
	once sync.Once
}

func (l *late) Send(ctx context.Context, r *attempt.Request) (delivery.Outcome, error) {
	l.once.Do(func() { time.Sleep(7 * time.Millisecond) })
	return l.receivers.Send(ctx, r)
}

// A retry never comes before its delay has passed since the end of the failure
// before, whoever sends it.
func TestNeverEarly(t *testing.T) {
	for name, between := range map[string]func(w *world, stop func()) func(){
		"the same dispatcher": func(_ *world, stop func()) func() { return stop },
		"another, whose clock is 20 ms ahead": func(w *world, stop func()) func() {
			stop()
			w.wall = func() time.Time { return time.Now().Add(20 * time.Millisecond) }
			_, stop = w.run(w.log, w.receivers)
			return stop
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.endpoint("http://a")
				w.set(func(request) delivery.Outcome { return broken })
				_, stop := w.run(w.log, &late{receivers: w.receivers})
				w.publish(1)
				sleep(time.Second)
				stop = between(w, stop)
				sleep(2 * time.Hour)
				stop()
				got := w.of("http://a")
				if len(got) != len(schedule) {
					t.Fatalf("%d attempts, want %d", len(got), len(schedule))
				}
				for i, r := range got[1:] {
					if wait, delay := r.at.Sub(got[i].at), schedule[i+1]; wait < delay || wait > delay+100*time.Millisecond {
						t.Errorf("attempt %d came %v after the one before, want %v", i+2, wait, delay)
					}
				}
			})
		})
	}
}
