package control

import (
	"context"
	"math/rand/v2"
	"time"
)

// When a snapshot is due: some minutes after a command, or after so many commands
// that reading them again would take longer than the snapshot.
const (
	keepEvery    = 5 * time.Minute
	keepJitter   = time.Minute // so that nodes don't all write their checks at once
	keepCommands = 10_000
)

// keep makes snapshots and checks until ctx ends or nothing more is applied.
// Where nothing changes it does nothing.
func (c *Control) keep(ctx context.Context) {
	for c.awaitDue(ctx) {
		c.save()
		c.mu.RLock()
		unchecked := c.unchecked
		c.mu.RUnlock()
		if unchecked == 0 {
			continue // another node was first
		}
		if err := c.check(ctx); err != nil && ctx.Err() == nil {
			c.logger.Warn("state of control can't be compared between nodes", "error", err)
		}
	}
}

// awaitDue returns true when a snapshot is due.
func (c *Control) awaitDue(ctx context.Context) bool {
	var due <-chan time.Time
	for {
		c.mu.RLock()
		unsaved, many := c.unsaved, max(keepCommands, len(c.state.endpoints)/4)
		failed, doubted, progress := c.failed, c.doubted > 0, c.progress
		c.mu.RUnlock()
		switch {
		case failed != nil:
			return false
		case unsaved >= many && !doubted: // else it would be due, and not written, all the time
			return true
		case unsaved > 0 && due == nil:
			due = time.After(keepEvery + rand.N(keepJitter))
		}
		select {
		case <-progress:
		case <-due:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// save writes a snapshot, if anything was applied since the last. It holds up the
// state no longer than it takes to copy its pointers.
func (c *Control) save() {
	c.fileMu.Lock()
	defer c.fileMu.Unlock()
	c.mu.Lock()
	if c.unsaved == 0 || c.diverged || c.doubted > 0 || !c.ready {
		c.mu.Unlock()
		return
	}
	c.unsaved = 0
	if c.path == "" {
		c.mu.Unlock()
		return
	}
	m := c.moment()
	c.mu.Unlock()
	if err := replace(c.path, m.encode); err != nil {
		c.logger.Warn("snapshot of control not written, the next start will read more of its log", "file", c.path, "error", err)
	}
}
