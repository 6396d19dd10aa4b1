// Package manage is what is asked about rather than streamed: endpoints, for
// their owners; orgs and keys, for the operator; reads of events.
//
//	dialect's route ─► Core ─┐
//	                         ├─► control (validated, scoped to the caller)
//	--ops ─► admin API ──────┘
//
//	core.go    Core: what dialects' calls may ask for
//	check.go   what an endpoint must be
//	options.go what its options must be
//	rotate.go  another secret for it
//	keys.go    keys, made and revoked by those who have one
//	events.go  reads of events
//	deliveries.go  what became of deliveries, and one more attempt of one
//	replay.go  events sent to an endpoint once more
//	usage.go   what an org used, for itself and for the operator
//	admin.go   the admin API
//	providers.go   its calls about the secrets of providers
//	token.go   its token
package manage

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
	"sluice/pkg/plan"
	"sluice/pkg/usage"
)

// Log is what the core needs of the log.
type Log interface {
	Append(ctx context.Context, records []eventlog.Record) ([]int64, error)
	Bounds(ctx context.Context, p eventlog.Partition) (start, end int64, err error)
	Scarce() bool
}

// Core answers dialects' calls from the control state. Whatever isn't of the
// caller's org and environment doesn't exist.
type Core struct {
	control  *control.Control
	log      Log
	checkURL func(url string) error
	signed   map[string]bool // headers that dialects sign with, in lower case
	metered  map[string]bool // dialects whose deliveries count
	totals   *usage.Totals   // nil: nobody asks for what orgs use
}

// NewCore makes a core. checkURL says, for the person who sent it, why deliveries
// can't go to a URL. What the dialects' webhooks send as headers no endpoint may
// have as its own. What orgs use is what totals say, which may be nil where nobody asks.
func NewCore(c *control.Control, log Log, checkURL func(url string) error, dialects []*dialect.Dialect, totals *usage.Totals) *Core {
	core := &Core{control: c, log: log, checkURL: checkURL, signed: make(map[string]bool), metered: make(map[string]bool), totals: totals}
	for _, d := range dialects {
		if d.Webhook == nil {
			continue
		}
		core.metered[d.Name] = d.Webhook.Metered
		for _, h := range d.Webhook.AppendHeaders(nil, &dialect.Attempt{}) {
			core.signed[strings.ToLower(h.Name)] = true
		}
	}
	return core
}

// CreateEndpoint registers an endpoint; the one returned has the secret, made
// here where none was given.
func (c *Core) CreateEndpoint(ctx context.Context, p *key.Principal, spec dialect.EndpointSpec) (*endpoint.Endpoint, error) {
	if err := c.checkSpec(&spec); err != nil {
		return nil, err
	}
	if spec.Secret == "" {
		spec.Secret = newSecret()
	}
	change, err := c.control.Do(ctx, &control.CreateEndpoint{
		Prefix: spec.IDPrefix, Org: p.Org, Environment: p.Environment, Dialect: spec.Dialect, URL: spec.URL,
		Patterns: spec.Patterns, Description: spec.Description, Secret: endpoint.Secret(spec.Secret), Options: spec.Options, OfDialect: spec.AtMost,
	})
	switch {
	case errors.Is(err, control.ErrLimit):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict,
			Message: fmt.Sprintf("there are %d endpoints already, the most that an org may have: delete one", control.MaxEndpoints)}
	case errors.Is(err, control.ErrPlan):
		return nil, &dialect.Error{Status: 400, Code: dialect.PlanLimit,
			Message: fmt.Sprintf("the plan allows %d such endpoints: delete one, or change the plan", spec.AtMost)}
	case err != nil:
		return nil, refusal(err)
	}
	return change.Endpoint, nil
}

// Plan gives the plan of the caller's org. Of one that was deleted meanwhile nothing
// can be made, whatever its plan.
func (c *Core) Plan(p *key.Principal) plan.Plan {
	if org := c.control.Org(p.Org); org != nil {
		return org.Plan
	}
	return plan.Free
}

// Endpoint gives an endpoint of the caller's.
func (c *Core) Endpoint(ctx context.Context, p *key.Principal, id string) (*endpoint.Endpoint, error) {
	return ofCaller(ctx, c.control, func() *endpoint.Endpoint {
		if ep := c.control.Endpoint(id); ep != nil && ep.Org == p.Org && ep.Environment == p.Environment {
			return ep
		}
		return nil
	})
}

// ofCaller gives what find finds of the caller's. Where that is nothing it may have been
// made on another node a moment ago; and what is another's takes the same look at the
// log, or how long the answer takes would tell it from what there never was.
func ofCaller[T any](ctx context.Context, c *control.Control, find func() *T) (*T, error) {
	found := find()
	if found == nil {
		if err := c.Recheck(ctx); err != nil {
			return nil, refusal(err)
		}
		if found = find(); found == nil {
			return nil, dialect.ErrNothing
		}
	}
	return found, nil
}

// Endpoints lists the caller's endpoints, oldest first.
func (c *Core) Endpoints(_ context.Context, p *key.Principal, cursor string, limit int) ([]*endpoint.Endpoint, string, error) {
	after, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	page, next := c.control.Endpoints(p.Org, p.Environment, after, limit)
	return page, formatPlace(next), nil
}

// PatchEndpoint changes an endpoint. Its members are set one by one to what the
// patch says, so two patches at once don't undo each other.
func (c *Core) PatchEndpoint(ctx context.Context, p *key.Principal, id string, patch dialect.EndpointPatch) (*endpoint.Endpoint, error) {
	if _, err := c.Endpoint(ctx, p, id); err != nil {
		return nil, err
	}
	if err := c.checkPatch(&patch); err != nil {
		return nil, err
	}
	change, err := c.control.Do(ctx, &control.UpdateEndpoint{
		Endpoint: id, URL: patch.URL, Patterns: patch.Patterns, Description: patch.Description, Status: patch.Status, Options: patch.Options,
	})
	if err != nil {
		return nil, refusal(err)
	}
	return change.Endpoint, nil
}

// DeleteEndpoint takes an endpoint away.
func (c *Core) DeleteEndpoint(ctx context.Context, p *key.Principal, id string) error {
	if _, err := c.Endpoint(ctx, p, id); err != nil {
		return err
	}
	if _, err := c.control.Do(ctx, &control.DeleteEndpoint{Endpoint: id}); err != nil {
		return refusal(err)
	}
	return nil
}

// EnableEndpoint makes an endpoint active again. The one returned has in Missed
// what it missed until now; its own count begins anew.
func (c *Core) EnableEndpoint(ctx context.Context, p *key.Principal, id string, replay bool) (*endpoint.Endpoint, error) {
	if _, err := c.Endpoint(ctx, p, id); err != nil {
		return nil, err
	}
	cmd := &control.EnableEndpoint{Endpoint: id}
	if !replay {
		_, end, err := c.log.Bounds(ctx, eventlog.Partition{Topic: p.Environment.Topic()})
		if err != nil {
			return nil, unavailable
		}
		cmd.Skip = end
	}
	change, err := c.control.Do(ctx, cmd)
	if err != nil {
		return nil, refusal(err)
	}
	ep := *change.Endpoint
	ep.Missed = change.EndpointBefore.Missed
	return &ep, nil
}

// TestType is the type of the events that test an endpoint, unless another is asked
// for.
const TestType = "webhook.test"

const isType = "must be an event's type, of lower-case words with dots between, as in order.filled"

// TestEndpoint appends a delivery of an event that is in no log.
func (c *Core) TestEndpoint(ctx context.Context, p *key.Principal, id, eventType string) (string, error) {
	ep, err := c.Endpoint(ctx, p, id)
	if err != nil {
		return "", err
	}
	if eventType = cmp.Or(eventType, TestType); !event.ValidType(eventType) {
		return "", dialect.Invalid(dialect.Issue{Path: []string{"eventType"}, Message: isType})
	}
	now := time.Now().UTC()
	// It has the place of the next event, so that it stands among others in a list.
	_, end, err := c.log.Bounds(ctx, eventlog.Partition{Topic: ep.Environment.Topic()})
	if err != nil {
		return "", unavailable
	}
	data := append([]byte(`{"test":{"webhookId":`), dialect.AppendString(nil, ep.ID)...)
	ev := &event.Event{
		ID: event.NewID(now), Offset: end, Type: eventType, Timestamp: now.Truncate(time.Millisecond), Environment: ep.Environment,
		Org: ep.Org, Audience: event.Audience{Orgs: []string{ep.Org}}, Key: ep.Org, Data: append(data, "}}"...),
	}
	d := delivery.NewTest(ev, ep.ID, c.control.Applied())
	record := eventlog.Record{
		Partition: eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)},
		Key:       []byte(ep.ID),
		Value:     d.AppendRecord(nil),
	}
	if _, err := c.log.Append(ctx, []eventlog.Record{record}); err != nil {
		return "", unavailable
	}
	return d.ID, nil
}

var unavailable = &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "that can't be done now: try again", RetryAfter: 1}

// refusal puts an error of control in a client's words. What isn't a refusal
// stays what it is: ours.
func refusal(err error) error {
	switch {
	case errors.Is(err, control.ErrNotFound):
		return dialect.ErrNothing
	case errors.Is(err, control.ErrDisabled):
		return &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "the endpoint is disabled: enable it with POST …/enable"}
	case errors.Is(err, control.ErrExists):
		return &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "that exists already, or once did"}
	case errors.Is(err, control.ErrConflict):
		return &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "that was changed meanwhile: look and try again"}
	case errors.Is(err, control.ErrLimit):
		return &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "there are as many as may be: delete one"}
	case errors.Is(err, control.ErrUnavailable), errors.Is(err, control.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable
	}
	return err
}

// A place in a list is opaque to clients: a version and the offset of the command
// that made the last one shown, in base64url.
const placeVersion = 1

func formatPlace(at int64) string {
	if at == 0 {
		return ""
	}
	raw := binary.BigEndian.AppendUint64([]byte{placeVersion}, uint64(at))
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parsePlace(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != 9 || raw[0] != placeVersion || raw[1] >= 0x80 {
		return 0, &dialect.Error{Status: 400, Code: dialect.InvalidCursor, Message: "cursor isn't one that a list gave: leave it out to begin anew"}
	}
	return int64(binary.BigEndian.Uint64(raw[1:])), nil
}
