package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"syscall"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/gateway/accounts"
	"sluice/gateway/inbound"
	"sluice/gateway/ingest"
	"sluice/gateway/manage"
	"sluice/gateway/stream"
	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/all"
	"sluice/pkg/dialect/openapi"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/replay"
)

// startGateway serves the public API: what is called, streams, or both.
//
//	               ┌─► POST /v1/events, providers' webhooks ─► ingest ─► events.*       ─┐
//	--listen ─► web┼─► dialects' calls, GET /v1/events ─► manage ─► control, replay      ─┴ api
//	               └─► dialects' streams ─► hub ◄─ events.*, window, replay              ── gateway
func (n *node) startGateway(ctx context.Context) error {
	if !n.cfg.Roles.public() {
		return nil
	}
	windows := make(map[event.Environment]*replay.Window)
	past := make(map[event.Environment]*replay.Reader)
	for _, env := range event.Environments {
		windows[env] = replay.NewWindow(0, 0)
		past[env] = replay.New(replay.Config{Log: n.log, Environment: env, Incarnation: n.control.Incarnation(), Window: windows[env], Metrics: n.metrics})
	}
	server := web.New(web.Config{
		Access: n.control, Logger: n.cfg.Logger, Metrics: n.metrics, Usage: n.meter, Minutes: &n.minutes,
		MaxConns: connectionsAtMost(), MaxPerAddress: n.cfg.PerAddress, Origins: n.cfg.Origins,
	})
	n.server = server
	for _, d := range all.Dialects {
		server.Own(d)
	}
	if n.cfg.Roles.has(roleAPI) {
		if err := n.serveAPI(server, past); err != nil {
			return err
		}
	}
	drain := func(context.Context) error { return nil }
	if n.cfg.Roles.has(roleGateway) {
		drain = n.serveStreams(server, windows, past)
	}

	public := n.listen
	if n.certificate != nil {
		public = n.certificate.listener(public)
	}
	stopServer := n.start("server", func(context.Context) error { return server.Serve(public) })
	n.onStop(func(ctx context.Context) error {
		defer stopServer()
		// Nobody new, who would have to go again. While streams are told, calls on the
		// connections there are are still answered.
		refused := server.Refuse()
		half, cancel := halfOf(ctx) // the other is for deliveries
		defer cancel()
		if err := drain(half); err != nil {
			n.cfg.Logger.Warn("streams that didn't close in time are cut off", "error", err)
		}
		return errors.Join(refused, server.Shutdown(ctx))
	})
	return nil
}

// halfOf gives a context that ends when half of the time that ctx leaves is over.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok {
		return context.WithTimeout(ctx, time.Until(end)/2)
	}
	return context.WithCancel(ctx)
}

// filesKept is how many open files are kept from the public port's connections:
// for the log's, for connections to receivers and brokers.
const filesKept = 4096

// connectionsAtMost is how many connections the public port takes, so that those
// who come don't use up the files that the process may open (ulimit -n): the log
// can't go on without any, and a webhook can't be sent.
func connectionsAtMost() int {
	files := openFiles()
	return files - min(filesKept, files/2)
}

// unusedAtMost is how many connections to receivers are kept for later: half of the
// files that are kept from the public port. The log's, and connections in use, have
// the other half.
func unusedAtMost() int { return min(filesKept, openFiles()/2) / 2 }

// openFiles is how many files the process may open; 0: nobody says.
func openFiles() int {
	var may syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &may) != nil {
		return 0
	}
	return int(min(may.Cur, math.MaxInt32))
}

// serveAPI adds what is called: publishing, endpoints, reads; and tells orgs of
// their endpoints, which takes publishing.
func (n *node) serveAPI(server *web.Server, past map[event.Environment]*replay.Reader) error {
	in := ingest.New(ingest.Config{
		Log: n.log, OrgExists: func(id string) bool { return n.control.Org(id) != nil },
		Usage: n.meter, Registerer: n.metrics, Logger: n.cfg.Logger, Entries: n.cfg.IdempotencyEntries,
	})
	stopIngest := n.start("ingest", in.Run)
	n.onStop(func(context.Context) error { stopIngest(); return nil })
	n.ops.require("ingest", func(context.Context) error {
		select {
		case <-in.Ready():
			return nil
		default:
			return errors.New("reading what was published in the last day")
		}
	})
	server.Handle(web.Route{Method: "POST", Path: "/v1/events", Scope: key.Publish, Uncounted: true, MaxBody: ingest.MaxBody,
		Serve: func(c *web.Call) error {
			answer, err := in.Post(c.Context(), c.Principal, &ingest.Request{
				ContentType: string(c.Request.Header.ContentType()), Header: c.Header, Body: c.PostBody()})
			if err != nil {
				return err
			}
			if answer.Replayed {
				c.Response.Header.Set(ingest.ReplayedHeader, "true")
			}
			c.JSON(answer.Status, answer.Body)
			return nil
		}})
	listed := &manage.Events{Past: past, Append: appendEvent(), Logger: n.cfg.Logger}
	for _, route := range listed.Routes() {
		server.Handle(route)
	}
	core := manage.NewCore(n.control, n.log, attempt.NewGuard(n.cfg.HTTP, n.private()).CheckURL, all.Dialects, n.totals)
	for _, route := range core.ReplayRoutes() {
		server.Handle(route)
	}
	calls, err := n.serveDeliveries(server, core, listed)
	if err != nil {
		return err
	}
	own, err := ownDocument(server.Routes())
	if err != nil {
		return err
	}
	server.Handle(web.Document("/openapi/"+ownName+".json", own))
	calls.Accounts = accounts.New(accounts.Config{Control: n.control, Closed: n.cfg.RegistrationClosed, Logger: n.cfg.Logger, Registerer: n.metrics})
	hooks := inbound.New(inbound.Config{Secrets: n.control, DefaultOrg: control.DefaultOrg, Logger: n.cfg.Logger, Registerer: n.metrics,
		Publish: func(ctx context.Context, ev *event.Event) (bool, error) { return in.PublishOnce(ctx, ev) }})
	for _, d := range all.Dialects {
		server.HandleDialect(d, calls)
		for _, route := range hooks.Routes(d) {
			server.Handle(route)
		}
		document, err := openapi.Of(d)
		if err != nil {
			return err
		}
		server.Handle(web.Document("/openapi/"+d.Name+".json", document))
	}
	return n.startNotices(in)
}

// providers names those whose webhooks are taken.
func providers() (names []string) {
	for _, d := range all.Dialects {
		for _, p := range d.Inbound {
			names = append(names, p.Provider)
		}
	}
	return names
}

// serveStreams adds the streams. drain sends away who is on them.
func (n *node) serveStreams(server *web.Server, windows map[event.Environment]*replay.Window, past map[event.Environment]*replay.Reader) (drain func(context.Context) error) {
	var streams []*dialect.Stream
	var sse []*dialect.SSE
	for _, d := range all.Dialects {
		if d.Stream != nil {
			streams = append(streams, d.Stream)
		}
		if d.SSE != nil {
			sse = append(sse, d.SSE)
		}
	}
	hub := stream.New(stream.Config{
		Log: n.log, Access: n.control, Usage: n.meter, Past: past, Windows: windows, Incarnation: n.control.Incarnation(),
		Streams: streams, SSE: sse, Origins: n.cfg.Origins, Compress: n.cfg.WSCompress, Coalesce: n.cfg.Coalesce, Logger: n.cfg.Logger, Metrics: n.metrics,
		Limits: stream.Limits{PerOrg: n.cfg.PerOrg, OrgPatterns: n.cfg.OrgPatterns},
	})
	if n.cfg.WSEcho {
		n.ops.mux.Handle("GET /debug/ws-echo", hub.Echo())
	}
	for path, handler := range hub.Handlers() {
		server.Handle(web.Route{Method: "GET", Path: path, Upgrade: true, Open: true, Serve: web.Raw(handler)})
	}
	for i := range sse {
		for _, route := range hub.EventRoutes(i) {
			server.Handle(route)
		}
	}
	stopHub := n.start("streams", hub.Run)
	n.onStop(func(context.Context) error { stopHub(); return nil })
	n.ops.require("streams", func(context.Context) error {
		select {
		case <-hub.Ready():
			return nil
		default:
			return errors.New("looking for the end of events")
		}
	})
	return hub.Drain
}

// appendEvent writes events in GET /v1/events as they are on the stream beside it.
func appendEvent() func(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
	for _, d := range all.Dialects {
		if d.Stream != nil && slices.Contains(d.Stream.Paths, streamPath) {
			return d.Stream.AppendEvent
		}
	}
	panic("no dialect has a stream at " + streamPath)
}
