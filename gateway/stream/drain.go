package stream

import (
	"context"
	"math"
	"sync"
	"time"

	"sluice/pkg/dialect"
)

// drainPace is the time between two that are told to go, in all shards together, as
// long as there is time for that: 200 a second come back elsewhere.
const drainPace = 5 * time.Millisecond

// Drain refuses new connections and sends the open ones away, told where they
// stand. They go one by one, so that they don't all come back at once: many are
// spread over four fifths of the time that ctx leaves, and the last to go have the
// rest for what waits for them. It returns when none is left, or when ctx ends; Run
// then cuts the rest. The tails go on meanwhile.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()

	most := time.Duration(math.MaxInt64)
	if end, ok := ctx.Deadline(); ok {
		most = time.Until(end) * 4 / 5
	}
	var shards sync.WaitGroup
	for _, s := range h.shards {
		shards.Go(func() { s.drain(ctx, most) })
	}
	gone := make(chan struct{})
	go func() {
		shards.Wait()
		h.open.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err() // Run ends what is left, and with it the goroutine above
	}
}

// drain sends the shard's connections away, within most.
func (s *shard) drain(ctx context.Context, most time.Duration) {
	var conns []*conn
	s.call(func() { conns = append(conns, s.conns...) })
	if len(conns) == 0 {
		return
	}
	began := time.Now()
	over := min(most, time.Duration(len(conns)*len(s.hub.shards))*drainPace)
	for i, c := range conns {
		turn := over * time.Duration(i) / time.Duration(len(conns))
		if early := turn - time.Since(began); early > 0 {
			pause(ctx, early)
		}
		if ctx.Err() != nil || !s.call(c.goAway) {
			return
		}
	}
}

// goAway tells the client where it stands, behind all that is queued for it.
// The shard calls it.
func (c *conn) goAway() {
	r := &dialect.Reply{Kind: dialect.ReplyGoingAway}
	if len(c.pairs) > 0 {
		r.Cursor = c.stands()
	}
	c.end(&endDrain, r)
}

// late sends a connection away that was let in just before the drain began and
// became one of the shard's just after.
func (h *Hub) late(c *conn) {
	h.mu.Lock()
	draining := h.draining
	h.mu.Unlock()
	if draining {
		c.shard.call(c.goAway)
	}
}
