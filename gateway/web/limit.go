package web

import (
	"strconv"
	"sync"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/usage"
)

// Limiter counts calls of strangers in windows of a minute, by whatever they are counted by:
// an address, an account. It counts those of this process alone; what an org asks for is
// counted over all, by usage.Minutes. A window begins with its first call. Its methods may be
// called from any number of goroutines.
type Limiter struct {
	Most int // windows at one time; who would need another waits. 0: any number

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

// Take counts a call, and gives how many more there may be until the window ends; below
// zero: this was one too many, and isn't counted.
func (l *Limiter) Take(id string, most int, now time.Time) (left int, ends time.Time) {
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
	w := l.windows[id]
	if w == nil || now.Sub(w.began) >= windowLen {
		if w == nil && l.Most > 0 && len(l.windows) >= l.Most {
			return -1, l.swept.Add(windowLen)
		}
		w = &window{began: now}
		l.windows[id] = w
	}
	left, ends = most-w.count-1, w.began.Add(windowLen)
	if left >= 0 {
		w.count++
	}
	return left, ends
}
