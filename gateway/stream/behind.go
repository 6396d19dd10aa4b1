package stream

import (
	"context"
	"errors"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/replay"
)

// readOn brings a connection that is behind back to where the others are. It is for
// those that lose nothing: when the next event doesn't fit into its queue, the
// connection stops being live at this place, and reads the past from there, a
// little whenever all before has gone out. So what waits for a client is bounded,
// however far behind it is, and it is read to at its own pace:
//
//	live:      … │ event 7 │ event 8 │               9 doesn't fit
//	behind:    … │ event 7 │ event 8 │ readOn 9      10, 11, … aren't offered
//	its turn:  event 9 │ event 10 │ … │ readOn 40    what was said meanwhile stands before
//	live:      event 40 │ … │ event 52 │ event 53    52 was the shard's last: 53 is offered
//
// The last step is the shard's, between two events, so nothing is passed over and
// nothing comes twice. Who resumes without loss begins behind.
//
// What a connection is subscribed to may change meanwhile, and does so at the place to
// which it has been read: what was being read then is read again.
type readOn struct {
	from   int64  // everything before is queued, or went out
	pairs  []pair // what is being read; the shard sets it between turns
	failed time.Duration
	cancel context.CancelFunc // of what is being read; nil: nothing is. c.mu guards it
}

// spliceWithin is through how many offsets, at most, the shard itself looks for what
// is left.
const spliceWithin = 4096

// fallBehind has the connection read on from that offset. The shard calls it, with
// c.mu held.
func (c *conn) fallBehind(from int64) {
	c.reading = &readOn{from: from, pairs: c.pairs}
	c.hub.metrics.behind.Inc()
	c.put(item{task: c.reading})
}

// stands is the cursor of the place before which everything is queued: for who came
// with one that is ahead of this node that one, unless another pair of theirs is live
// already. The shard calls it.
func (c *conn) stands() string {
	next := c.reached()
	if c.reading == nil && len(c.pairs) > 0 {
		live := c.pairs[0].live
		for i := range c.pairs {
			live = min(live, c.pairs[i].live)
		}
		next = max(next, live)
	}
	return c.cursorOf(next)
}

// reached is the offset of the event that may be queued next. The shard calls it.
func (c *conn) reached() int64 {
	if c.reading != nil {
		return c.reading.from
	}
	return c.shard.rooms[c.environment].next
}

// do reads a little and has the shard queue it. It writes nothing itself, so it hasn't the
// word: heartbeats and answers go out while it waits for its turn, or for the log.
func (t *readOn) do(c *conn) error {
	ctx, cancel := context.WithCancel(c.hub.ctx)
	defer cancel()
	if !c.cancelWith(&t.cancel, cancel) || c.ended() != nil {
		return nil // told where it stands
	}
	p := pieces.Get().(*piece)
	defer p.giveBack()
	frames, next, err := c.read(ctx, p, t.from, c.hub.position[c.environment].Load(), func(ev *event.Event) bool { return c.isFor(ev, t.pairs) })
	expired := errors.Is(err, replay.ErrCursorExpired)
	if err == nil || expired || c.cancelled() {
		t.failed = 0
	} else {
		c.hub.cfg.Logger.Warn("past not read, trying again", "environment", c.environment.String(), "from", t.from, "error", err)
		t.failed = max(retryShortest, min(2*t.failed, retryLongest))
		pause(ctx, t.failed)
	}
	c.cancelWith(&t.cancel, nil) // the next turn may begin before this one has returned
	if expired {
		c.hub.metrics.replays.WithLabelValues("expired").Inc()
		c.shard.call(func() { c.giveUp(t) })
		return nil
	}
	c.shard.call(func() { c.goOn(t, frames, next) })
	return nil
}

// isFor reports whether a connection that is subscribed to these is to have the event.
func (c *conn) isFor(ev *event.Event, pairs []pair) bool {
	return ev.Audience.Includes(c.org) && anyLive(pairs, ev)
}

// goOn queues what was read, and the next turn behind it, unless there is little left
// and at hand: then the connection is live again. The shard calls it.
func (c *conn) goOn(t *readOn, frames []frame, next int64) {
	if !samePairs(t.pairs, c.pairs) {
		frames, next, t.pairs = nil, t.from, c.pairs
	}
	rest, live := c.upTo(next, c.shard.rooms[c.environment].next)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return
	}
	for _, f := range append(frames, rest...) {
		c.queue.keepEvent(f)
	}
	if live {
		c.goLive()
		return
	}
	t.from = next
	c.put(item{task: t})
}

// upTo gives what the connection is to have of [from, to), where the window has that
// and a queue holds it.
func (c *conn) upTo(from, to int64) (frames []frame, all bool) {
	if from >= to {
		return nil, true
	}
	window, most := c.hub.cfg.Windows[c.environment], c.bounds()
	if window == nil || to-from > spliceWithin {
		return nil, false
	}
	events, all := window.Since(from, to, int(to-from))
	if !all {
		return nil, false
	}
	for _, ev := range events {
		if !c.isFor(ev, c.pairs) {
			continue
		}
		if most.bytes -= len(ev.Data); most.bytes < 0 || len(frames) == most.events {
			return nil, false
		}
		frames = c.appendFrame(frames, ev)
	}
	return frames, true
}

// giveUp goes on live, and says that what was before is no longer kept. The shard
// calls it.
func (c *conn) giveUp(t *readOn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return
	}
	c.goLive()
	c.put(item{bytes: c.replyFrame(&dialect.Reply{Kind: dialect.ReplyError, Error: cursorExpired, Cursor: c.stands()})})
}

// goLive ends being behind. The shard calls it, with c.mu held.
func (c *conn) goLive() {
	c.reading = nil
	c.hub.metrics.behind.Dec()
	c.carrier.wake()
}
