package stream

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/pkg/event"
)

// Whoever is the shard is so alone, whether it is the shard's goroutine or a caller;
// what one posts is done in its order; and nothing that was posted is left.
func TestOneIsTheShard(t *testing.T) {
	const callers, rounds = 8, 500
	s := New(Config{Shards: 1}).shards[0]
	var ended, called sync.WaitGroup
	ended.Go(s.run)
	done := 0 // the shard's
	var inside atomic.Bool
	alone := func() {
		if inside.Swap(true) {
			t.Error("two are the shard")
		}
		runtime.Gosched() // others may try
		done++
		inside.Store(false)
	}
	for range callers {
		called.Go(func() {
			posted, ran := 0, 0 // also the shard's
			for i := range rounds {
				s.inbox.post(work{fn: func() { posted++; alone() }})
				if i%16 == 0 {
					if err := s.inbox.push(context.Background(), news{env: event.Sandbox, next: 1}); err != nil {
						t.Error(err)
					}
				}
				s.call(func() {
					alone()
					s.inbox.post(work{fn: func() { ran++; alone() }}) // as what it sends does
					if posted != i+1 {
						t.Errorf("%d of %d that were posted before were done", posted, i+1)
					}
				})
			}
			s.call(func() {
				if ran != rounds {
					t.Errorf("%d of %d that were posted from within were done", ran, rounds)
				}
			})
		})
	}
	called.Wait()
	s.inbox.close()
	ended.Wait()
	if want := 3 * callers * rounds; done != want {
		t.Errorf("%d were done, of %d", done, want)
	}
	if s.call(func() { t.Error("a shard that had ended did something") }) {
		t.Error("a shard that had ended took a call")
	}
}

// What a caller leaves to be done is done though nobody comes any more.
func TestCallerLeavesNothingBehind(t *testing.T) {
	s := New(Config{Shards: 1}).shards[0]
	var ended sync.WaitGroup
	ended.Go(s.run)
	for range 200 {
		ran := make(chan struct{})
		s.call(func() {
			s.inbox.post(work{fn: func() { // done by the caller, who is still the shard
				s.inbox.post(work{fn: func() { close(ran) }}) // and this by its goroutine
			}})
		})
		<-ran
	}
	s.inbox.close()
	ended.Wait()
}
