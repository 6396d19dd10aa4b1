package idem

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// Whatever the log loses of what a request appends, the next one with the same
// body completes it, on the same node, on another, or after a restart.
func TestCompletes(t *testing.T) {
	half := func(log *faulty) *func([]eventlog.Record) error {
		hook := func(records []eventlog.Record) error {
			if records[0].Topic != event.Sandbox.Topic() {
				return nil
			}
			log.Log.Append(context.Background(), records[:1])
			return errLost
		}
		return &hook
	}
	for name, lose := range map[string]func(log *faulty){
		"claim's answer": func(log *faulty) { log.after.Store(failing(Topic.Name, kindClaim)) },
		"all events":     func(log *faulty) { log.before.Store(failing(event.Sandbox.Topic(), 0)) },
		"some events":    func(log *faulty) { log.before.Store(half(log)) },
		"events' answer": func(log *faulty) { log.after.Store(failing(event.Sandbox.Topic(), 0)) },
		"done":           func(log *faulty) { log.before.Store(failing(Topic.Name, kindDone)) },
		"claim":          func(log *faulty) { log.before.Store(failing(Topic.Name, kindClaim)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &faulty{Log: eventlogtest.Mem(t, topics...)}
				first, second := startNode(t, log, 0), startNode(t, log, 0)
				lose(log)
				made := request("key", "=1", "own=2", "=3")
				_, err := first.Do(t.Context(), made)
				if (err == nil) != (name == "done") {
					t.Fatal(err)
				}
				log.before.Store(nil)
				log.after.Store(nil)
				third := startNode(t, log, 0)
				begun := time.Now()
				if name == "done" {
					if do(t, first, request("key", "=1", "own=2", "=3")); time.Since(begun) > 0 {
						t.Error("who appended it waited for others to say so")
					}
				}
				var crowd sync.WaitGroup
				for _, c := range []*Claims{second, third, first, third, second} {
					crowd.Go(func() {
						result := do(t, c, request("key", "=1", "own=2", "=3"))
						if name != "claim" && !slices.Equal(result.IDs, []string{made.Events[0].ID, "own", made.Events[2].ID}) {
							t.Errorf("answered %v", result.IDs)
						}
					})
					crowd.Go(func() { do(t, c, request("", "own=2")) })
				}
				crowd.Wait()
				if took := time.Since(begun); took > patience {
					t.Errorf("took %v", took)
				}
				// Whoever came first with the id alone had nothing of the others.
				do(t, second, request("key", "=1", "own=2", "=3"))
				events := logged(t, log)
				ids := make(map[string]int)
				for _, ev := range events {
					ids[ev.ID]++
				}
				for _, ev := range made.Events {
					if name != "claim" && ids[ev.ID] != 1 {
						t.Errorf("%s isn't in the log once", ev.ID)
					}
				}
				if len(events) != 3 || len(ids) != 3 {
					t.Errorf("the log has %v", ids)
				}
			})
		})
	}
}

// What a kill cut in two is completed in the order that its request had.
func TestCompletesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		c := startNode(t, log, 0)
		var texts, ids []string
		for i := range 100 {
			ids = append(ids, fmt.Sprintf("e%d", i))
			texts = append(texts, ids[i]+"=1")
		}
		cut := func(records []eventlog.Record) error {
			if records[0].Topic != event.Sandbox.Topic() {
				return nil
			}
			log.Log.Append(context.Background(), records[:10])
			return errLost
		}
		log.before.Store(&cut)
		if _, err := c.Do(t.Context(), request("key", texts...)); err == nil {
			t.Fatal("taken")
		}
		log.before.Store(nil)
		do(t, startNode(t, log, 0), request("key", texts...))
		expectLogged(t, log, ids...)
	})
}

// One that has only some of a claim's events completes only those.
func TestCompletesInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		c := startNode(t, log, 0)
		log.before.Store(failing(event.Sandbox.Topic(), 0))
		first := request("", "a=1", "b=1", "c=1")
		if _, err := c.Do(t.Context(), first); err == nil {
			t.Fatal("taken")
		}
		log.before.Store(nil)
		time.Sleep(time.Minute)
		do(t, c, request("", "b=1", "d=1"))
		time.Sleep(time.Minute)
		expectLogged(t, log, "d", "b")
		conflict(t, c, request("", "a=2"))
		if do(t, c, request("", "a=1", "b=1", "c=1")).Replayed {
			t.Error("replayed, and two were missing")
		}
		for _, ev := range logged(t, log) {
			if ev.ID != "d" && !ev.Timestamp.Equal(first.Events[0].Timestamp) {
				t.Errorf("%s is of %v, not of when it was first sent", ev.ID, ev.Timestamp)
			}
		}
		if got := len(logged(t, log)); got != 4 {
			t.Errorf("%d events", got)
		}
		if !do(t, startNode(t, log, 0), request("", "c=1", "a=1", "b=1")).Replayed {
			t.Error("not known after a restart")
		}
		if got := counted(t, c.metrics.completed); got != 2 {
			t.Errorf("%v were completed", got)
		}
	})
}

// A broker that hung may add what it was sent when who sent it has long given up.
func TestHeldByBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		c := startNode(t, log, 0)
		var sent []eventlog.Record
		hang := func(records []eventlog.Record) error {
			if records[0].Topic != event.Sandbox.Topic() {
				return nil
			}
			sent = records
			return errLost
		}
		log.before.Store(&hang)
		if _, err := c.Do(t.Context(), request("key", "=1", "=2")); err == nil {
			t.Fatal("taken")
		}
		log.before.Store(nil)
		time.Sleep(time.Minute)
		if _, err := log.Log.Append(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if !do(t, c, request("key", "=1", "=2")).Replayed {
			t.Error("not replayed")
		}
		if got := len(logged(t, log)); got != 2 {
			t.Errorf("%d events", got)
		}
	})
}

// Who had to wait long for its claim appends nothing: others may be about to.
func TestLateClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		c := startNode(t, log, 0)
		slow := func(records []eventlog.Record) error {
			if records[0].Topic == Topic.Name {
				time.Sleep(2 * time.Second)
			}
			return nil
		}
		log.after.Store(&slow)
		if _, err := c.Do(t.Context(), request("key", "=1")); err == nil {
			t.Error("taken")
		}
		expectLogged(t, log)
		log.after.Store(nil)
		do(t, c, request("key", "=1"))
		if got := len(logged(t, log)); got != 1 {
			t.Errorf("%d events", got)
		}
	})
}

// Events of an unfinished claim may stand among so many that they aren't found at
// once: the next try goes on where the one before stopped.
func TestSearchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowReads{faulty: faulty{Log: eventlogtest.Mem(t, topics...)}}
		c := startNode(t, log, 0)
		log.after.Store(failing(event.Sandbox.Topic(), 0))
		if _, err := c.Do(t.Context(), request("key", "=1")); err == nil {
			t.Fatal("taken")
		}
		log.after.Store(nil)
		for i := range 60 {
			do(t, c, request("", fmt.Sprintf("e%d=1", i)))
		}
		time.Sleep(time.Minute)
		log.slow.Store(true) // one event each 300 ms: 18 s for all of them, twice what is given to one try
		tries := 0
		for ; tries < 5; tries++ {
			result, err := c.Do(t.Context(), request("key", "=1"))
			if err == nil && !result.Replayed {
				t.Error("it was appended again")
			}
			if err == nil {
				break
			}
		}
		if tries == 5 {
			t.Error("never completed")
		}
		if got := len(logged(t, log)); got != 61 {
			t.Errorf("%d events", got)
		}
	})
}
