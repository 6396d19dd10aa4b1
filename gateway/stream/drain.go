package stream

import (
	"context"
	"sync"
	"time"

	"sluice/pkg/dialect"
)

// drainPace is the time between two that are told to go, in one shard, as long as
// they are few. Many are spread over Limits.Drain.
const drainPace = 2 * time.Millisecond

// Drain refuses new connections and sends the open ones away, told where they
// stand, spread over Limits.Drain so that they don't all come back at once. It
// returns when none is left, or when ctx ends; Run then cuts the rest. The tails
// go on meanwhile.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()

	var shards sync.WaitGroup
	for _, s := range h.shards {
		shards.Go(func() { s.drain(ctx) })
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

func (s *shard) drain(ctx context.Context) {
	var conns []*conn
	s.call(func() { conns = append(conns, s.conns...) })
	if len(conns) == 0 {
		return
	}
	began := time.Now()
	over := min(s.hub.limits.Drain, time.Duration(len(conns))*drainPace)
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
		r.Cursor = c.stands().String()
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
