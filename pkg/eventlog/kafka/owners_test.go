package kafka_test

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/eventlog/kafka"
)

const patience = 30 * time.Second

// shares watches who works on which partition.
type shares struct {
	t    *testing.T
	mu   sync.Mutex
	of   map[int32]string // who works on it
	cond *sync.Cond
}

func newShares(t *testing.T) *shares {
	s := &shares{t: t, of: make(map[int32]string)}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// work is what one owner runs; leaving takes the time.
func (s *shares) work(who string, leaving time.Duration) func(context.Context, eventlog.Share) {
	return func(ctx context.Context, share eventlog.Share) {
		n := share.Partition
		s.mu.Lock()
		if other, taken := s.of[n]; taken {
			s.t.Errorf("%s and %s work on partition %d at once", who, other, n)
		}
		s.of[n] = who
		s.cond.Broadcast()
		s.mu.Unlock()
		<-ctx.Done()
		<-time.After(leaving)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.of, n)
		s.cond.Broadcast()
	}
}

// await waits until each works on as many partitions as it should.
func (s *shares) await(want map[string]int) {
	s.t.Helper()
	timeout := time.AfterFunc(patience, s.cond.Broadcast)
	defer timeout.Stop()
	begin := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		got := make(map[string]int)
		for _, who := range s.of {
			got[who]++
		}
		same := len(got) == len(want)
		for who, n := range want {
			same = same && got[who] == n
		}
		if same {
			s.t.Logf("%v after %v", want, time.Since(begin).Round(10*time.Millisecond))
			return
		}
		if time.Since(begin) > patience {
			s.t.Fatalf("after %v the shares are %v, want %v", patience, got, want)
		}
		s.cond.Wait()
	}
}

// Two processes share a topic; one partition is never worked on by both, though
// work takes its time to leave; who stays takes over what is left.
func TestOwnersShare(t *testing.T) {
	topic := eventlog.Topic{Name: "lanes", Partitions: 16}
	s := newShares(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	own := func(who string) (l eventlog.Log, leave func()) {
		l = eventlogtest.Kafka(t, topic)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := l.Own(ctx, topic.Name, s.work(who, 100*time.Millisecond)); err != nil {
				t.Errorf("Own of %s: %v", who, err)
			}
		})
		return l, cancel
	}
	_, leaveA := own("a")
	defer leaveA()
	s.await(map[string]int{"a": 16})
	_, leaveB := own("b")
	defer leaveB()
	s.await(map[string]int{"a": 8, "b": 8})
	leaveA()
	s.await(map[string]int{"b": 16})
	_, leaveC := own("c")
	defer leaveC()
	s.await(map[string]int{"b": 8, "c": 8})
	leaveC()
	s.await(map[string]int{"b": 16}) // half of it comes back
}

// Members come and go all the time: a partition is never worked on by two, each
// has its owner most of the time, and in the end they share again.
func TestOwnersStorm(t *testing.T) {
	t.Parallel()
	topic := eventlog.Topic{Name: "lanes", Partitions: 16}
	s := newShares(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	own := func(who string) (leave func()) {
		l := eventlogtest.Kafka(t, topic)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := l.Own(ctx, topic.Name, s.work(who, 300*time.Millisecond)); err != nil {
				t.Errorf("Own of %s: %v", who, err)
			}
		})
		return cancel
	}
	leaving := []func(){own("first")}
	s.await(map[string]int{"first": 16})
	var looks, owned int
	for i := range 8 {
		if i%2 == 0 {
			leaving = append(leaving, own(string(rune('a'+i))))
		} else {
			leaving[0]()
			leaving = leaving[1:]
		}
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			s.mu.Lock()
			looks, owned = looks+16, owned+len(s.of)
			s.mu.Unlock()
		}
	}
	if owned*2 < looks {
		t.Errorf("of %d looks at a partition, %d found an owner", looks, owned)
	}
	t.Logf("of %d looks at a partition, %d found an owner", looks, owned)
	defer own("last")()
	defer leaving[0]()
	s.await(map[string]int{"g": 8, "last": 8})
}

// Work that is slow, longer than a session, makes nobody think that its owner is
// dead: heartbeats don't wait for it. Work that is slow to return when it must is
// told that the partition isn't its own any more before another begins.
func TestSlowWork(t *testing.T) {
	t.Parallel()
	const session = 5 * time.Second
	cluster, l := fake(t, func(c *kafka.Config) { c.Session = session })
	var mu sync.Mutex
	began := make(map[int32]int)
	var slow atomic.Int32 // partitions whose first owner was told
	var shares [4]atomic.Pointer[eventlog.Share]
	own := func(l *kafka.Log, first bool) (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := l.Own(ctx, "lanes", func(ctx context.Context, share eventlog.Share) {
				mu.Lock()
				began[share.Partition]++
				mu.Unlock()
				if !first {
					if old := shares[share.Partition].Load(); old.Ours() || !share.Ours() {
						t.Errorf("partition %d: the first owner takes it for its own: %v", share.Partition, old.Ours())
					}
					slow.Add(1)
					<-ctx.Done()
					return
				}
				shares[share.Partition].Store(&share)
				time.Sleep(session + 2*time.Second) // it looks at nothing
				if ctx.Err() != nil || !share.Ours() {
					t.Errorf("partition %d was taken from its owner: %v", share.Partition, ctx.Err())
				}
				<-ctx.Done()
				time.Sleep(7 * time.Second)
			})
			if err != nil {
				t.Errorf("Own: %v", err)
			}
		}()
		return func() { cancel(); <-done }
	}
	defer own(l, true)()
	time.Sleep(session + 5*time.Second)
	mu.Lock()
	if !maps.Equal(began, map[int32]int{0: 1, 1: 1, 2: 1, 3: 1}) {
		t.Errorf("work began %v times", began)
	}
	mu.Unlock()
	other := open(t, kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: "f.", Topics: topics, Logger: quiet, Session: session})
	defer own(other, false)()
	for end := time.Now().Add(patience); slow.Load() == 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
	if slow.Load() == 0 {
		t.Error("the second owner got nothing")
	}
}
