package web

import (
	"sync"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/key"
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

// count counts one API request against the plan of its org.
func (s *Server) count(p *key.Principal) error {
	org := s.cfg.Access.Org(p.Org)
	if org == nil { // deleted since the key was looked up
		return &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "the key is not known: check that it is whole and not revoked"}
	}
	if wait := s.limiter.take(org, time.Now()); wait > 0 {
		seconds := int((wait + time.Second - 1) / time.Second)
		return &dialect.Error{Status: 429, Code: dialect.RateLimited, RetryAfter: seconds,
			Message: "the plan's requests for this minute are used up"}
	}
	return nil
}

// take counts a request; a wait above zero says that it was one too many.
func (l *limiter) take(org *control.Org, now time.Time) (wait time.Duration) {
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
	if w.count >= org.Plan.RequestsPerMinute() {
		return windowLen - now.Sub(w.began)
	}
	w.count++
	return 0
}
