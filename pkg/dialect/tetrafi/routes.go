package tetrafi

import (
	"context"
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// The document's SDK calls: webhooks.create, list, update, delete, test; and
// POST /v1/webhooks/{id}/enable and …/rotate-secret.
var routes = []dialect.Route{
	{Method: "POST", Path: "/v1/webhooks", Scope: key.Manage, Serve: create},
	{Method: "GET", Path: "/v1/webhooks", Scope: key.Manage, Serve: dialect.ListEndpoints("data", appendListed)},
	{Method: "GET", Path: "/v1/webhooks/{id}", Scope: key.Manage, Serve: get},
	{Method: "PATCH", Path: "/v1/webhooks/{id}", Scope: key.Manage, Serve: patch},
	{Method: "DELETE", Path: "/v1/webhooks/{id}", Scope: key.Manage, Serve: dialect.RemoveEndpoint},
	{Method: "POST", Path: "/v1/webhooks/{id}/test", Scope: key.Manage, Serve: test},
	{Method: "POST", Path: "/v1/webhooks/{id}/enable", Scope: key.Manage, Serve: enable},
	{Method: "POST", Path: "/v1/webhooks/{id}/rotate-secret", Scope: key.Manage, Serve: rotate},
}

func create(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL         string   `json:"url"`
		Events      []string `json:"events"`
		Secret      *string  `json:"secret"`
		Description string   `json:"description"`
		options
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	secret, wrong := dialect.Secret(in.Secret)
	if wrong != nil {
		return nil, wrong
	}
	ep, err := core.CreateEndpoint(ctx, &r.Principal, dialect.EndpointSpec{
		Dialect: name, URL: in.URL, Patterns: in.Events, Secret: secret, Description: in.Description, Options: in.options.patch(),
	})
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 201, Body: appendWebhook(nil, ep, true)}, nil
}

func get(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	return shown(core.Endpoint(ctx, &r.Principal, r.Param("id")))
}

func patch(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL         *string          `json:"url"`
		Events      *[]string        `json:"events"`
		Description *string          `json:"description"`
		Status      *endpoint.Status `json:"status"`
		options
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	return shown(core.PatchEndpoint(ctx, &r.Principal, r.Param("id"), dialect.EndpointPatch{
		URL: in.URL, Patterns: in.Events, Description: in.Description, Status: in.Status, Options: in.options.patch(),
	}))
}

func shown(ep *endpoint.Endpoint, err error) (*dialect.Response, error) {
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 200, Body: appendListed(nil, ep)}, nil
}

func test(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	if len(r.Body) > 0 {
		if e := dialect.DecodeStrict(r.Body, &struct{}{}); e != nil {
			return nil, e
		}
	}
	id, err := core.TestEndpoint(ctx, &r.Principal, r.Param("id"), "")
	if err != nil {
		return nil, err
	}
	body := append([]byte(`{"deliveryId":`), dialect.AppendString(nil, id)...)
	return &dialect.Response{Status: 202, Body: append(body, '}')}, nil
}

func enable(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	replay, wrong := dialect.Replay(r.Body)
	if wrong != nil {
		return nil, wrong
	}
	return shown(core.EnableEndpoint(ctx, &r.Principal, r.Param("id"), replay))
}

// defaultOverlap is how long the secrets of before go on signing, in seconds.
const defaultOverlap = 24 * 60 * 60

func rotate(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		OverlapSeconds *int64 `json:"overlapSeconds"`
	}
	if len(r.Body) > 0 {
		if e := dialect.DecodeStrict(r.Body, &in); e != nil {
			return nil, e
		}
	}
	overlap := int64(defaultOverlap)
	if in.OverlapSeconds != nil {
		overlap = *in.OverlapSeconds
	}
	ep, err := core.RotateSecret(ctx, &r.Principal, r.Param("id"), overlap)
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 200, Body: appendWebhook(nil, ep, true)}, nil
}

// appendListed adds an endpoint without its secret.
func appendListed(dst []byte, ep *endpoint.Endpoint) []byte { return appendWebhook(dst, ep, false) }

// appendWebhook adds an endpoint. A secret is shown when it is made, and never
// again.
func appendWebhook(dst []byte, ep *endpoint.Endpoint, withSecret bool) []byte {
	text := func(member, value string) { dst = dialect.AppendMember(dst, member, value) }
	dst = append(dst, `{"id":`...)
	dst = dialect.AppendString(dst, ep.ID)
	text("url", ep.URL)
	dst = dialect.AppendTexts(append(dst, `,"events":`...), ep.Patterns.Strings())
	text("status", string(ep.Status))
	if withSecret {
		text("secret", string(ep.Secret))
	}
	text("description", ep.Description)
	text("dialect", ep.Dialect)
	text("createdAt", dialect.Timestamp(ep.CreatedAt))
	text("updatedAt", dialect.Timestamp(ep.UpdatedAt))
	if ep.Status == endpoint.Disabled {
		text("reason", ep.Reason)
		text("disabledAt", dialect.Timestamp(ep.DisabledAt))
	}
	dst = append(dst, `,"missed":`...)
	dst = strconv.AppendInt(dst, ep.Missed, 10)
	dst = appendOverlap(dst, ep)
	dst = appendOptions(dst, &ep.Options)
	return append(dst, '}')
}
