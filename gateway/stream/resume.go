package stream

import (
	"context"
	"slices"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/replay"
)

// catchUp is the replay of one subscribe: what is in [from, to), matches the
// pair, and wasn't sent for an earlier pair. It is a task in the connection's
// queue, right behind the subscribe's answer, and what came live since stands
// behind it. So the order is right by itself, and nothing is spliced:
//
//	… │ subscribe.ok │ catchUp [from, to) │ live event to, to+1, …
//
// to is where the shard stood when it made the pair live. An event that was
// logged before the subscribe and not yet read by the tail has an offset of to or
// more: it comes live.
type catchUp struct {
	env      event.Environment
	org      string
	pair     pair
	from, to int64
	before   []pair // the pairs there were
	lost     losses // what of theirs was dropped
}

// wants reports whether the event is to be replayed.
func (t *catchUp) wants(ev *event.Event) bool {
	return ev.Audience.Includes(t.org) && t.pair.match(ev) && !t.covered(ev)
}

// covered reports whether the event went out, or waits in the queue, for an
// earlier pair.
func (t *catchUp) covered(ev *event.Event) bool {
	for i := range t.before {
		p := &t.before[i]
		if ev.Offset < p.from || !p.match(ev) {
			continue
		}
		if ev.Offset < p.live || !t.lost.has(ev.Offset) {
			return true
		}
	}
	return false
}

// do reads and writes the replay.
func (t *catchUp) do(c *conn) error {
	defer c.caughtUp()
	ctx, cancel := context.WithTimeout(c.hub.ctx, c.limits.ReplayWithin)
	defer cancel()
	if !c.cancelWith(cancel) {
		return nil // the end is queued
	}
	defer c.cancelWith(nil)

	last, err := c.readPast(ctx, t)
	if err != nil {
		if c.cancelled() {
			return nil // the end is queued
		}
		c.hub.cfg.Logger.Warn("replay not read", "environment", t.env.String(), "from", t.from, "to", t.to, "error", err)
		c.hub.metrics.replays.WithLabelValues("failed").Inc()
		c.correct(t, t.to)
		return c.carrier.write([][]byte{c.replyFrame(errorReply(dialect.Unavailable, "the past can't be read now: the stream goes on live, resume again from your cursor"))})
	}
	result := "whole"
	if last.Skipped > 0 || last.AtLeast {
		result = "truncated"
		begin := t.to
		if len(last.Events) > 0 {
			begin = last.Events[0].Offset
		}
		c.correct(t, begin)
		if err := c.carrier.write([][]byte{c.replyFrame(&dialect.Reply{
			Kind: dialect.ReplyTruncated, Count: last.Skipped, AtLeast: last.AtLeast,
			Cursor: place(c.hub.cfg.Incarnation, t.env, t.from).String(),
		})}); err != nil {
			return err
		}
	}
	c.hub.metrics.replays.WithLabelValues(result).Inc()

	// Written a few at a time, and not queued: a replay waits for its client and
	// loses nothing.
	for events := range slices.Chunk(last.Events, batchFrames/4) {
		var frames [][]byte
		for _, ev := range events {
			if f := c.form.event(ev, c.org, place(c.hub.cfg.Incarnation, t.env, ev.Offset+1)); f != nil {
				frames = append(frames, f)
			}
		}
		n := len(frames)
		if err := c.carrier.write(frames); err != nil {
			return err
		}
		c.sent(n)
	}
	return nil
}

// readPast reads what is to be replayed.
func (c *conn) readPast(ctx context.Context, t *catchUp) (last replay.Last, err error) {
	err = c.hub.inTurn(ctx, func() error {
		last, err = c.hub.cfg.Past[t.env].Newest(ctx, t.from, t.to, c.limits.Replay, t.wants)
		return err
	})
	return last, err
}

// inTurn reads the past as one of a bounded number that do.
func (h *Hub) inTurn(ctx context.Context, read func() error) error {
	select {
	case h.replays <- struct{}{}:
		defer func() { <-h.replays }()
		return read()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// correct has the pair begin where its replay really did, so that a later
// resume doesn't take for sent what wasn't.
func (c *conn) correct(t *catchUp, from int64) {
	c.shard.call(func() {
		pairs := slices.Clone(c.pairs)
		for i := range pairs {
			if pairs[i].sameAs(&t.pair) {
				pairs[i].from = from
			}
		}
		c.pairs = pairs
	})
}

// cancelWith has the end of the connection call cancel; false: it has come
// already, and what is queued isn't wanted any more.
func (c *conn) cancelWith(cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
	return c.ending == nil || !c.ending.cut && !c.ending.discard
}

func (c *conn) cancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mute || c.ending != nil && (c.ending.cut || c.ending.discard)
}

// caughtUp counts a replay that is over.
func (c *conn) caughtUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replays--
	c.cond.Broadcast()
}
