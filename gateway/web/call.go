package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// Route is one call that is served.
type Route struct {
	Method string
	Path   string // segments in braces are parameters: /v1/webhooks/{id}

	// Upgrade has the route serve what asks for a WebSocket; what doesn't goes to the
	// route beside it that hasn't this, or here if there is none.
	Upgrade bool
	// Open routes are served without a key: whoever serves them looks after that.
	Open bool
	// Scope is what the key must have; empty: any key will do.
	Scope key.Scope
	// Networks says that it keeps to the network that a key is for: keys of one may call.
	Networks bool
	// Uncounted calls don't count as API requests of the org.
	Uncounted bool
	// Session routes are for sessions, not for keys.
	Session bool
	// PerAddress bounds its calls in a minute from one address; 0: nothing does.
	PerAddress int
	// RateHeaders has its answers say how many requests are left to the org.
	RateHeaders bool
	// MaxBody bounds the request body in bytes; 0: MaxBody of this package, or next
	// to nothing on an open route.
	MaxBody int

	// Serve answers the call. A *dialect.Error that it returns is shown to the
	// client; any other error is logged and becomes a 500.
	Serve func(c *Call) error

	params []string
	label  string
}

// Call is one call that was let in. It, and the bytes that it gives, are good
// until Serve returns.
type Call struct {
	*fasthttp.RequestCtx
	// Principal is who calls; nil on open routes.
	Principal *key.Principal

	route  *Route
	values []string
	used   int // as dialect.Request has it
	life   context.Context
}

// Context ends when the server stops waiting for the call. (That of the
// RequestCtx ends as soon as the server begins to stop.)
func (c *Call) Context() context.Context { return c.life }

// Param gives a parameter of the path.
func (c *Call) Param(name string) string {
	for i, p := range c.route.params {
		if p == name {
			return c.values[i]
		}
	}
	return ""
}

// Query gives a parameter of the query; empty when absent.
func (c *Call) Query(name string) string { return string(c.QueryArgs().Peek(name)) }

// OnlyQuery refuses a parameter of the query that isn't one of names: left
// unseen, a mistyped filter would answer with more than was asked for.
func (c *Call) OnlyQuery(names ...string) error {
	for name := range c.QueryArgs().All() {
		if !slices.Contains(names, string(name)) {
			return dialect.Invalid(dialect.Issue{Path: []string{dialect.Clip(string(name), 64)}, Message: "is no parameter of this call: it takes " + strings.Join(names, ", ")})
		}
	}
	return nil
}

// Header gives a header of the request, several of one name joined by commas;
// empty when absent.
func (c *Call) Header(name string) string {
	if len(c.Request.Header.Peek(name)) == 0 {
		return ""
	}
	return string(bytes.Join(c.Request.Header.PeekAll(name), []byte(", ")))
}

// JSON answers with a body that is JSON.
func (c *Call) JSON(status int, body []byte) { answerJSON(c.RequestCtx, status, body) }

// Raw makes Serve of a handler that needs nothing but the library's context, as
// those do that upgrade the connection.
func Raw(h fasthttp.RequestHandler) func(*Call) error {
	return func(c *Call) error {
		h(c.RequestCtx)
		return nil
	}
}

// Handle adds a route. A route that can't be is a mistake in the program: it
// panics.
func (s *Server) Handle(r Route) {
	switch {
	case r.MaxBody != 0:
	case r.Open:
		r.MaxBody = strangerBody
	default:
		r.MaxBody = MaxBody
	}
	r.label = r.Method + " " + r.Path
	if err := s.router.add(&r); err != nil {
		panic(err)
	}
	s.routes = append(s.routes, r)
}

// Routes lists what is served, in the order in which it was added.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// HandleDialect adds the routes of a dialect, served by the core.
func (s *Server) HandleDialect(d *dialect.Dialect, core dialect.Core) {
	for _, r := range d.Routes {
		s.Handle(Route{Method: r.Method, Path: r.Path, Scope: r.Scope, Open: r.Open, Session: r.Session, PerAddress: r.PerAddress, Uncounted: r.PerAddress > 0, Networks: d.Networks, RateHeaders: d.RateHeaders, Serve: func(c *Call) error {
			if r.Params != nil {
				if err := c.OnlyQuery(r.Params...); err != nil {
					return err
				}
			}
			if d.Admit != nil && !r.Open {
				if refused := d.Admit(c.Principal, c.Header); refused != nil {
					return refused
				}
			}
			return serveDialect(c, r.Serve, core)
		}})
	}
}

// callWithin is how long a dialect's call may take.
const callWithin = 10 * time.Second

func serveDialect(c *Call, serve func(context.Context, dialect.Core, *dialect.Request) (*dialect.Response, error), core dialect.Core) error {
	body := c.PostBody()
	if len(body) > 0 && !jsonBody(&c.Request.Header) {
		return &dialect.Error{Status: 415, Code: dialect.Unsupported, Message: "send the body with Content-Type: application/json"}
	}
	ctx, cancel := context.WithTimeout(c.Context(), callWithin)
	defer cancel()
	req := &dialect.Request{From: c.From(), Now: c.Time(), Used: c.used, Param: c.Param, Query: c.Query, Body: body}
	if c.Principal != nil {
		req.Principal = *c.Principal
	}
	resp, err := serve(ctx, core, req)
	if err != nil {
		return err
	}
	if resp.Cookie != nil {
		c.setCookie(resp.Cookie)
	}
	if resp.Body == nil {
		c.SetStatusCode(resp.Status)
		return nil
	}
	c.JSON(resp.Status, resp.Body)
	return nil
}

// jsonBody reports whether the body is said to be JSON, or nothing is said of it.
func jsonBody(h *fasthttp.RequestHeader) bool {
	t, _, _ := bytes.Cut(h.ContentType(), []byte(";"))
	t = bytes.TrimSpace(t)
	return len(t) == 0 || bytes.EqualFold(t, []byte("application/json"))
}

// handle is every request's way.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	label, p := unrouted, (*key.Principal)(nil)
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Logger.Error("panic in handler", "route", label, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			ctx.Response.Reset()
			s.answerError(ctx, internal)
			ctx.SetConnectionClose()
		}
		s.answered(ctx)
		s.done(ctx, label, p, began)
	}()

	refused, closeAfter := checkFraming(&ctx.Request.Header)
	if closeAfter {
		// Before an answer is written, for the library may reset it with the answer.
		defer ctx.SetConnectionClose()
	}
	if refused != nil {
		s.answerError(ctx, refused)
		return
	}
	s.shareWith(ctx)
	c, err := s.letIn(ctx)
	if c != nil {
		label, p = c.route.label, c.Principal
	}
	if err == nil && c != nil {
		err = c.route.Serve(c)
	}
	if err != nil {
		s.fail(ctx, label, err)
	}
}

// letIn finds the route and checks who calls. Both results are nil when the call
// is answered already.
func (s *Server) letIn(ctx *fasthttp.RequestCtx) (*Call, error) {
	path, ok := rawPath(ctx.Request.Header.RequestURI())
	var m match
	if ok {
		m, ok = s.router.find(path)
	}
	switch {
	case !ok:
		return nil, &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "the path can't be read"}
	case m.node == nil:
		return nil, &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "there is nothing at this path"}
	}
	method := string(ctx.Method())
	if method == "HEAD" && m.node.routes["HEAD"] == nil {
		method = "GET"
	}
	route := m.node.route(method, &ctx.Request.Header)
	if route == nil {
		ctx.Response.Header.Set("Allow", m.node.allow)
		if method == "OPTIONS" {
			s.preflight(ctx, m.node.allow)
			ctx.SetStatusCode(204)
			return nil, nil
		}
		return nil, &dialect.Error{Status: 405, Code: dialect.NotAllowed, Message: "this path takes " + m.node.allow}
	}
	c := &Call{RequestCtx: ctx, route: route, values: m.values, life: s.life}
	if enc := ctx.Request.Header.Peek("Content-Encoding"); len(enc) > 0 && !bytes.EqualFold(enc, []byte("identity")) {
		return c, &dialect.Error{Status: 415, Code: dialect.Unsupported, Message: "send the body without Content-Encoding"}
	}
	if route.PerAddress > 0 {
		if err := s.countAddress(c); err != nil {
			return c, err
		}
	}
	if route.Open {
		return c, nil
	}
	token, cookie, err := tokenOf(&ctx.Request.Header)
	if err == nil {
		c.Principal, err = s.authenticate(c.life, token)
	}
	switch {
	case err != nil:
	case c.Principal.Session:
		err = s.admitSession(c, cookie)
	case route.Session:
		err = &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "this call is for who has logged in: send a session, not a key"}
	}
	if err != nil {
		return c, err
	}
	if !route.Uncounted {
		if err := s.count(c); err != nil {
			return c, err
		}
	}
	if route.Scope != "" && !c.Principal.Can(route.Scope) {
		return c, &dialect.Error{Status: 403, Code: dialect.Forbidden,
			Message: fmt.Sprintf("this call needs a key with the scope %q", route.Scope)}
	}
	if c.Principal.Network != "" && !route.Networks {
		return c, &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "the key is for one network, and this call isn't: use one that is for all"}
	}
	return c, nil
}

var unauthorized = &dialect.Error{Status: 401, Code: dialect.Unauthorized,
	Message: "send an API key as 'Authorization: Bearer sk_…' or 'X-API-Key: sk_…'"}

// tokenOf takes the key, or else the session, out of the headers. It is never looked for
// in the URL, which ends up in logs.
func tokenOf(h *fasthttp.RequestHeader) (token string, cookie bool, err error) {
	for _, value := range h.PeekAll("Authorization") {
		scheme, t, _ := bytes.Cut(bytes.TrimSpace(value), []byte(" "))
		t = bytes.TrimSpace(t)
		if !bytes.EqualFold(scheme, []byte("Bearer")) || len(t) == 0 {
			return "", false, unauthorized
		}
		if token != "" && token != string(t) {
			return "", false, twoKeys
		}
		token = string(t)
	}
	for _, value := range h.PeekAll("X-API-Key") {
		if len(value) == 0 {
			continue // as a client's template leaves it that has no key
		}
		if token != "" && token != string(value) {
			return "", false, twoKeys
		}
		token = string(value)
	}
	if token == "" {
		token, cookie = string(h.Cookie(sessionCookie)), true
	}
	if token == "" {
		return "", false, unauthorized
	}
	return token, cookie, nil
}

var twoKeys = &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "the request has two different keys: send one"}

func (s *Server) authenticate(ctx context.Context, token string) (*key.Principal, error) {
	p, err := s.cfg.Access.Authenticate(ctx, token)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, control.ErrExpired):
		return nil, &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "the key has expired"}
	case errors.Is(err, control.ErrUnauthorized):
		return nil, &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "the key is not known: check that it is whole and not revoked"}
	}
	s.cfg.Logger.Warn("key can't be looked up", "error", err)
	return nil, &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "the key can't be looked up now: try again", RetryAfter: 1}
}

var internal = &dialect.Error{Status: 500, Code: dialect.Internal, Message: "something went wrong on our side"}

// fail answers with an error.
func (s *Server) fail(ctx *fasthttp.RequestCtx, label string, err error) {
	var e *dialect.Error
	if !errors.As(err, &e) {
		s.cfg.Logger.Error("call failed", "route", label, "error", err)
		e = internal
	}
	s.answerError(ctx, e)
}

func (s *Server) answerError(ctx *fasthttp.RequestCtx, e *dialect.Error) {
	if e.RetryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if e.Status == 401 {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
	}
	answerJSON(ctx, e.Status, s.appendError(&ctx.Request.Header, e))
}

// appendError words an error as the dialect does whose path it is.
func (s *Server) appendError(h *fasthttp.RequestHeader, e *dialect.Error) []byte {
	if path, ok := rawPath(h.RequestURI()); ok {
		if words := s.owners.words(path); words != nil {
			return words(nil, e)
		}
	}
	return e.AppendJSON(nil)
}

func answerJSON(ctx *fasthttp.RequestCtx, status int, body []byte) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	h := &ctx.Response.Header
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	ctx.Response.SetBodyRaw(body)
}

// done counts the call and tells of it.
func (s *Server) done(ctx *fasthttp.RequestCtx, label string, p *key.Principal, began time.Time) {
	status, took := ctx.Response.StatusCode(), time.Since(began)
	s.metrics.requests.WithLabelValues(label, statusLabel(status)).Inc()
	s.metrics.seconds.WithLabelValues(label).Observe(took.Seconds())
	if !s.cfg.Logger.Enabled(context.Background(), -4) {
		return
	}
	org := ""
	if p != nil {
		org = p.Org
	}
	s.cfg.Logger.Debug("request", "route", label, "status", status, "took", took, "org", org, "remote", ctx.RemoteAddr())
}
