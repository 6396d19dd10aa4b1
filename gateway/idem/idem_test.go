package idem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var topics = []eventlog.Topic{Topic, {Name: event.Sandbox.Topic(), Partitions: 1}, {Name: event.Live.Topic(), Partitions: 1}}

// faulty is a log that can be made to fail. Being no eventlog.Private, it is one
// that nodes share.
type faulty struct {
	eventlog.Log
	before atomic.Pointer[func([]eventlog.Record) error] // an append's; its error keeps the records out
	after  atomic.Pointer[func([]eventlog.Record) error] // its error comes although they are in
}

func (f *faulty) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if hook := f.before.Load(); hook != nil {
		if err := (*hook)(records); err != nil {
			return nil, err
		}
	}
	offsets, err := f.Log.Append(ctx, records)
	if hook := f.after.Load(); hook != nil && err == nil {
		err = (*hook)(records)
	}
	return offsets, err
}

var errLost = errors.New("the answer was lost")

// failing fails those appends that hold a record of the topic and kind; kind 0:
// any.
func failing(topic string, kind byte) *func([]eventlog.Record) error {
	hook := func(records []eventlog.Record) error {
		if records[0].Topic == topic && (kind == 0 || records[0].Value[1] == kind) {
			return errLost
		}
		return nil
	}
	return &hook
}

func startNode(t *testing.T, log eventlog.Log, entries int) *Claims {
	t.Helper()
	_, private := log.(eventlog.Private)
	c := New(Config{Log: log, Append: log.Append, Private: private, Entries: entries, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-c.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("never ready")
	}
	return c
}

// onBoth runs a test in virtual time on a log that is the node's alone, and on one
// that nodes share.
func onBoth(t *testing.T, test func(t *testing.T, log eventlog.Log)) {
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, eventlogtest.Mem(t, topics...)) })
	})
	t.Run("shared", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &faulty{Log: eventlogtest.Mem(t, topics...)}) })
	})
}

// request makes one of events written "id=data"; without an id: "=data".
func request(key string, events ...string) *Request {
	r := &Request{Org: "org_a", Environment: event.Sandbox, Key: key, Batch: len(events) > 1, Now: time.Now()}
	for _, text := range events {
		id, data, _ := strings.Cut(text, "=")
		own := id != ""
		if !own {
			id = event.NewID(time.Now())
		}
		r.Events = append(r.Events, Event{OwnID: own, Event: &event.Event{ID: id, Type: "a.b", Environment: event.Sandbox, Org: "org_a",
			Key: "k", Timestamp: r.Now.UTC().Truncate(time.Millisecond), Audience: event.Audience{Orgs: []string{"org_a"}},
			Data: []byte(`{"x":"` + data + `"}`)}})
	}
	return r
}

func of(r *Request, org string, env event.Environment) *Request {
	r.Org, r.Environment = org, env
	for _, ev := range r.Events {
		ev.Org, ev.Environment = org, env
	}
	return r
}

// logged gives the events of the sandbox, in the order of the log.
func logged(t *testing.T, log eventlog.Log) (events []*event.Event) {
	t.Helper()
	p := eventlog.Partition{Topic: event.Sandbox.Topic()}
	_, end, err := log.Bounds(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for from := int64(0); from < end; {
		records, err := log.Read(t.Context(), p, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			ev, err := event.DecodeRecord(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, ev)
			from = r.Offset + 1
		}
	}
	return events
}

func expectLogged(t *testing.T, log eventlog.Log, want ...string) {
	t.Helper()
	var got []string
	for _, ev := range logged(t, log) {
		got = append(got, ev.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has %v, not %v", got, want)
	}
}

func do(t *testing.T, c *Claims, r *Request) *Result {
	t.Helper()
	result, err := c.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%v %v: %v", r.Key, r.Events[0].ID, err)
	}
	return result
}

func conflict(t *testing.T, c *Claims, r *Request) *Conflict {
	t.Helper()
	_, err := c.Do(t.Context(), r)
	var other *Conflict
	if !errors.As(err, &other) {
		t.Fatalf("no conflict, but %v", err)
	}
	return other
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].Metric[0].Counter.GetValue()
}

func TestIDs(t *testing.T) {
	onBoth(t, func(t *testing.T, log eventlog.Log) {
		c := startNode(t, log, 0)
		if do(t, c, request("", "a=1")).Replayed {
			t.Error("new, and replayed")
		}
		again := request("", "a=1")
		again.Events[0].Timestamp = again.Now.Add(time.Hour) // ours, not the publisher's
		if !do(t, c, again).Replayed {
			t.Error("not replayed")
		}
		if other := conflict(t, c, request("", "b=1", "a=2")); other.Key || !slices.Equal(other.Events, []int{1}) {
			t.Errorf("conflict %+v", other)
		}
		again.Events[0].OwnTime = true
		conflict(t, c, again)
		// Some known, some new, one without an id.
		mixed := request("", "b=1", "a=1", "c=1", "=x")
		if do(t, c, mixed).Replayed {
			t.Error("half of it is new, and replayed")
		}
		expectLogged(t, log, "a", "b", "c", mixed.Events[3].ID)
		if !do(t, c, request("", "c=1", "b=1")).Replayed {
			t.Error("not replayed")
		}
		// Others have ids of their own.
		do(t, c, of(request("", "a=2"), "org_b", event.Sandbox))
		do(t, c, of(request("", "a=2"), "org_a", event.Live))
		expectLogged(t, log, "a", "b", "c", mixed.Events[3].ID, "a")
	})
}

func TestKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, log eventlog.Log) {
		c := startNode(t, log, 0)
		first := request("key", "=1", "own=2")
		do(t, c, first)
		again := do(t, c, request("key", "=1", "own=2"))
		if want := []string{first.Events[0].ID, "own"}; !again.Replayed || !slices.Equal(again.IDs, want) {
			t.Errorf("%+v, want %v", again, want)
		}
		for _, r := range []*Request{request("key", "=1"), request("key", "=1", "own=3"), request("key", "=1", "other=2"), request("key", "=2", "own=2")} {
			if !conflict(t, c, r).Key {
				t.Error("the conflict isn't the key's")
			}
		}
		conflict(t, c, request("another", "own=3"))
		do(t, c, request("another", "own=2")) // known by its id, under a new key
		if !do(t, c, request("another", "own=2")).Replayed {
			t.Error("a key whose events were known isn't known itself")
		}
		do(t, c, of(request("key", "=9"), "org_b", event.Sandbox))
		if got := len(logged(t, log)); got != 3 {
			t.Errorf("%d events", got)
		}
	})
}

// What was taken in is known after a restart, for a day and not longer.
func TestRestart(t *testing.T) {
	onBoth(t, func(t *testing.T, log eventlog.Log) {
		first := startNode(t, log, 0)
		do(t, first, request("key", "=1"))
		do(t, first, request("", "a=1", "b=1"))
		time.Sleep(Kept - time.Second)
		second := startNode(t, log, 0)
		if !do(t, second, request("key", "=1")).Replayed || !do(t, second, request("", "b=1", "a=1")).Replayed {
			t.Error("forgotten by a restart")
		}
		time.Sleep(2 * time.Second)
		do(t, second, request("key", "=2"))
		do(t, second, request("", "a=2"))
		if _, alone := log.(eventlog.Private); !alone && !do(t, first, request("key", "=2")).Replayed {
			t.Error("unknown to the other node")
		}
		if got := len(logged(t, log)); got != 5 {
			t.Errorf("%d events", got)
		}
		time.Sleep(Kept + 2*grace)
		do(t, second, request("", "c=1"))
		if got := second.view.size(); got != 1 {
			t.Errorf("%d entries are remembered", got)
		}
	})
}

// Whatever happens at once, on however many nodes, one request publishes.
func concurrently(t *testing.T, log eventlog.Log, nodes ...*Claims) {
	var crowd sync.WaitGroup
	var mu sync.Mutex
	answers := make(map[string]int)
	fresh := 0
	for i := range 40 {
		crowd.Go(func() {
			r := request("key", "=1", "own=1")
			if i%4 == 3 {
				r = request("", "own=1")
			}
			result, err := nodes[i%len(nodes)].Do(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case !result.Replayed:
				fresh++
				fallthrough
			default:
				ids := result.IDs
				if ids == nil {
					ids = []string{r.Events[len(r.Events)-1].ID}
				}
				answers[fmt.Sprint(ids)]++
			}
		})
	}
	crowd.Wait()
	events := logged(t, log)
	if len(events) != 2 || fresh > 2 || fresh == 0 || len(answers) > 2 {
		t.Errorf("%d events, %d requests say that they appended, answers %v", len(events), fresh, answers)
	}
}

func TestConcurrently(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		concurrently(t, log, startNode(t, log, 0))
	})
	t.Run("two nodes", func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		concurrently(t, log, startNode(t, log, 0), startNode(t, log, 0))
	})
	t.Run("kafka", func(t *testing.T) {
		log := eventlogtest.Kafka(t, topics...)
		first := startNode(t, log, 0)
		concurrently(t, log, first, startNode(t, log, 0))
		if !do(t, startNode(t, log, 0), request("key", "=1", "own=1")).Replayed {
			t.Error("forgotten by a restart")
		}
	})
}

// A request that is under way is waited for, on its node and on others.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		slow := func(records []eventlog.Record) error {
			if records[0].Topic == event.Sandbox.Topic() {
				time.Sleep(3 * time.Second)
			}
			return nil
		}
		log.before.Store(&slow)
		nodes := []*Claims{startNode(t, log, 0), startNode(t, log, 0)}
		begun := time.Now()
		var crowd sync.WaitGroup
		var replayed atomic.Int32
		for i := range 6 {
			crowd.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				if do(t, nodes[i%2], request("key", "=1")).Replayed {
					replayed.Add(1)
				}
			})
		}
		crowd.Wait()
		if took := time.Since(begun); replayed.Load() != 5 || took < 3*time.Second || took > 4*time.Second {
			t.Errorf("%d replayed after %v", replayed.Load(), took)
		}
		if got := len(logged(t, log)); got != 1 {
			t.Errorf("%d events", got)
		}
	})
}

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

// Nobody knows whether an append that hangs is in the log: until it ends, the
// same request isn't appended again.
func TestHangingAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		release := make(chan struct{})
		c := New(Config{Log: log, Private: true, Logger: slog.New(slog.DiscardHandler),
			Append: func(ctx context.Context, records []eventlog.Record) ([]int64, error) {
				<-release
				return log.Append(ctx, records)
			}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		defer running.Wait()
		defer cancel()
		<-c.Ready()
		for range 2 {
			begun := time.Now()
			if _, err := c.Do(t.Context(), request("", "a=1")); err == nil || time.Since(begun) != patience {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		}
		close(release)
		if !do(t, c, request("", "a=1")).Replayed {
			t.Error("appended twice")
		}
		expectLogged(t, log, "a")
	})
}

// A node that can't read its claims any more begins only so many.
func TestNeverJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		c := startNode(t, log, 0)
		c.most = 100
		c.cfg.Append = func(_ context.Context, records []eventlog.Record) ([]int64, error) {
			return make([]int64, len(records)), nil // and nobody will read them
		}
		var crowd sync.WaitGroup
		for i := range c.most {
			crowd.Go(func() { c.Do(t.Context(), request("", fmt.Sprintf("e%d=1", i))) })
		}
		synctest.Wait()
		if _, err := c.Do(t.Context(), request("", "one more=1")); !errors.Is(err, ErrCrowded) {
			t.Errorf("one more: %v", err)
		}
		crowd.Wait()
	})
}

func TestNotReady(t *testing.T) {
	c := New(Config{Log: eventlogtest.Mem(t, topics...), Logger: slog.New(slog.DiscardHandler)})
	if _, err := c.Do(t.Context(), request("", "a=1")); !errors.Is(err, ErrNotReady) {
		t.Error(err)
	}
}

func TestEviction(t *testing.T) {
	onBoth(t, func(t *testing.T, log eventlog.Log) {
		c := startNode(t, log, 10)
		for i := range 30 {
			do(t, c, request("", fmt.Sprintf("e%d=1", i)))
		}
		if got := c.view.size(); got != 10 {
			t.Errorf("%d entries", got)
		}
		if got := counted(t, c.metrics.evicted); got != 20 {
			t.Errorf("%v were evicted", got)
		}
		if !do(t, c, request("", "e29=1")).Replayed || do(t, c, request("", "e0=1")).Replayed {
			t.Error("the wrong ones were forgotten")
		}
		// One request may have more than is remembered.
		var many []string
		for i := range 25 {
			many = append(many, fmt.Sprintf("m%d=1", i))
		}
		do(t, c, request("key", many...))
		if got := len(logged(t, log)); got != 31+25 || c.view.size() > 10 {
			t.Errorf("%d events, %d entries", got, c.view.size())
		}
	})
}

// A node that starts reads no more than it can remember, and remembers the same as
// one that has read all.
func TestStartSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		const most = 3000
		first := startNode(t, log, most)
		batch := func(n int) (key string, events []string) {
			for i := range 900 {
				events = append(events, fmt.Sprintf("%s_%d_%d=1", strings.Repeat("x", 50), n, i))
			}
			if n%2 == 0 {
				key = fmt.Sprint("key", n)
			}
			return key, events
		}
		for n := range 40 {
			key, events := batch(n)
			do(t, first, request(key, events...))
		}
		synctest.Wait()
		second := startNode(t, log, most)
		if got := counted(t, second.metrics.evicted); got < 1 || got > 30_000 {
			t.Errorf("%v were read and forgotten, of 54,000", got)
		}
		if got, want := second.view.size(), first.view.size(); got != want {
			t.Errorf("%d entries, and %d in the one that read all", got, want)
		}
		for _, n := range []int{39, 38} {
			key, events := batch(n)
			if !do(t, second, request(key, events...)).Replayed {
				t.Errorf("batch %d isn't known", n)
			}
		}
	})
}

func TestEntries(t *testing.T) {
	events := []claimedEvent{{own: true, claimed: true, id: "a"}, {own: true, id: "b"}, {claimed: true, id: "c"}}
	for _, c := range []struct {
		record interface{ encode() []byte }
		want   int
	}{
		{&claimRecord{org: "o", events: events}, 1},
		{&claimRecord{org: "o", keyed: true, events: events}, 5},
		{&doneRecord{indexes: []int{1}}, 0},
		{&takeRecord{}, 0},
	} {
		if got := entries(c.record.encode()); got != c.want {
			t.Errorf("%+v has %d", c.record, got)
		}
	}
}

// What was forgotten of an unfinished claim leaves the rest of it to be completed.
func TestEvictionOfUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &faulty{Log: eventlogtest.Mem(t, topics...)}
		c := startNode(t, log, 10)
		log.before.Store(failing(event.Sandbox.Topic(), 0))
		if _, err := c.Do(t.Context(), request("", "a=1", "b=1", "c=1")); err == nil {
			t.Fatal("taken")
		}
		log.before.Store(nil)
		for i := range 9 { // which forgets a and b
			do(t, c, request("", fmt.Sprintf("e%d=1", i)))
		}
		begun := time.Now()
		if do(t, c, request("", "c=1")).Replayed || time.Since(begun) > takeOver {
			t.Errorf("c was replayed, or completed after %v", time.Since(begun))
		}
		if !do(t, c, request("", "c=1")).Replayed {
			t.Error("c isn't known")
		}
		if n := len(c.view.open); n != 0 {
			t.Errorf("%d claims stay open that nothing leads to", n)
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

// slowReads is a log whose events are read one by one.
type slowReads struct {
	faulty
	slow atomic.Bool
}

func (s *slowReads) Read(ctx context.Context, p eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	if s.slow.Load() && p.Topic == event.Sandbox.Topic() {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		most = 1
	}
	return s.Log.Read(ctx, p, from, most)
}

// The day that a key is known is the log's: a node whose clock is hours ahead
// reads as far back as any other.
func TestClockAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &behind{Log: eventlogtest.Mem(t, topics...), by: 5 * time.Hour}
		do(t, startNode(t, log, 0), request("key", "=1"))
		time.Sleep(Kept - time.Hour)
		if c := startNode(t, log, 0); !do(t, c, request("key", "=1")).Replayed {
			t.Error("forgotten by a restart")
		}
		if got := len(logged(t, log.Log)); got != 1 {
			t.Errorf("%d events", got)
		}
	})
}

// behind is a log that nodes share, on a broker whose clock is behind.
type behind struct {
	eventlog.Log
	by time.Duration
}

func (b *behind) Read(ctx context.Context, p eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	records, err := b.Log.Read(ctx, p, from, most)
	return b.put(records), err
}

func (b *behind) OffsetAt(ctx context.Context, p eventlog.Partition, t time.Time) (int64, error) {
	return b.Log.OffsetAt(ctx, p, t.Add(b.by))
}

func (b *behind) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	tail, err := b.Log.Tail(ctx, p, from)
	return &tailBehind{tail, b}, err
}

func (b *behind) put(records []eventlog.Record) []eventlog.Record {
	records = slices.Clone(records)
	for i := range records {
		records[i].Time = records[i].Time.Add(-b.by)
	}
	return records
}

type tailBehind struct {
	eventlog.Tail
	log *behind
}

func (t *tailBehind) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	return t.log.put(records), err
}

// One broker whose clock runs away has nothing forgotten in other partitions.
func TestClocksOfPartitions(t *testing.T) {
	v := newView(10, func() { t.Error("evicted") })
	apply := func(number int32, at time.Time, id string) verdict {
		t.Helper()
		r := &claimRecord{id: newID(), env: event.Sandbox, org: "org_a", events: []claimedEvent{{own: true, claimed: true, id: id}}}
		came, forget := v.await(r.id)
		defer forget()
		if err := v.apply(&eventlog.Record{Partition: eventlog.Partition{Topic: Topic.Name, Number: number}, Time: at, Value: r.encode()}); err != nil {
			t.Fatal(err)
		}
		return <-came
	}
	now := time.Now()
	apply(1, now, "a")
	apply(2, now.Add(48*time.Hour), "b")
	if said := apply(1, now.Add(time.Hour), "a"); said.owned[0] {
		t.Error("a is claimed a second time")
	}
	if said := apply(1, now.Add(Kept), "a"); !said.owned[0] {
		t.Error("a is known for more than a day")
	}
}

func TestRecords(t *testing.T) {
	for _, r := range []interface{ encode() []byte }{
		&claimRecord{id: newID(), keyed: true, env: event.Live, now: time.UnixMilli(1795315842123).UTC(), org: "org_a", key: sum{1}, whole: sum{2},
			events: []claimedEvent{{own: true, claimed: true, content: 7, id: "a"}, {id: "b"}}},
		&claimRecord{id: newID(), along: true, env: event.Sandbox, now: time.UnixMilli(0).UTC(), org: "o", events: []claimedEvent{{claimed: true, id: "x"}}},
		&doneRecord{id: newID(), seq: 2, indexes: []int{0, 300}},
		&takeRecord{id: newID(), seq: 3, by: newID()},
	} {
		got, err := decode(r.encode())
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", r) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
		if got, err := decode(append(r.encode(), "of a later release"...)); err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", r) {
			t.Errorf("%+v with more behind it became %+v, %v", r, got, err)
		}
		for n := range r.encode() {
			if got, err := decode(r.encode()[:n]); err == nil {
				t.Errorf("cut off at %d: %+v", n, got)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&claimRecord{keyed: true, org: "o", events: []claimedEvent{{id: "x"}}}).encode())
	f.Add((&doneRecord{indexes: []int{1}}).encode())
	f.Add((&takeRecord{seq: 1}).encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		n := entries(value)
		r, err := decode(value)
		if err != nil {
			return
		}
		if claim, ok := r.(*claimRecord); ok && n > 1+2*len(claim.events) || !ok && n > 0 {
			t.Fatalf("%x has %d entries", value, n)
		}
		again, err := decode(r.(interface{ encode() []byte }).encode())
		if err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", r) {
			t.Fatalf("%x is %+v, is %+v, %v", value, r, again, err)
		}
		v := newView(10, func() {})
		for range 2 {
			v.apply(&eventlog.Record{Time: time.UnixMilli(1), Value: value})
		}
	})
}
