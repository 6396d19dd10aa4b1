package web

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"
)

// refuseLooks is how often Refuse looks, a millisecond apart, for those who are on their way.
const refuseLooks = 250

// Refuse takes those connections that wait to be taken, and no more; on those that
// there are, calls are answered.
func (s *Server) Refuse() error {
	s.connsMu.Lock()
	l := s.listener
	s.connsMu.Unlock()
	if l == nil {
		return nil
	}
	l.hurry.Store(true)
	letIn(l.Listener, refuseLooks)
	return l.Close()
}

// Shutdown takes no more connections, answers what was asked before, and closes. Each
// answer says that its connection ends; one that isn't used for a while ends then. What
// is still under way when ctx ends is cut off. Connections that were upgraded are their
// handlers' to close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.connsMu.Lock()
	l := s.listener
	s.connsMu.Unlock()
	if l != nil {
		l.Close() // of which the library may not know yet
	}
	s.dismiss(ctx)
	err := s.http.ShutdownWithContext(ctx)
	s.cut()
	if err == nil {
		return nil
	}
	s.connsMu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.connsMu.Unlock()
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, s.http.ShutdownWithContext(final))
}

// answered says that a call's answer is there, to be written. From here on its connection
// counts as unused: either this sees that the server stops, or dismiss sees the connection.
func (s *Server) answered(ctx *fasthttp.RequestCtx) {
	if ctx.Hijacked() {
		return
	}
	ctx.Conn().(*counted).unused.Store(time.Now().UnixNano()) // of our listener
	if s.draining.Load() {
		ctx.SetConnectionClose()
	}
}

// dismissEvery is how often Shutdown looks for connections that aren't used.
const dismissEvery = 10 * time.Millisecond

// dismiss waits until no connection is between two requests. The library would close
// all of those at once, and with them what was asked an instant before and not read:
// who calls often is told by an answer instead, on which its connection ends.
func (s *Server) dismiss(ctx context.Context) {
	for s.closeUnused() > 0 && ctx.Err() == nil {
		time.Sleep(dismissEvery)
	}
}

// closeUnused has those connections end that haven't been used for long enough, and
// gives how many are between two requests.
func (s *Server) closeUnused() (between int) {
	before := time.Now().Add(-s.cfg.Unused).UnixNano()
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	for c := range s.conns {
		since := c.unused.Load()
		if since == 0 {
			continue
		}
		between++
		if since <= before && !unread(c.Conn) {
			// Whoever waits for a request gives up; whoever has just got one sets another.
			c.dismissed.Store(true)
			c.SetReadDeadline(time.Unix(1, 0))
		}
	}
	return between
}
