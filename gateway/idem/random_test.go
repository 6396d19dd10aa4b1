package idem

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// moody is a log on brokers that have a bad day: what is appended may be lost, in
// whole or in part, come up to 4 s later, whatever who appended it does, and be
// answered for late.
type moody struct {
	eventlog.Log
	mu    sync.Mutex
	rnd   *rand.Rand
	calm  bool
	works sync.WaitGroup
}

func (m *moody) mood() (lost, cut, deaf bool, late, slow time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calm {
		return false, false, false, 0, 0
	}
	delay := func() time.Duration {
		if m.rnd.IntN(3) > 0 {
			return 0
		}
		return time.Duration(m.rnd.Int64N(int64(eventlog.Lateness)))
	}
	return m.rnd.IntN(8) == 0, m.rnd.IntN(8) == 0, m.rnd.IntN(8) == 0, delay(), delay()
}

func (m *moody) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	lost, cut, deaf, late, slow := m.mood()
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
		time.Sleep(slow)
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
// in the log once; a key has one answer; and of those who give one id to
// different events one publishes, and of the others nothing is in the log.
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
				answers := make(map[string]string) // by key, and by who was answered at all
				var publishers sync.WaitGroup
				for i := range 4 {
					publishers.Go(func() {
						for try := 0; ; try++ {
							_, err := some().Do(t.Context(), request("", fmt.Sprintf("rival=%d", i), fmt.Sprintf("with%d=x", i)))
							var other *Conflict
							switch {
							case err == nil:
								mu.Lock()
								answers["rival"] += fmt.Sprint(i)
								mu.Unlock()
								return
							case errors.As(err, &other):
								return
							case try == 100:
								t.Errorf("rival %d was never answered", i)
								return
							}
							time.Sleep(time.Second)
						}
					})
				}
				for i := range 12 {
					publishers.Go(func() {
						// Some of the ids are others' too, with the same content.
						events := []string{fmt.Sprintf("mine%d=x", i/2), fmt.Sprintf("ours%d=x", i%3), fmt.Sprintf("ours%d=x", (i+1)%3), fmt.Sprintf("more%d=x", i)}
						key := ""
						if i%4 < 2 {
							key, events = fmt.Sprintf("key%d", i%4), []string{fmt.Sprintf("=%d", i%4), "ours0=x", fmt.Sprintf("keyed%d=x", i%4)}
						}
						for try := 0; ; try++ {
							result, err := some().Do(t.Context(), request(key, events...))
							if err == nil && key != "" && result.Replayed {
								mu.Lock()
								if said := fmt.Sprint(result.IDs); answers[key] == "" {
									answers[key] = said
								} else if answers[key] != said {
									t.Errorf("%s was answered %s and %s", key, answers[key], said)
								}
								mu.Unlock()
							}
							if err == nil && (key == "" || result.Replayed) {
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
					if won := answers["rival"]; ev.ID == "rival" && string(ev.Data) != `{"x":"`+won+`"}` || strings.HasPrefix(ev.ID, "with") && ev.ID != "with"+won {
						t.Errorf("rival %s published, and the log has %s %s", won, ev.ID, ev.Data)
					}
					if _, ours := event.IDTime(ev.ID); ours {
						made++
					} else {
						ids[ev.ID]++
					}
				}
				if len(ids) != 3+2+6+3+2 || made != 2 { // ours, keyed, more, mine, rival with another; one for each key
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
