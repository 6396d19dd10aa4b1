package web

import (
	"strconv"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/usage"
)

// count counts one API request of a call against the plan of its org.
func (s *Server) count(c *Call) error {
	org := s.cfg.Access.Org(c.Principal.Org)
	if org == nil { // deleted since the key was looked up
		return &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "the key is not known: check that it is whole and not revoked"}
	}
	now := time.Now()
	most := org.Plan.Limits().Requests
	left, ends := s.cfg.Minutes.Take(org.ID, most, now)
	if c.used = most - left; left >= 0 {
		s.cfg.Usage.Of(org.ID, c.Principal.Environment).Add(usage.Requests, 1)
	}
	return c.rated(most, left, ends, now, "the plan's requests for this minute are used up")
}

// countAddress counts a call of a route that is bounded by address.
func (s *Server) countAddress(c *Call) error {
	now, most := time.Now(), c.route.PerAddress
	left, ends := s.addresses.Take(c.route.label+" "+c.From(), most, now)
	return c.rated(most, left, ends, now, "there were too many of these calls from this address: wait")
}

// mostAddresses bounds the addresses that are counted at one time.
const mostAddresses = 200_000

// rated tells how many calls are left, and refuses one that was too many.
func (c *Call) rated(most, left int, ends, now time.Time, refusal string) error {
	if c.route.RateHeaders {
		h := &c.Response.Header
		h.Set("X-RateLimit-Limit", strconv.Itoa(most))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, left)))
		h.Set("X-RateLimit-Reset", strconv.Itoa(Seconds(time.Duration(ends.UnixNano()))))
	}
	if left < 0 {
		return &dialect.Error{Status: 429, Code: dialect.RateLimited, RetryAfter: Seconds(ends.Sub(now)), Message: refusal}
	}
	return nil
}

// Seconds gives whole ones, none of them too few.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
