package tenzro

import (
	"context"
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

var routes = dialect.Own(name, []dialect.Route{
	{Method: "POST", Path: "/api/events/webhook", Scope: key.Manage, Serve: create},
	{Method: "GET", Path: "/api/events/webhook/list", Scope: key.Manage, Serve: dialect.ListEndpoints("data", appendListed)},
	{Method: "DELETE", Path: "/api/events/webhook/{id}", Scope: key.Manage, Serve: remove},
	{Method: "POST", Path: "/api/events/webhook/{id}/enable", Scope: key.Manage, Serve: enable},
})

// create shows a secret that was made, once; one that was given its giver knows.
func create(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
		Secret *string  `json:"secret"`
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
	return answer(201, appendWebhook(nil, ep, secret == "")), nil
}

func remove(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	id := r.Param("id")
	if err := core.DeleteEndpoint(ctx, &r.Principal, id); err != nil {
		return nil, err
	}
	return answer(200, append(dialect.AppendString([]byte(`{"id":`), id), `,"deleted":true}`...)), nil
}

func enable(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	replay, wrong := dialect.Replay(r.Body)
	if wrong != nil {
		return nil, wrong
	}
	ep, err := core.EnableEndpoint(ctx, &r.Principal, r.Param("id"), replay)
	if err != nil {
		return nil, err
	}
	return answer(200, appendListed(nil, ep)), nil
}

// answer wraps what is told, as all of this API's answers are.
func answer(status int, value []byte) *dialect.Response {
	return &dialect.Response{Status: status, Body: append(append([]byte(`{"data":`), value...), '}')}
}

// appendListed adds an endpoint without its secret.
func appendListed(dst []byte, ep *endpoint.Endpoint) []byte { return appendWebhook(dst, ep, false) }

func appendWebhook(dst []byte, ep *endpoint.Endpoint, withSecret bool) []byte {
	dst = dialect.AppendString(append(dst, `{"id":`...), ep.ID)
	dst = dialect.AppendMember(dst, "url", ep.URL)
	dst = dialect.AppendTexts(append(dst, `,"events":`...), ep.Patterns.Strings())
	if withSecret {
		dst = dialect.AppendMember(dst, "secret", string(ep.Secret))
	}
	dst = dialect.AppendMember(dst, "status", string(ep.Status))
	if ep.Status == endpoint.Disabled {
		dst = dialect.AppendMember(dst, "reason", ep.Reason)
	}
	if ep.Missed > 0 {
		dst = strconv.AppendInt(append(dst, `,"missed":`...), ep.Missed, 10)
	}
	dst = dialect.AppendMember(dst, "createdAt", dialect.Timestamp(ep.CreatedAt))
	return append(dst, '}')
}
