package stream

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// turns admits a bounded number of replays to read at the same time. The orgs that
// have somebody waiting take turns, and within one it is first come, first served: a
// crowd of one org delays itself. Who waits is bounded by the connections there are,
// each of which has one replay at a time.
type turns struct {
	mu      sync.Mutex
	free    int
	lines   []*orgLine // with somebody in them, in turn
	of      map[string]*orgLine
	waiting prometheus.Gauge
}

// orgLine is who waits of one org.
type orgLine struct {
	org     string
	waiting []*waiter
}

type waiter struct {
	turn chan struct{} // closed when it has come
	gone bool          // it doesn't wait any more
}

func newTurns(n int, waiting prometheus.Gauge) *turns {
	return &turns{free: n, of: make(map[string]*orgLine), waiting: waiting}
}

// take waits for the org's turn, and does what is to be done in it.
func (t *turns) take(ctx context.Context, org string, do func() error) error {
	if err := t.await(ctx, org); err != nil {
		return err
	}
	defer t.give()
	return do()
}

func (t *turns) await(ctx context.Context, org string) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	l := t.of[org]
	if l == nil {
		l = &orgLine{org: org}
		t.of[org] = l
		t.lines = append(t.lines, l)
	}
	w := &waiter{turn: make(chan struct{})}
	l.waiting = append(l.waiting, w)
	t.waiting.Inc()
	t.mu.Unlock()

	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.turn: // just now
		t.pass()
	default:
		w.gone = true
		t.waiting.Dec()
	}
	return ctx.Err()
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// pass gives a turn to who is next. t.mu is held.
func (t *turns) pass() {
	for len(t.lines) > 0 {
		l := t.lines[0]
		w := l.waiting[0]
		t.lines, l.waiting = t.lines[1:], l.waiting[1:]
		if len(l.waiting) > 0 {
			t.lines = append(t.lines, l)
		} else {
			delete(t.of, l.org)
		}
		if !w.gone {
			t.waiting.Dec()
			close(w.turn)
			return
		}
	}
	t.free++
}
