package dispatcher_test

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
)

// inTurn takes the world's events, each in a millisecond, and notes only how many came, and
// whether one came out of turn.
type inTurn struct {
	came, astray atomic.Int64
}

func (s *inTurn) Send(_ context.Context, r *attempt.Request) (delivery.Outcome, error) {
	began := time.Now()
	time.Sleep(time.Millisecond)
	id, _, _ := strings.Cut(string(r.Body), " ")
	if n, err := strconv.ParseInt(strings.TrimPrefix(id, "e"), 10, 64); err != nil || n != s.came.Add(1) {
		s.astray.Add(1)
	}
	return delivery.Outcome{Class: delivery.Delivered, Status: 200, Started: began, Took: time.Millisecond}, nil
}

func (*inTurn) Close() {}

// What is held is in the log and nowhere else: however many deliveries are past a quota,
// they take no more memory than a fifth of them, and little while they go out, in order.
func TestQuotaHeldTakesNoMemory(t *testing.T) {
	const some, many = 5_000, 30_000
	inQuota(t, func(t *testing.T, w *world, _ *counting) {
		w.metered("org", "http://a", endpoint.OptionsPatch{})
		var s inTurn
		_, stop := w.run(w.log, &s)
		// kept is what a dispatcher has in memory, which is free once it has stopped.
		kept := func() int {
			with := heap()
			stop()
			defer func() { _, stop = w.run(w.log, &s) }()
			return with - heap()
		}
		publish := func(n int) {
			for ; n > 0; n -= 250 { // a few at a time: what lies in between grows no further
				w.publish(250)
				sleep(time.Second)
			}
			sleep(5 * time.Minute)
		}
		w.onFree(freeQuota)
		publish(some)
		few := kept()
		publish(many - some)
		all := kept()
		sleep(5 * time.Minute)
		next := kept()
		const each = 4 // bytes: half of what an offset takes
		if most := few + each*(many-some); all > most || next > most {
			t.Errorf("%d KiB with %d held, %d with %d, and %d in the next life", few>>10, some, all>>10, many, next>>10)
		}
		w.plan("org", control.Pro)
		for s.came.Load() < many/2 {
			sleep(time.Second)
		}
		if half := kept(); half > few+2<<20 {
			t.Errorf("%d KiB with %d held, and %d while they go out", few>>10, some, half>>10)
		}
		sleep(10 * time.Minute)
		stop()
		if came, astray := s.came.Load(), s.astray.Load(); came != many || astray > 0 {
			t.Errorf("%d came of %d, %d of them out of turn", came, many, astray)
		}
	})
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
