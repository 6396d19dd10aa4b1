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
	if c.route.RateHeaders {
		h := &c.Response.Header
		h.Set("X-RateLimit-Limit", strconv.Itoa(most))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, left)))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(seconds(time.Duration(ends.UnixNano())), 10))
	}
	if left < 0 {
		return &dialect.Error{Status: 429, Code: dialect.RateLimited, RetryAfter: int(seconds(ends.Sub(now))),
			Message: "the plan's requests for this minute are used up"}
	}
	return nil
}

// seconds gives whole ones, none of them too few.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
