package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/eventlog"
)

// follow applies the log until ctx ends, or until it can't any more.
func (c *Control) follow(ctx context.Context) {
	const shortest, longest = 50 * time.Millisecond, 2 * time.Second
	delay := shortest
	for {
		err := c.tail(ctx, func() { delay = shortest })
		switch {
		case ctx.Err() != nil:
			c.fail(ErrClosed)
			return
		case errors.Is(err, errDiverged): // judge has said so
			return
		case errors.Is(err, errUnknown), errors.Is(err, errKey), errors.Is(err, eventlog.ErrTooOld), errors.Is(err, eventlog.ErrPastEnd), errors.Is(err, eventlog.ErrClosed):
			c.fail(err)
			c.logger.Error("control log can't be followed any more", "offset", c.Applied()+1, "error", err)
			return
		}
		c.mu.Lock()
		if c.failing.IsZero() {
			c.failing = time.Now()
		}
		c.mu.Unlock()
		c.logger.Warn("control log can't be followed, trying again", "error", err, "delay", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, longest)
	}
}

func (c *Control) recovered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = time.Time{}
}

// fail has nothing more applied. The first reason stands.
func (c *Control) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
	c.wake()
}

// wake tells who waits for progress to look again. c.mu is held.
func (c *Control) wake() {
	close(c.progress)
	c.progress = make(chan struct{})
}

// tail applies what comes until an error.
func (c *Control) tail(ctx context.Context, alive func()) error {
	tail, err := c.log.Tail(ctx, partition, c.Applied()+1)
	if err != nil {
		return err
	}
	defer tail.Close()
	// A tail may open and fail a moment later: one that stands counts as recovered.
	defer time.AfterFunc(patience, c.recovered).Stop()
	for {
		records, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		alive()
		c.recovered()
		for i := range records {
			if err := c.apply(&records[i]); err != nil {
				return err
			}
		}
	}
}

// apply applies one record and tells who waits for it, and who watches.
func (c *Control) apply(r *eventlog.Record) error {
	id, at, cmd, err := decode(r.Value)
	if errors.Is(err, errUnknown) {
		return fmt.Errorf("command at offset %d: %w", r.Offset, err)
	}
	changes, refused, fatal := c.change(r, at, cmd, err)
	if fatal != nil {
		return fatal
	}
	if err == nil && errors.Is(refused, errUnreadable) {
		err = refused
	}
	if err != nil {
		c.logger.Error("command skipped", "offset", r.Offset, "error", err)
	}
	c.watchMu.Lock()
	for i := range changes {
		for _, fn := range c.watchers {
			fn(changes[i])
		}
	}
	c.watchMu.Unlock()

	if err != nil {
		refused = err
	}
	c.answer(id, r.Offset, changes, refused)
	return nil
}

// change applies a command to the state, unless err says that there is none. An
// error of its own is the end of this state.
func (c *Control) change(r *eventlog.Record, at time.Time, cmd Command, err error) (changes []Change, refused, fatal error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return nil, nil, c.failed
	}
	if cmd, ok := cmd.(*check); ok && err == nil {
		c.compare(cmd, r)
	} else {
		c.unsaved++
		c.unchecked++
	}
	if err == nil {
		changes, refused = cmd.apply(c.state, stamp{offset: r.Offset, at: at})
	}
	if err != nil || errors.Is(refused, errUnreadable) {
		c.skipped++
		changes = nil
	}
	if fatal = c.state.missingKey(); fatal != nil {
		c.unsaved = 0 // the state is one command ahead of its place: no snapshot of it
		return nil, nil, fatal
	}
	c.applied, c.newest = r.Offset, sha256.Sum256(r.Value)
	c.trail.note(r.Offset, c.state.hash)
	c.wake()
	return changes, refused, nil
}

// errKey: the secrets behind here can't be opened, and skipping their endpoints
// would make another state of the same commands.
var errKey = errors.New("give the right file with --secrets-key-file")

// missingKey looks for a key that secrets are sealed with and that this node
// doesn't have.
func (s *state) missingKey() error {
	for _, fingerprint := range s.sealedWith {
		if !s.sealer.Has(fingerprint) {
			return fmt.Errorf("the secrets in this log were sealed with the key %s, and this is %s: %w", fingerprint, s.sealer.Fingerprint(), errKey)
		}
	}
	return nil
}

// answer tells whoever waits here for the command with the id.
func (c *Control) answer(id string, offset int64, changes []Change, refused error) {
	c.pendingMu.Lock()
	wait := c.pending[id]
	c.pendingMu.Unlock()
	if wait == nil {
		return
	}
	o := outcome{err: refused, change: Change{Offset: offset}}
	if len(changes) > 0 {
		o.change = changes[len(changes)-1]
	}
	select {
	case wait <- o:
	default: // the same record a second time
	}
}
