package quub

import (
	"context"
	"errors"
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

const webhooks = "/events/v1/webhooks"

var routes = dialect.Own(name, []dialect.Route{
	{Method: "POST", Path: webhooks, Scope: key.Manage, Serve: create},
	{Method: "GET", Path: webhooks, Scope: key.Manage, Serve: dialect.ListEndpoints("webhooks", appendListed)},
	{Method: "PATCH", Path: webhooks + "/{id}", Scope: key.Manage, Serve: patch},
	{Method: "DELETE", Path: webhooks + "/{id}", Scope: key.Manage, Serve: dialect.RemoveEndpoint},
	{Method: "POST", Path: webhooks + "/{id}/test", Scope: key.Manage, Serve: test},
	{Method: "GET", Path: webhooks + "/{id}/logs", Scope: key.Manage, Serve: logs},
})

// create answers with the secret, given or made, and is the only call that does.
func create(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
		Secret *string  `json:"secret"`
		Active *bool    `json:"active"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	secret, wrong := dialect.Secret(in.Secret)
	if wrong != nil {
		return nil, wrong
	}
	ep, err := core.CreateEndpoint(ctx, &r.Principal, dialect.EndpointSpec{Dialect: name, URL: in.URL, Patterns: in.Events, Secret: secret})
	if err != nil {
		return nil, err
	}
	id, made := ep.ID, ep.Secret
	if in.Active != nil && !*in.Active {
		paused := endpoint.Paused
		ep, err = core.PatchEndpoint(ctx, &r.Principal, id, dialect.EndpointPatch{Status: &paused})
		if err != nil {
			return nil, errors.Join(err, core.DeleteEndpoint(ctx, &r.Principal, id)) // an active one wasn't asked for
		}
	}
	return &dialect.Response{Status: 201, Body: appendWebhook(nil, ep, made)}, nil
}

func patch(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL    *string   `json:"url"`
		Events *[]string `json:"events"`
		Active *bool     `json:"active"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	ep, err := dialect.PatchActive(ctx, core, &r.Principal, r.Param("id"), dialect.EndpointPatch{URL: in.URL, Patterns: in.Events}, in.Active)
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 200, Body: appendListed(nil, ep)}, nil
}

func test(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		EventType string `json:"eventType"`
	}
	if len(r.Body) > 0 {
		if e := dialect.DecodeStrict(r.Body, &in); e != nil {
			return nil, e
		}
	}
	id, err := core.TestEndpoint(ctx, &r.Principal, r.Param("id"), in.EventType)
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 202, Body: append(dialect.AppendString([]byte(`{"deliveryId":`), id), '}')}, nil
}

func logs(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	limit, wrong := dialect.Limit(r.Query("limit"))
	if wrong != nil {
		return nil, wrong
	}
	id := r.Param("id")
	page, next, err := core.Deliveries(ctx, &r.Principal, id, r.Query("cursor"), limit)
	if err != nil {
		return nil, err
	}
	body := append(dialect.AppendString([]byte(`{"webhookId":`), id), `,"logs":[`...)
	for i := range page {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendLog(body, &page[i])
	}
	return &dialect.Response{Status: 200, Body: append(dialect.AppendNext(append(body, ']'), next), '}')}, nil
}

// appendLog adds a delivery, as its newest attempt has it. One that wasn't tried
// yet has no status and no time.
func appendLog(dst []byte, d *dialect.Delivery) []byte {
	dst = dialect.AppendString(append(dst, `{"logId":`...), d.ID)
	dst = dialect.AppendMember(dst, "eventId", d.EventID)
	dst = dialect.AppendMember(dst, "eventType", d.EventType)
	dst = dialect.AppendMember(dst, "timestamp", dialect.Timestamp(d.At))
	dst = dialect.AppendNumber(dst, "httpStatus", int64(d.HTTPStatus), d.HTTPStatus != 0)
	dst = dialect.AppendNumber(dst, "responseTime", d.Took.Milliseconds(), d.Attempts > 0)
	dst = dialect.AppendNumber(dst, "attempts", int64(d.Attempts), true)
	dst = strconv.AppendBool(append(dst, `,"success":`...), d.Status == dialect.Delivered)
	if d.Failure != "" {
		dst = dialect.AppendMember(dst, "error", d.Failure)
	}
	return append(dst, '}')
}

// appendListed adds an endpoint without its secret.
func appendListed(dst []byte, ep *endpoint.Endpoint) []byte { return appendWebhook(dst, ep, nil) }

// appendWebhook adds an endpoint; a secret is nil where it isn't shown.
func appendWebhook(dst []byte, ep *endpoint.Endpoint, secret endpoint.Secret) []byte {
	dst = dialect.AppendString(append(dst, `{"webhookId":`...), ep.ID)
	dst = dialect.AppendMember(dst, "url", ep.URL)
	dst = dialect.AppendTexts(append(dst, `,"events":`...), ep.Patterns.Strings())
	if secret != nil {
		dst = dialect.AppendMember(dst, "secret", string(secret))
	}
	dst = strconv.AppendBool(append(dst, `,"active":`...), ep.Status == endpoint.Active)
	if ep.Status == endpoint.Disabled {
		dst = dialect.AppendMember(dst, "disabledReason", ep.Reason)
	}
	if ep.Missed > 0 {
		dst = strconv.AppendInt(append(dst, `,"missed":`...), ep.Missed, 10)
	}
	dst = dialect.AppendMember(dst, "createdAt", dialect.Timestamp(ep.CreatedAt))
	return append(dst, '}')
}
