package stream

import (
	"time"

	"sluice/pkg/dialect"
)

// tickEvery is how often a shard looks at its connections' times. A timer for
// each connection would cost memory and wake-ups; these need no precision.
const tickEvery = 250 * time.Millisecond

// tick ends what took too long and pings the others, each in its own time.
func (s *shard) tick(now time.Duration) {
	wall := time.Now()
	for i := len(s.conns) - 1; i >= 0; i-- { // backwards: tick may take this one out
		c := s.conns[i]
		switch {
		case c.org == "" && now-c.opened >= c.limits.Auth:
			c.end(&endNoAuth, unauthorized("no auth in time"))
		case !c.expires.IsZero() && !wall.Before(c.expires):
			c.end(&endExpired, unauthorized("the key has expired"))
		case c.stream != nil && now-time.Duration(c.seen.Load()) >= c.limits.Silent && !c.waiting.Load():
			c.end(&endSilent, nil)
		case c.org != "" && now >= c.nextPing:
			c.nextPing += c.between()
			c.ping()
		}
		c.carrier.tick(now)
	}
}

// between is the time between pings. A client that says nothing hears from us more
// often: proxies close what is silent.
func (c *conn) between() time.Duration {
	if c.stream == nil {
		return c.limits.Heartbeat
	}
	return c.limits.Ping
}

// spread is a part of that time, so that who came together isn't pinged together.
func (c *conn) spread() time.Duration {
	return time.Duration(c.number%16) * c.between() / 64
}

// ping asks for a sign of life. A client that hasn't taken the last ones isn't sent
// more. The shard calls it.
func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil || c.crowded() {
		return
	}
	r := &dialect.Reply{Kind: dialect.ReplyPing}
	if c.replays == 0 { // else it goes before what the cursor says was sent
		r.Cursor = c.stands()
	}
	c.putAside(c.replyFrame(r))
}
