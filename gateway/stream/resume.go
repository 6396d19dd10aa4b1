package stream

import (
	"context"
	"slices"
	"sync"

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

// do looks for where the replay begins, then reads and writes it a piece at a time. It
// isn't queued: a replay waits for its client and loses nothing, and holds no more
// than what is being written.
func (t *catchUp) do(c *conn) error {
	defer c.caughtUp()
	ctx, cancel := context.WithCancel(c.hub.ctx)
	defer cancel()
	if !c.cancelWith(&c.cancel, cancel) {
		return nil // the end is queued
	}
	defer c.cancelWith(&c.cancel, nil)

	last, err := t.lookBack(ctx, c)
	if err != nil {
		return t.failed(c, t.from, err)
	}
	result := "whole"
	if last.Skipped > 0 || last.AtLeast {
		result = "truncated"
		c.correct(t, last.From)
		if err := c.carrier.write([][]byte{c.replyFrame(&dialect.Reply{
			Kind: dialect.ReplyTruncated, Count: last.Skipped, AtLeast: last.AtLeast,
			Cursor: c.cursorOf(t.from),
		})}); err != nil {
			return err
		}
	}
	p := pieces.Get().(*piece)
	defer p.giveBack()
	for at := last.From; at < t.to; {
		frames, next, err := c.read(ctx, p, at, t.to, t.wants)
		if err != nil {
			return t.failed(c, at, err)
		}
		bufs := p.bufs[:0]
		for _, f := range frames {
			bufs = append(bufs, f.bytes)
		}
		if err := c.carrier.write(bufs); err != nil {
			return err
		}
		c.sent(len(bufs))
		at = next
	}
	c.hub.metrics.replays.WithLabelValues(result).Inc()
	return nil
}

// failed tells the client that the replay stops at that place, for now. The stream
// goes on.
func (t *catchUp) failed(c *conn, at int64, err error) error {
	if c.cancelled() {
		return nil // the end is queued
	}
	c.hub.cfg.Logger.Warn("replay not read", "environment", t.env.String(), "from", t.from, "at", at, "to", t.to, "error", err)
	c.hub.metrics.replays.WithLabelValues("failed").Inc()
	c.correct(t, t.to)
	return c.carrier.write([][]byte{c.replyFrame(errorReply(dialect.Unavailable, "the past can't be read now: the stream goes on live, resume again from your cursor"))})
}

// lookBack finds where the newest few begin. Others that look come in between.
func (t *catchUp) lookBack(ctx context.Context, c *conn) (*replay.Newest, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.ReplayWithin)
	defer cancel()
	last, err := c.hub.cfg.Past[t.env].Newest(ctx, t.from, t.to, c.limits.Replay, t.wants)
	for more := true; more && err == nil; {
		err = c.hub.turns.take(ctx, t.org, func() error {
			more, err = last.Step(ctx)
			return err
		})
	}
	return last, err
}

// The bounds of what is read at a time, and so of what a connection holds whose
// client doesn't take it.
const (
	chunkEvents = 64
	chunkData   = 32 << 10 // bytes, but for the first event
)

// piece has room for what is read at a time, on its way to a client.
type piece struct {
	events [chunkEvents]*event.Event
	frames [chunkEvents]frame
	bufs   [chunkEvents][]byte
}

// pieces that nobody uses. A crowd that resumes would leave more garbage of these than of
// all else, and whoever is live waits while it is collected.
var pieces = sync.Pool{New: func() any { return new(piece) }}

// giveBack is called when nobody looks at anything in the piece any more.
func (p *piece) giveBack() {
	*p = piece{}
	pieces.Put(p)
}

// read reads some events of [from, to) that the client wants into p, in the form in
// which they are sent, and gives the place behind them.
func (c *conn) read(ctx context.Context, p *piece, from, to int64, wants func(*event.Event) bool) (frames []frame, next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.ReplayWithin)
	defer cancel()
	next = from
	err = c.hub.turns.take(ctx, c.org, func() error {
		page, err := c.hub.cfg.Past[c.environment].Forward(ctx, from, to, replay.Most{Events: chunkEvents, Data: chunkData, Into: p.events[:0]}, wants)
		if err != nil {
			return err
		}
		frames = p.frames[:0]
		for _, ev := range page.Events {
			frames = c.appendFrame(frames, ev)
		}
		next = page.Next
		return nil
	})
	return frames, next, err
}

// appendFrame adds an event of the past. Its frame is others' as well, unless each
// org has its own.
func (c *conn) appendFrame(frames []frame, ev *event.Event) []frame {
	e := c.hub.sharing[c.environment].entry(c.hub, ev, c.form().perOrg())
	if b := e.frame(int(c.speaks), c.form(), c.org).bytes; b != nil {
		frames = append(frames, frame{bytes: b, offset: ev.Offset})
	}
	return frames
}

// correct has the pair begin where its replay really did, so that a later
// resume doesn't take for sent what wasn't.
func (c *conn) correct(t *catchUp, from int64) {
	c.shard.call(func() {
		pairs := slices.Clone(c.pairs)
		if same := indexOf(pairs, &t.pair); same >= 0 {
			pairs[same].from = from
		}
		c.pairs = pairs
	})
}

// cancelWith has the end of the connection call cancel, which is to be found at that
// place; false: it has come already, and what is queued isn't wanted any more.
func (c *conn) cancelWith(at *context.CancelFunc, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	*at = cancel
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
	c.wakeReader()
}
