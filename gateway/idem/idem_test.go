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

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

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
