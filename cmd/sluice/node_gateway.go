package main

import (
	"context"
	"errors"
	"slices"

	"sluice/dispatcher/attempt"
	"sluice/gateway/ingest"
	"sluice/gateway/manage"
	"sluice/gateway/stream"
	"sluice/gateway/web"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/replay"
)

// startGateway serves the public API.
//
//	               ┌─► POST /v1/events ─► ingest ─► events.*
//	--listen ─► web┼─► dialects' calls, GET /v1/events ─► manage ─► control, replay
//	               └─► dialects' streams ─► hub ◄─ events.*, window, replay
func (n *node) startGateway(ctx context.Context) error {
	windows := make(map[event.Environment]*replay.Window)
	past := make(map[event.Environment]*replay.Reader)
	for _, env := range event.Environments {
		windows[env] = replay.NewWindow(0, 0)
		past[env] = replay.New(replay.Config{Log: n.log, Environment: env, Incarnation: n.control.Incarnation(), Window: windows[env]})
	}
	var streams []*dialect.Stream
	for _, d := range all.Dialects {
		if d.Stream != nil {
			streams = append(streams, d.Stream)
		}
	}
	hub := stream.New(stream.Config{
		Log: n.log, Access: n.control, Past: past, Windows: windows, Incarnation: n.control.Incarnation(),
		Streams: streams, Logger: n.cfg.Logger, Metrics: n.metrics,
	})
	in := ingest.New(ingest.Config{
		Log: n.log, OrgExists: func(id string) bool { return n.control.Org(id) != nil },
		Registerer: n.metrics, Logger: n.cfg.Logger,
	})

	server := web.New(web.Config{Access: n.control, Logger: n.cfg.Logger, Metrics: n.metrics})
	server.Handle(web.Route{Method: "POST", Path: "/v1/events", Scope: key.Publish, Uncounted: true, MaxBody: ingest.MaxBody,
		Serve: func(c *web.Call) error {
			answer, err := in.Post(c.Context(), c.Principal, string(c.Request.Header.ContentType()), c.PostBody())
			if err != nil {
				return err
			}
			c.JSON(answer.Status, answer.Body)
			return nil
		}})
	listed := manage.Events{Past: past, Append: appendEvent(), Logger: n.cfg.Logger}
	for _, route := range listed.Routes() {
		server.Handle(route)
	}
	core := manage.NewCore(n.control, n.log, attempt.NewGuard(n.cfg.HTTP, n.private()).CheckURL)
	for _, d := range all.Dialects {
		server.HandleDialect(d, core)
	}
	for path, handler := range hub.Handlers() {
		server.Handle(web.Route{Method: "GET", Path: path, Open: true, Serve: web.Raw(handler)})
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

	stopServer := n.start("server", func(context.Context) error { return server.Serve(n.listen) })
	n.onStop(func(ctx context.Context) error {
		defer stopServer()
		// Streams first: while they are told, calls on the connections there are are
		// still answered.
		return errors.Join(server.Refuse(), hub.Drain(ctx), server.Shutdown(ctx))
	})
	return nil
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
