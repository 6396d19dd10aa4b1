package kafka_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
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
}
