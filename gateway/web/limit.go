package web

import (
	"strconv"
	"sync"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/usage"
)

// limiter counts the requests of each org in windows of a minute. An org's window
// begins with its first request.
type limiter struct {
	mu      sync.Mutex
	windows map[string]*window
	swept   time.Time
}

type window struct {
	began time.Time
	count int
}

const windowLen = time.Minute

// count counts one API request of a call against the plan of its org.
func (s *Server) count(c *Call) error {
	org := s.cfg.Access.Org(c.Principal.Org)
	if org == nil { // deleted since the key was looked up
		return &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "the key is not known: check that it is whole and not revoked"}
	}
	now := time.Now()
	left, ends := s.limiter.take(org, now)
	most := org.Plan.Limits().Requests
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

// take counts a request, and gives how many more the org may make until its window
// ends; below zero: this was one too many.
func (l *limiter) take(org *control.Org, now time.Time) (left int, ends time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.windows == nil {
		l.windows = make(map[string]*window)
	}
	if now.Sub(l.swept) >= windowLen {
		for id, w := range l.windows {
			if now.Sub(w.began) >= windowLen {
				delete(l.windows, id)
			}
		}
		l.swept = now
	}
	w := l.windows[org.ID]
	if w == nil || now.Sub(w.began) >= windowLen {
		w = &window{began: now}
		l.windows[org.ID] = w
	}
	left, ends = org.Plan.Limits().Requests-w.count-1, w.began.Add(windowLen)
	if left >= 0 {
		w.count++
	}
	return left, ends
}
