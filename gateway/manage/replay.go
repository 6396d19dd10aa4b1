package manage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// ReplayRoutes gives the calls by which an endpoint's owner, whatever its dialect,
// has events sent to it once more:
//
//	POST /v1/webhooks/{id}/replay                     begins
//	GET  /v1/webhooks/{id}/replays                    lists, those of the last seven days
//	GET  /v1/webhooks/{id}/replays/{replayId}         tells how far it is
//	POST /v1/webhooks/{id}/replays/{replayId}/cancel  ends
//
// A replay that was cancelled is still there to be looked at: so it isn't DELETE.
func (c *Core) ReplayRoutes() []web.Route {
	const path = "/v1/webhooks/{id}/replay"
	route := func(method, path string, serve func(*web.Call) (int, []byte, error)) web.Route {
		return web.Route{Method: method, Path: path, Scope: key.Manage, Serve: func(call *web.Call) error {
			status, body, err := serve(call)
			if err == nil {
				call.JSON(status, body)
			}
			return err
		}}
	}
	return []web.Route{
		route("POST", path, func(call *web.Call) (int, []byte, error) {
			r, err := c.StartReplay(call.Context(), call.Principal, call.Param("id"), call.PostBody())
			return c.shown(202, r, err)
		}),
		route("GET", path+"s", func(call *web.Call) (int, []byte, error) {
			body, err := c.Replays(call.Context(), call.Principal, call.Param("id"))
			return 200, body, err
		}),
		route("GET", path+"s/{replayId}", func(call *web.Call) (int, []byte, error) {
			r, err := c.Replay(call.Context(), call.Principal, call.Param("id"), call.Param("replayId"))
			return c.shown(200, r, err)
		}),
		route("POST", path+"s/{replayId}/cancel", func(call *web.Call) (int, []byte, error) {
			r, err := c.CancelReplay(call.Context(), call.Principal, call.Param("id"), call.Param("replayId"))
			return c.shown(200, r, err)
		}),
	}
}

func (c *Core) shown(status int, r *control.Replay, err error) (int, []byte, error) {
	if err != nil {
		return 0, nil, err
	}
	return status, c.appendReplay(nil, r), nil
}

// StartReplay has events sent to an endpoint once more, as the body of the call
// says: {"from","to"?,"events"?,"failedOnly"?}.
func (c *Core) StartReplay(ctx context.Context, p *key.Principal, id string, body []byte) (*control.Replay, error) {
	if _, err := c.Endpoint(ctx, p, id); err != nil {
		return nil, err
	}
	cmd, err := readReplay(body)
	if err != nil {
		return nil, err
	}
	if c.log.Scarce() {
		return nil, &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "the log is full; nothing was begun, try again later", RetryAfter: 30}
	}
	cmd.Endpoint = id
	change, err := c.control.Do(ctx, cmd)
	switch {
	case errors.Is(err, control.ErrLimit):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict,
			Message: "as many replays are under way as may be, of this endpoint, of yours, or of all: wait until one has ended, or cancel one"}
	case err != nil:
		return nil, refusal(err)
	}
	return change.Replay, nil
}

func readReplay(body []byte) (*control.StartReplay, error) {
	var in struct {
		From       string    `json:"from"`
		To         string    `json:"to"`
		Events     *[]string `json:"events"`
		FailedOnly bool      `json:"failedOnly"`
	}
	if e := dialect.DecodeStrict(body, &in); e != nil {
		return nil, e
	}
	var issues []dialect.Issue
	bad := func(member, message string) {
		issues = append(issues, dialect.Issue{Path: []string{member}, Message: message})
	}
	cmd := &control.StartReplay{FailedOnly: in.FailedOnly}
	var err error
	if cmd.Since, err = readTime("from", in.From, 0); err != nil {
		bad("from", isTime)
	} else if in.From == "" {
		bad("from", "is missing: since when? Events are kept for seven days")
	} else if cmd.Since.After(time.Now()) {
		bad("from", "is yet to come")
	}
	// A bare date means the whole day.
	if cmd.Until, err = readTime("to", in.To, 24*time.Hour); err != nil {
		bad("to", isTime)
	} else if !cmd.Until.IsZero() && !cmd.Until.After(cmd.Since) {
		bad("to", "isn't later than from")
	}
	if in.Events != nil {
		issues = checkPatterns(issues, *in.Events)
		cmd.Patterns = *in.Events
	}
	return cmd, invalid(issues)
}

const isTime = `must be a time or a date, as in "2026-11-22T03:10:00Z" or "2026-11-22"`

// Replay gives a replay of an endpoint of the caller's.
func (c *Core) Replay(ctx context.Context, p *key.Principal, endpointID, id string) (*control.Replay, error) {
	if _, err := c.Endpoint(ctx, p, endpointID); err != nil {
		return nil, err
	}
	return ofCaller(ctx, c.control, func() *control.Replay { return c.control.Replay(endpointID, id) })
}

// CancelReplay has nothing more sent for a replay. What is under way ends; what
// failed isn't tried again.
func (c *Core) CancelReplay(ctx context.Context, p *key.Principal, endpointID, id string) (*control.Replay, error) {
	if _, err := c.Replay(ctx, p, endpointID, id); err != nil {
		return nil, err
	}
	change, err := c.control.Do(ctx, &control.CancelReplay{Endpoint: endpointID, Replay: id})
	switch {
	case errors.Is(err, control.ErrConflict):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "the replay has ended: all of it was sent"}
	case err != nil:
		return nil, refusal(err)
	}
	return change.Replay, nil
}

// Replays lists an endpoint's replays, the newest first. There are few.
func (c *Core) Replays(ctx context.Context, p *key.Principal, endpointID string) ([]byte, error) {
	if _, err := c.Endpoint(ctx, p, endpointID); err != nil {
		return nil, err
	}
	list := c.control.Replays(endpointID)
	body := []byte(`{"data":[`)
	for i := len(list) - 1; i >= 0; i-- {
		body = c.appendReplay(body, list[i])
		if i > 0 {
			body = append(body, ',')
		}
	}
	return append(body, "]}"...), nil
}

// replayStatus says what a replay is about.
func (c *Core) replayStatus(r *control.Replay) string {
	switch ep := c.control.Endpoint(r.Endpoint); {
	case r.Cancelled:
		return "cancelled"
	case r.Ended():
		return "completed"
	case ep != nil && ep.Status != endpoint.Active:
		return "waiting" // for it to be enabled
	}
	for _, before := range c.control.Replays(r.Endpoint) {
		if before.ID == r.ID {
			break
		} else if !before.Ended() {
			return "pending" // one after the other
		}
	}
	return "running"
}

func (c *Core) appendReplay(dst []byte, r *control.Replay) []byte {
	text := func(member, value string) {
		dst = append(append(append(dst, `,"`...), member...), `":`...)
		dst = dialect.AppendString(dst, value)
	}
	at := func(member string, t time.Time) {
		if !t.IsZero() {
			text(member, t.UTC().Format(event.TimestampLayout))
		}
	}
	dst = append(dst, `{"replayId":`...)
	dst = dialect.AppendString(dst, r.ID)
	text("webhookId", r.Endpoint)
	text("status", c.replayStatus(r))
	at("from", r.Since)
	at("to", r.Until)
	if r.Patterns != nil {
		dst = append(dst, `,"events":[`...)
		for i, p := range r.Patterns {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = dialect.AppendString(dst, p.String())
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"failedOnly":`...)
	dst = strconv.AppendBool(dst, r.FailedOnly)
	at("createdAt", r.CreatedAt)
	at("endedAt", r.EndedAt)
	return fmt.Appendf(dst, `,"progress":{"done":%d,"total":%d,"delivered":%d,"failed":%d,"expired":%d}}`,
		r.Done, r.Total, r.Delivered, r.Failed, r.Expired)
}
