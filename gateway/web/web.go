// Package web is the HTTP server that everything public goes through. It lets
// calls in: framing that could be read in two ways is refused, paths are matched
// as they were sent, keys and scopes are checked, requests are counted against
// the org's plan, errors are written in one shape. What a call does is its
// route's.
//
//	bytes ─► fasthttp ─► framing ─► router ─► key, scope ─► plan's rate ─► Route.Serve
//	                        │          │          │              │            │
//	                       400,505   404,405   401,403          429      answer or error
//
//	web.go      Config, Server, its life
//	listener.go where connections come from
//	drain.go    how they end
//	framing.go  what is refused before anything else is looked at
//	router.go   paths to routes
//	owner.go    paths to the dialect in whose words they are refused
//	call.go     one call: key, scope, answer
//	limit.go    requests a minute
//	session.go  sessions in cookies
//	origin.go   what pages of other origins may read
//	document.go what everybody may read
//	metrics.go  what is counted
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// Access says who a token stands for, and on which plan the org is.
type Access interface {
	Authenticate(ctx context.Context, token string) (*key.Principal, error)
	Org(id string) *control.Org // nil: there is none
}

// Config is what a Server is made of. Zero numbers stand for those in brackets.
type Config struct {
	Access  Access
	Logger  *slog.Logger          // nil: none
	Metrics prometheus.Registerer // nil: none
	Usage   *usage.Meter          // counts requests; nil: nobody does
	Minutes *usage.Minutes        // limits them; nil: those of this server alone
	Origins []string              // web origins whose pages may call, with cookies, beside the host's own: https://app.example

	ReadTimeout   time.Duration // from the first byte of a request to its last [10 s]
	WriteTimeout  time.Duration // for the whole answer [10 s]
	IdleTimeout   time.Duration // between requests [60 s]
	Unused        time.Duration // for which a connection isn't used until Shutdown closes it [1 s]
	MaxHeader     int           // bytes of request line and headers [16 KiB]
	MaxConns      int           // connections in all; more wait to be taken [0: no bound]
	MaxPerAddress int           // connections from one address; more are closed [0: no bound, for a proxy in front has one address for all]
}

// MaxBody is the most that a route's request body may have unless it says
// otherwise, in bytes.
const MaxBody = 1 << 20

// Server serves routes. Own and Handle come first, then Serve, then Shutdown.
type Server struct {
	cfg     Config
	http    *fasthttp.Server
	routes  []Route // as they were added
	router  router
	owners  owners
	metrics *metrics

	addresses usage.Minutes // by route and address, of this server alone

	life context.Context // ends when what was still under way at the end of Shutdown is cut off
	cut  context.CancelFunc

	connsMu  sync.Mutex
	listener *listener             // nil: Serve wasn't called
	conns    map[*counted]struct{} // open and not hijacked

	draining atomic.Bool
}

// New gives a server without routes.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	during := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	during(&cfg.ReadTimeout, 10*time.Second)
	during(&cfg.WriteTimeout, 10*time.Second)
	during(&cfg.IdleTimeout, 60*time.Second)
	during(&cfg.Unused, time.Second)
	if cfg.MaxHeader == 0 {
		cfg.MaxHeader = 16 << 10
	}
	if cfg.Minutes == nil {
		cfg.Minutes = new(usage.Minutes)
	}
	s := &Server{cfg: cfg, metrics: newMetrics(cfg.Metrics), conns: make(map[*counted]struct{}), addresses: usage.Minutes{Most: mostAddresses}}
	s.life, s.cut = context.WithCancel(context.Background())
	s.http = &fasthttp.Server{
		Handler:        s.handle,
		ErrorHandler:   s.unreadable,
		HeaderReceived: s.headerReceived,
		ExpectHandler:  s.expect,
		ConnState:      s.track,
		Logger:         quiet{cfg.Logger},

		ReadTimeout:        cfg.ReadTimeout,
		WriteTimeout:       cfg.WriteTimeout,
		IdleTimeout:        cfg.IdleTimeout,
		ReadBufferSize:     cfg.MaxHeader,
		MaxRequestBodySize: strangerBody,
		MaxRequestsPerConn: 10_000,

		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		// A hijacked connection is closed when its handler returns, and its buffers are
		// used again. Who serves it on has a descriptor of its own by then.
		KeepHijackedConns: false,
	}
	return s
}

// Serve takes connections from the listener until Refuse or Shutdown, then
// returns nil; at once, where Shutdown came first.
func (s *Server) Serve(ln net.Listener) error {
	l := newListener(ln, &s.cfg, s.metrics.crowded.Inc)
	s.connsMu.Lock()
	s.listener = l
	s.connsMu.Unlock()
	if s.draining.Load() {
		return l.Close() // the library would go on: it was told before it knew of it
	}
	return s.http.Serve(l)
}

// track keeps account of what becomes of a connection.
func (s *Server) track(conn net.Conn, state fasthttp.ConnState) {
	c := conn.(*counted) // by our listener
	switch state {
	case fasthttp.StateNew:
		s.connsMu.Lock()
		s.conns[c] = struct{}{}
		s.connsMu.Unlock()
	case fasthttp.StateActive:
		c.unused.Store(0)
	case fasthttp.StateIdle:
		c.isCall()
	case fasthttp.StateClosed:
		c.isCall()
		fallthrough
	case fasthttp.StateHijacked:
		s.connsMu.Lock()
		delete(s.conns, c)
		s.connsMu.Unlock()
	}
}

// strangerBody is the most that a request's body may have as long as nobody
// knows who sends it, in bytes: what is read before the key is looked at must not
// be worth an attack.
const strangerBody = 8 << 10

// headerReceived bounds the body before it is read: by its route for who has a
// key, and for everybody else by very little.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) (cfg fasthttp.RequestConfig) {
	path, ok := rawPath(h.RequestURI())
	if !ok {
		return cfg
	}
	m, _ := s.router.find(path)
	if m.node == nil {
		return cfg
	}
	r := m.node.route(string(h.Method()), h)
	if r == nil {
		return cfg
	}
	if n := h.ContentLength(); !r.Open && (n < 0 || n > strangerBody) { // below, nothing is lost by reading on
		token, _, err := tokenOf(h)
		if err == nil {
			_, err = s.authenticate(s.life, token)
		}
		if err != nil {
			return cfg
		}
	}
	cfg.MaxRequestBodySize = r.MaxBody
	return cfg
}

// expect has a client that asks first send its body, unless that is too large:
// then it is told at once.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	limit := s.headerReceived(&ctx.Request.Header).MaxRequestBodySize
	if limit == 0 {
		limit = strangerBody
	}
	if ctx.Request.Header.ContentLength() > limit {
		s.unreadable(ctx, fasthttp.ErrBodyTooLarge)
		return ctx.Response.StatusCode()
	}
	return fasthttp.StatusContinue
}

// unreadable answers a request that couldn't be read; its connection is closed.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	e := &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "the request is not HTTP/1.1 as RFC 9112 has it"}
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		e = s.tooLarge(ctx)
	case errors.As(err, &small):
		e = &dialect.Error{Status: 431, Code: dialect.TooLarge, Message: "the request's headers are too large"}
	case errors.As(err, &timeout) && timeout.Timeout():
		e = &dialect.Error{Status: 408, Code: dialect.BadRequest, Message: "the request took too long to arrive"}
	}
	s.answerError(ctx, e)
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		linger(ctx)
	}
	s.metrics.requests.WithLabelValues(unrouted, statusLabel(e.Status)).Inc()
	s.cfg.Logger.Debug("request unreadable", "status", e.Status, "remote", ctx.RemoteAddr(), "error", err)
}

// tooLarge says what is wrong with a request whose body is larger than was read:
// its size, unless it wouldn't have been let in with any.
func (s *Server) tooLarge(ctx *fasthttp.RequestCtx) *dialect.Error {
	var refused *dialect.Error
	if len(ctx.Request.Header.RawHeaders()) == 0 { // the library forgets those of a chunked request
		return bodyTooLarge
	}
	c, err := s.letIn(ctx)
	switch {
	case errors.As(err, &refused):
		return refused
	case c == nil:
		return bodyTooLarge
	}
	return &dialect.Error{Status: 413, Code: dialect.TooLarge,
		Message: fmt.Sprintf("the request body has more than the %d bytes that this call takes", c.route.MaxBody)}
}

var bodyTooLarge = &dialect.Error{Status: 413, Code: dialect.TooLarge, Message: "the request body is too large"}

// The bounds of what is read of a body that was refused.
const (
	lingerFor   = 2 * time.Second
	lingerBytes = 32 << 20
)

// linger sends the answer at once and then reads on for a while without looking.
// To close with input unread would make the kernel reset the connection, and a
// client that is still sending would see that instead of the answer. What the
// library writes afterwards finds the connection closed for writing.
func linger(ctx *fasthttp.RequestCtx) {
	c, ok := ctx.Conn().(interface {
		net.Conn
		CloseWrite() error
	})
	if !ok {
		return
	}
	ctx.SetConnectionClose()
	if _, err := ctx.Response.WriteTo(c); err != nil || c.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(lingerFor))
	io.CopyN(io.Discard, c, lingerBytes)
}

// quiet takes what the library has to say: mostly clients that went away.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("http server", "says", fmt.Sprintf(format, args...))
	}
}
