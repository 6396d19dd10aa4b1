package stream

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestTurns: no more read at a time than admitted, an org with a crowd delays
// itself only, and who goes while it waits takes nobody's turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
		turns := newTurns(2, gauge)
		began := time.Now()
		var reading, most atomic.Int64
		ends := make(chan string, 2000) // who read, in order
		read := func(org string, ctx context.Context) {
			err := turns.take(ctx, org, func() error {
				if n := reading.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				reading.Add(-1)
				return nil
			})
			if err != nil {
				org = "gone"
			}
			ends <- org
		}
		hurried, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		for i := range 1000 {
			go read("org_crowd", t.Context())
			if i%2 == 0 {
				go read("org_crowd", hurried)
			}
		}
		synctest.Wait()
		for i := range 10 {
			go read(fmt.Sprint("org_", i), t.Context())
		}
		late := map[string]time.Duration{}
		gone := 0
		for range 1510 {
			org := <-ends
			late[org] = time.Since(began)
			if org == "gone" {
				gone++
			}
		}
		for i := range 10 {
			if d := late[fmt.Sprint("org_", i)]; d > 20*time.Second {
				t.Errorf("org_%d waited %v for a crowd of another", i, d)
			}
		}
		if most.Load() != 2 || gone < 498 || turns.free != 2 || len(turns.of) != 0 || len(turns.lines) != 0 {
			t.Errorf("%d at a time, %d gone, %d free, %d lines", most.Load(), gone, turns.free, len(turns.of))
		}
		if took := late["org_crowd"]; took > 520*time.Second {
			t.Errorf("the crowd took %v", took)
		}
	})
}
