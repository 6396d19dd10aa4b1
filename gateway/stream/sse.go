package stream

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gateway/web"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// Server-sent events go the way of WebSockets: the same hub, shards and carriers, and
// another form. What is different: all is asked for by the request, so a connection
// is authenticated and subscribed from its first moment; its client says nothing; and
// it keeps all (behind.go).
//
// The answer has neither a length nor chunks. It ends with its connection, which means
// nothing in this protocol but to come back, so an event is the same bytes for every
// client, and clients and proxies of HTTP/1.0 can follow.

// EventRoutes gives the call of every stream of server-sent events of the dialect that
// has that number among Config.SSE.
func (h *Hub) EventRoutes(n int) (routes []web.Route) {
	for _, path := range h.cfg.SSE[n].Paths {
		routes = append(routes, web.Route{Method: "GET", Path: path, Scope: key.Subscribe, Uncounted: true, Serve: func(c *web.Call) error {
			return h.serveEvents(c, len(h.cfg.Streams)+n)
		}})
	}
	return routes
}

// allTypes is what a request asks for that names none.
var allTypes, _ = parsePatterns([]string{"*"})

const eventStreamType = "text/event-stream"

// serveEvents answers with a stream in the form of that number.
func (h *Hub) serveEvents(c *web.Call, n int) error {
	any, named := takesEvents(c.Header("Accept"))
	if !any {
		return &dialect.Error{Status: fasthttp.StatusNotAcceptable, Code: dialect.NotAcceptable, Message: "this is a stream of events: send Accept: " + eventStreamType}
	}
	if err := c.OnlyQuery("types", "lastEventId"); err != nil {
		return err
	}
	types, wrong := dialect.Types("types", c.Query("types"))
	if wrong != nil {
		return wrong
	}
	if types == nil {
		types = allTypes
	}
	if reason := h.closedTo(c.Principal.Org, len(types)); reason != "" {
		return h.later(c, named, reason)
	}
	cursor := c.Header("Last-Event-ID") // newer than the query, which is the same at each try
	if cursor == "" {
		cursor = c.Query("lastEventId")
	}
	from, refusal := h.resumeFrom(c.Principal.Environment, cursor)
	if refusal != nil && refusal.Code == dialect.Unavailable {
		return h.later(c, named, "past")
	}
	head := eventHead(c)
	if c.IsHead() {
		return nil
	}
	p := c.Principal
	c.HijackSetNoResponse(true)
	c.Hijack(func(nc net.Conn) {
		c := h.welcome(n, p.Org, len(types))
		if c == nil { // others came between
			h.raced(nc)
			return
		}
		c.joins = func() { c.join(p, head, types, from, refusal) }
		h.serve(c, nc)
	})
	return nil
}

// takesEvents reports whether a client takes a stream of events, and whether it says
// so by name. A client without Accept takes anything.
func takesEvents(accept string) (any, named bool) {
	if accept == "" {
		return true, false
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(part, ";")
		if unwanted(params) {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(media)) {
		case eventStreamType:
			any, named = true, true
		case "*/*", "text/*":
			any = true
		}
	}
	return any, named
}

// unwanted reports whether the parameters of a media range have a weight of 0.
func unwanted(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if name, value, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return err == nil && q == 0
		}
	}
	return false
}

// closedTo says why no connection of the org with so many patterns is taken now;
// empty: one is.
func (h *Hub) closedTo(org string, patterns int) (reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closedToLocked(org, patterns)
}

func (h *Hub) closedToLocked(org string, patterns int) (reason string) {
	select {
	case <-h.ready:
	default:
		return "starting"
	}
	o := h.holdingOf(org)
	switch {
	case h.draining:
		return "draining"
	case o.connections >= h.limits.PerOrg:
		return "org"
	case o.patterns+patterns > h.limits.OrgPatterns:
		return "patterns"
	}
	return ""
}

// welcome makes a connection of an org, with so many patterns, and counts both; nil:
// there is no room for it. What it counts dismiss takes back.
func (h *Hub) welcome(n int, org string, patterns int) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closedToLocked(org, patterns) != "" {
		return nil
	}
	h.open.Add(1)
	h.number++
	c := newConn(h, h.shards[h.number%len(h.shards)], h.number, n)
	h.count(c, org, patterns)
	return c
}

// later sends a client away that can't be served now. An EventSource comes back after
// any end of a stream, and after no other answer ever again: so who asks for a stream
// by name is given one that says when, and ends.
func (h *Hub) later(c *web.Call, named bool, reason string) error {
	h.metrics.refused.WithLabelValues(reason).Inc()
	wait := h.retryAfter()
	if !named {
		return &dialect.Error{Status: fasthttp.StatusServiceUnavailable, Code: dialect.Unavailable, Message: "no new streams now: come back later", RetryAfter: wait}
	}
	eventHead(c)
	c.SetBodyString("retry: " + strconv.Itoa(1000*wait) + "\n\n")
	return nil
}

// eventHead sets the head of the answer, and gives it as it goes out when the answer
// isn't the server's: all that was set before is in it.
func eventHead(c *web.Call) string {
	c.SetStatusCode(fasthttp.StatusOK)
	h := &c.Response.Header
	h.SetContentType(eventStreamType)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // a proxy's that would collect before it sends on
	h.Set("X-Content-Type-Options", "nosniff")
	h.SetConnectionClose()
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	for name, value := range h.All() {
		b.WriteString(string(name) + ": " + string(value) + "\r\n")
	}
	return b.String() + "\r\n"
}

// join subscribes the connection as its request asked, between two events. The shard
// calls it.
func (c *conn) join(p *key.Principal, head string, types event.Patterns, from int64, refusal *dialect.Error) {
	c.org, c.environment = p.Org, p.Environment
	c.usage = c.hub.cfg.Usage.Of(p.Org, p.Environment)
	c.shard.bear(c, p.KeyID)
	c.expires, c.keeps = p.ExpiresAt, true
	c.nextPing = c.hub.now() + c.between() - c.spread()

	room := c.shard.rooms[c.environment]
	resumes := 0 <= from && from < room.next
	if from >= 0 {
		c.hub.metrics.resumes.WithLabelValues(c.hub.source(c.environment, from, room.next)).Inc()
	} else {
		from = room.next
	}
	c.ahead = from // which it may be of this node
	room.place(c, []pair{{patterns: types, live: from, from: from}})

	opening := "retry: " + strconv.Itoa(retryMillis+retryMillis/16*int(c.number%16)) + "\n"
	c.push(item{bytes: append(appendID([]byte(head+opening), c.cursorOf(from)), '\n')})
	if refusal != nil {
		c.say(&dialect.Reply{Kind: dialect.ReplyError, Error: refusal, Cursor: c.cursorOf(from)})
	}
	switch {
	case c.hub.cfg.Access.Key(p.KeyID) == nil: // since it was looked up, when nobody knew of this connection
		c.end(&endRevoked, unauthorized(revoked))
	case resumes:
		c.mu.Lock()
		c.fallBehind(from)
		c.mu.Unlock()
	}
}

// retryMillis is after how long a client comes back, at the earliest; at the latest it
// is twice that, so that not all do at once.
const retryMillis = 1000
