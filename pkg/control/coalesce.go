package control

import (
	"context"
	"sync"
	"time"
)

// coalesced shares one look-up among all that ask for it before it begins. A
// look-up that is already under way is no good to who comes later: it may have
// seen less. So at most two matter at any time, one running and one waited for,
// and however many ask, the log is asked by one.
type coalesced struct {
	every time.Duration // from the beginning of a look-up to the next, at least; 0: no time

	mu      sync.Mutex
	running bool
	began   time.Time // the newest look-up
	next    *lookup
}

type lookup struct {
	done chan struct{}
	end  int64
	err  error
}

// do waits for a look-up that began after the call. Look-ups end with life: the
// first to ask may give up while others still want to know.
func (l *coalesced) do(ctx, life context.Context, look func(context.Context) (int64, error)) (int64, error) {
	l.mu.Lock()
	if l.next == nil {
		l.next = &lookup{done: make(chan struct{})}
	}
	mine := l.next
	if !l.running {
		l.running = true
		go l.run(life, look)
	}
	l.mu.Unlock()
	select {
	case <-mine.done:
		return mine.end, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run looks until nobody asks any more.
func (l *coalesced) run(life context.Context, look func(context.Context) (int64, error)) {
	for {
		l.mu.Lock()
		if l.next == nil {
			l.running = false
			l.mu.Unlock()
			return
		}
		wait := time.Until(l.began.Add(l.every))
		l.mu.Unlock()
		if wait > 0 { // who asks meanwhile shares the look-up
			select {
			case <-time.After(wait):
			case <-life.Done():
			}
		}
		l.mu.Lock()
		cur := l.next
		l.next, l.began = nil, time.Now()
		l.mu.Unlock()
		bounded, cancel := context.WithTimeout(life, patience)
		cur.end, cur.err = look(bounded)
		cancel()
		close(cur.done)
	}
}
