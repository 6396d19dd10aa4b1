package control_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// asked counts how often the end of the log is looked up.
type asked struct {
	eventlog.Log
	n atomic.Int64
}

func (l *asked) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	l.n.Add(1)
	time.Sleep(time.Millisecond) // as on brokers
	return l.Log.Bounds(ctx, p)
}

// However many ask with keys that nobody has, the log is looked at so often and
// no oftener; and fan-out, which must know now, doesn't wait for them.
func TestAFloodOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &asked{Log: eventlogtest.Mem(t, topics...)}
		c := open(t, log)
		time.Sleep(time.Second)
		log.n.Store(0)
		began := time.Now()
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 200 {
			wg.Go(func() {
				for time.Since(began) < 10*time.Second {
					if _, err := c.Authenticate(t.Context(), string(key.New(event.Live))); err == nil {
						t.Error("let in")
					}
					refused.Add(1)
				}
			})
		}
		time.Sleep(5 * time.Second)
		at := time.Now()
		if err := c.Fresh(t.Context()); err != nil || time.Since(at) > 3*time.Millisecond {
			t.Errorf("fan-out waited %s, %v", time.Since(at), err)
		}
		wg.Wait()
		if most := int64(10*time.Second/control.RecheckEvery) + 3; log.n.Load() > most || refused.Load() < 200*400 {
			t.Errorf("%d keys refused, the log asked %d times, more than %d", refused.Load(), log.n.Load(), most)
		}
		c.Close()
	})
}

// The first to ask after a while doesn't wait.
func TestRecheckAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, &asked{Log: eventlogtest.Mem(t, topics...)})
		for range 3 {
			time.Sleep(time.Second)
			at := time.Now()
			if err := c.Recheck(t.Context()); err != nil || time.Since(at) != time.Millisecond {
				t.Errorf("waited %s, %v", time.Since(at), err)
			}
		}
		c.Close()
	})
}
