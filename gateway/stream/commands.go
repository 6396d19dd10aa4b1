package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	datafilter "sluice/pkg/filter"
	"sluice/pkg/key"
	"sluice/replay"
)

// lookupWithin bounds what a message may wait for the log.
const lookupWithin = 5 * time.Second

// obey does what a message asks for. It is the reader's, so messages are done in
// their order, each before the next is looked at.
func (c *conn) obey(cmd *dialect.Command) *Ending {
	switch cmd.Verb {
	case dialect.VerbPong:
		return nil
	case dialect.VerbPing:
		c.sayAside(c.replyFrame(&dialect.Reply{Kind: dialect.ReplyPong}))
		return nil
	}
	if cmd.Token != "" {
		if in, e := c.authenticate(cmd); !in || cmd.Verb == dialect.VerbAuth {
			return e
		}
	}
	if !c.known {
		c.say(unauthorized("authenticate first, with an API key"))
		return nil
	}
	c.awaitReplay()
	if cmd.Verb == dialect.VerbUnsubscribe {
		return c.unsubscribe(cmd)
	}
	return c.subscribe(cmd)
}

// awaitReplay waits until the replay of an earlier subscribe is over, so that
// what this one asks for is known against what was sent.
func (c *conn) awaitReplay() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replays == 0 {
		return
	}
	c.waiting.Store(true)
	for c.replays > 0 && !c.mute {
		c.await()
	}
	c.seen.Store(int64(c.hub.now()))
	c.waiting.Store(false)
}

// fail ends the connection from within the reader; the parser stops with what
// it returns.
func (c *conn) fail(e *Ending, last *dialect.Reply) *Ending {
	c.end(e, last)
	return e
}

// authenticate looks at the key that a message brings; in: it is good.
func (c *conn) authenticate(cmd *dialect.Command) (in bool, _ *Ending) {
	p, refusal, err := c.lookUp(cmd.Token)
	switch {
	case err != nil:
		c.hub.cfg.Logger.Warn("key not looked up", "error", err)
		c.say(errorReply(dialect.Unavailable, "the key can't be checked now: send it again"))
		return false, nil
	case refusal != nil:
		return false, c.fail(&endBadKey, refusal)
	case cmd.Org != "" && cmd.Org != p.Org:
		c.say(errorReply(dialect.Forbidden, "the key is of another org"))
		return false, nil
	case !p.Can(key.Subscribe):
		c.say(errorReply(dialect.Forbidden, `the key lacks the scope "subscribe"`))
		return false, nil
	case p.Network != "":
		c.say(errorReply(dialect.Forbidden, "the key is for one network, and streams aren't: use one that is for all"))
		return false, nil
	}
	if !c.known {
		if !c.hub.enter(c, p.Org) {
			return false, c.fail(&endCrowd, errorReply(dialect.RateLimited, fmt.Sprintf("the org has %d connections, which is all it may", c.limits.PerOrg)))
		}
	} else if c.org != p.Org || c.environment != p.Environment {
		return false, c.fail(&endOtherOrg, errorReply(dialect.BadRequest, "an open connection can only be renewed with a key of its own org and environment"))
	}
	c.known = true
	gone := false
	alive := c.shard.call(func() {
		if c.org == "" {
			c.nextPing = c.hub.now() + c.limits.Ping - c.spread()
			c.org, c.environment = p.Org, p.Environment // for good: others read them
			c.usage = c.hub.cfg.Usage.Of(p.Org, p.Environment)
		}
		c.shard.bear(c, p.KeyID)
		c.expires = p.ExpiresAt
		// It may have been taken away since it was looked up: nobody knew of this connection.
		if gone = c.hub.cfg.Access.Key(p.KeyID) == nil; !gone {
			c.say(&dialect.Reply{Kind: dialect.ReplyAuthOK, Environment: p.Environment})
		}
	})
	switch {
	case !alive:
		return false, c.fail(&endShutdown, nil)
	case gone:
		return false, c.fail(&endRevoked, unauthorized(revoked))
	}
	return true, nil
}

// lookUp gives the token's principal; refusal is for the client, err for us.
func (c *conn) lookUp(token string) (p *key.Principal, refusal *dialect.Reply, err error) {
	if p = c.hub.cfg.Access.Known(token); p != nil {
		return p, nil, nil
	}
	c.wait(func() { p, err = c.hub.cfg.Access.Authenticate(c.hub.ctx, token) })
	switch {
	case errors.Is(err, control.ErrExpired):
		return nil, unauthorized("the key has expired"), nil
	case errors.Is(err, control.ErrUnauthorized):
		return nil, unauthorized("the key is not known: check that it is whole, and for the right environment"), nil
	}
	return p, nil, err
}

// parsePatterns reads patterns; the error is the client's.
func parsePatterns(channels []string) (event.Patterns, *dialect.Error) {
	patterns := make(event.Patterns, 0, len(channels))
	for _, ch := range channels {
		p, err := event.ParsePattern(ch)
		if err != nil {
			return nil, &dialect.Error{Code: dialect.BadRequest, Message: fmt.Sprintf("%q can't be subscribed to: %v", dialect.Clip(ch, 64), err)}
		}
		if !slices.Contains(patterns, p) {
			patterns = append(patterns, p)
		}
	}
	return patterns, nil
}

// parseFilter reads a condition on data; nil: there is none, or the error is the
// client's.
func parseFilter(text string) (*datafilter.Filter, *dialect.Error) {
	if text == "" {
		return nil, nil
	}
	text, err := datafilter.Parse([]byte(text))
	var f *datafilter.Filter
	if err == nil && text != "" {
		f, err = datafilter.Of(text)
	}
	if err != nil {
		return nil, &dialect.Error{Code: dialect.BadRequest, Message: dialect.Clip(err.Error(), 512)}
	}
	return f, nil
}

func (c *conn) subscribe(cmd *dialect.Command) *Ending {
	patterns, wrong := parsePatterns(cmd.Channels)
	if wrong != nil {
		return c.badMessage(wrong)
	}
	data, wrong := parseFilter(cmd.Filter)
	if wrong != nil {
		return c.badMessage(wrong)
	}
	p := pair{patterns: patterns, data: data}
	if cmd.Corridors != nil {
		p.corridors = slices.Compact(slices.Sorted(slices.Values(cmd.Corridors)))
	}
	from, refusal := int64(-1), (*dialect.Error)(nil)
	if cmd.Cursor != "" {
		c.wait(func() { from, refusal = c.hub.resumeFrom(c.environment, cmd.Cursor) })
	}
	if refusal != nil && refusal.Code == dialect.Unavailable {
		c.say(&dialect.Reply{Kind: dialect.ReplyError, Error: refusal})
		return nil
	}
	alive := c.shard.call(func() { wrong = c.add(p, cmd, from, refusal) })
	if !alive {
		return c.fail(&endShutdown, nil)
	}
	switch {
	case wrong == nil:
	case wrong.Code == dialect.RateLimited: // by others of its org: nothing was wrong with the message
		c.say(&dialect.Reply{Kind: dialect.ReplyError, Error: wrong})
	default:
		return c.badMessage(wrong)
	}
	return nil
}

// resumeFrom gives the place that a cursor names, -1 when there is none. An
// error of the cursor doesn't keep the subscribe from going live.
func (h *Hub) resumeFrom(env event.Environment, cursor string) (int64, *dialect.Error) {
	if cursor == "" {
		return -1, nil
	}
	ctx, cancel := context.WithTimeout(h.ctx, lookupWithin)
	defer cancel()
	from, err := h.cfg.Past[env].Place(ctx, cursor)
	switch {
	case err == nil:
		return from, nil
	case errors.Is(err, replay.ErrCursorExpired):
		h.metrics.replays.WithLabelValues("expired").Inc()
		return -1, cursorExpired
	case errors.Is(err, replay.ErrCursorInvalid):
		h.metrics.replays.WithLabelValues("invalid").Inc()
		return -1, &dialect.Error{Code: dialect.InvalidCursor, Message: "this is no cursor of this environment: the stream goes on live"}
	}
	h.cfg.Logger.Warn("cursor not looked up", "error", err)
	return -1, &dialect.Error{Code: dialect.Unavailable, Message: "the past can't be read now, nothing was subscribed: send subscribe again"}
}

var cursorExpired = &dialect.Error{Code: dialect.CursorExpired, Message: "what followed this cursor isn't kept any more: the stream goes on live"}

// add is the shard's part of a subscribe. Between two events it makes the pair
// live, and queues the answer and the replay of what lies before: whatever comes
// live from now on stands behind these in the queue.
func (c *conn) add(p pair, cmd *dialect.Command, from int64, refusal *dialect.Error) *dialect.Error {
	room := c.shard.rooms[c.environment]
	stands := c.reached()
	to := stands
	c.mu.Lock()
	lost := c.queue.losses()
	p.live = c.queue.oldest(stands) // what still waits may be lost yet, and is then no longer covered
	c.mu.Unlock()
	p.from = stands
	if from >= 0 {
		p.from = from
	}
	if from > stands {
		p.live = from // another node was ahead of this one: wait for what is new to the client
	}
	before := c.pairs
	pairs := slices.Clone(before)
	if same := indexOf(pairs, &p); same < 0 {
		pairs = append(pairs, p)
		patterns, weight := patternsOf(pairs)
		if patterns > c.limits.Patterns || len(pairs) > maxPairs {
			return &dialect.Error{Code: dialect.BadRequest, Message: fmt.Sprintf("a connection has at most %d patterns: what was subscribed to before stands", c.limits.Patterns)}
		}
		if len(filterKey(pairs)) > c.limits.Message {
			return &dialect.Error{Code: dialect.BadRequest, Message: fmt.Sprintf("what a connection subscribes to has at most %d bytes, patterns, corridors and filters together: what was subscribed to before stands", c.limits.Message)}
		}
		if !c.hub.hold(c, weight) {
			return &dialect.Error{Code: dialect.RateLimited, Message: fmt.Sprintf("the connections of the org may have %d patterns here, of which a filter counts as %d, and this would be more: what was subscribed to before stands", c.limits.OrgPatterns, conditionWeight)}
		}
	} else if from >= 0 && from < stands {
		if q := &pairs[same]; q.from < from && !lost.within(q.from, from) {
			p.from = q.from
		}
		pairs[same] = p
	}
	room.place(c, pairs)
	c.keeps = c.keeps || cmd.Keep
	if from > stands {
		c.ahead = max(c.ahead, from)
	}

	ok := &dialect.Reply{Kind: dialect.ReplySubscribeOK, Channels: cmd.Channels, Corridors: cmd.Corridors}
	if from >= 0 {
		stands = from
	}
	ok.Cursor = c.cursorOf(stands)
	items := []item{{bytes: c.replyFrame(ok)}}
	if refusal != nil {
		items = append(items, item{bytes: c.replyFrame(&dialect.Reply{Kind: dialect.ReplyError, Error: refusal})})
	}
	if from >= 0 {
		c.hub.metrics.resumes.WithLabelValues(c.hub.source(c.environment, from, to)).Inc()
		items = append(items, item{task: &catchUp{
			env: c.environment, org: c.org, pair: p, from: from, to: to,
			before: before, lost: lost,
		}})
	}
	c.push(items...)
	return nil
}

func (c *conn) unsubscribe(cmd *dialect.Command) *Ending {
	patterns, wrong := parsePatterns(cmd.Channels)
	if wrong != nil {
		return c.badMessage(wrong)
	}
	alive := c.shard.call(func() {
		var left []pair
		for _, p := range c.pairs {
			p.patterns = slices.DeleteFunc(slices.Clone(p.patterns), func(q event.Pattern) bool { return slices.Contains(patterns, q) })
			if len(p.patterns) > 0 {
				left = append(left, p)
			}
		}
		_, weight := patternsOf(left)
		c.hub.hold(c, weight)
		c.shard.rooms[c.environment].place(c, left)
		c.say(&dialect.Reply{Kind: dialect.ReplyUnsubscribeOK, Channels: cmd.Channels})
	})
	if !alive {
		return c.fail(&endShutdown, nil)
	}
	return nil
}
