package idem

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// moody is a log on brokers that have a bad day: what is appended may be lost, in
// whole or in part, or come after who appended it has given up, though not by
// two seconds.
type moody struct {
	eventlog.Log
	mu    sync.Mutex
	rnd   *rand.Rand
	calm  bool
	works sync.WaitGroup
}

func (m *moody) mood() (lost, cut, deaf bool, late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calm {
		return false, false, false, 0
	}
	if m.rnd.IntN(3) == 0 {
		late = time.Duration(m.rnd.IntN(7000)) * time.Millisecond
	}
	return m.rnd.IntN(8) == 0, m.rnd.IntN(8) == 0, m.rnd.IntN(8) == 0, late
}

func (m *moody) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	lost, cut, deaf, late := m.mood()
	if deadline, ok := ctx.Deadline(); ok {
		late = min(late, time.Until(deadline)+takeOver-giveUp-100*time.Millisecond)
	}
	if lost {
		return nil, errLost
	}
	if cut && len(records) > 1 {
		records, deaf = records[:len(records)/2], true
	}
	type answer struct {
		offsets []int64
		err     error
	}
	answered := make(chan answer, 1)
	m.works.Go(func() {
		time.Sleep(late)
		offsets, err := m.Log.Append(context.WithoutCancel(ctx), records)
		answered <- answer{offsets, err}
	})
	select {
	case a := <-answered:
		if deaf {
			return nil, errLost
		}
		return a.offsets, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestRandomly: whatever the log loses and whichever node is asked, also one that
// has just started, every event that a publisher sent until it was answered is
// in the log once.
func TestRandomly(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				log := &moody{Log: eventlogtest.Mem(t, topics...), rnd: rand.New(rand.NewPCG(seed, 2))}
				defer log.works.Wait()
				var mu sync.Mutex
				nodes := []*Claims{startNode(t, log, 0), startNode(t, log, 0), startNode(t, log, 0)}
				some := func() *Claims {
					mu.Lock()
					defer mu.Unlock()
					return nodes[rnd.IntN(len(nodes))]
				}
				var publishers sync.WaitGroup
				for i := range 12 {
					publishers.Go(func() {
						// Some of the ids are others' too, with the same content.
						events := []string{fmt.Sprintf("mine%d=x", i/2), fmt.Sprintf("ours%d=x", i%3), fmt.Sprintf("ours%d=x", (i+1)%3), fmt.Sprintf("more%d=x", i)}
						key := ""
						if i%4 < 2 {
							key, events = fmt.Sprintf("key%d", i%4), []string{fmt.Sprintf("=%d", i%4), "ours0=x", fmt.Sprintf("keyed%d=x", i%4)}
						}
						for try := 0; ; try++ {
							if _, err := some().Do(t.Context(), request(key, events...)); err == nil {
								return
							}
							if try == 100 {
								t.Errorf("%v was never taken", events)
								return
							}
							time.Sleep(time.Second)
						}
					})
				}
				time.Sleep(20 * time.Second)
				fresh := startNode(t, log, 0)
				mu.Lock()
				nodes[0] = fresh
				mu.Unlock()
				time.Sleep(2 * time.Minute)
				log.mu.Lock()
				log.calm = true
				log.mu.Unlock()
				publishers.Wait()
				time.Sleep(time.Minute)

				ids := make(map[string]int)
				made := 0
				for _, ev := range logged(t, log) {
					if _, ours := event.IDTime(ev.ID); ours {
						made++
					} else {
						ids[ev.ID]++
					}
				}
				if len(ids) != 3+2+6+3 || made != 2 { // ours, keyed, more, mine; one for each key
					t.Errorf("%d events of %v, and %d with ids of ours", len(ids), ids, made)
				}
				for id, n := range ids {
					if n != 1 {
						t.Errorf("%s is in the log %d times", id, n)
					}
				}
			})
		})
	}
}
