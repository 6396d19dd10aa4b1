package standardwebhooks

import (
	"context"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

var routes = []dialect.Route{
	{Method: "POST", Path: "/standard-webhooks/v1/endpoints", Scope: key.Manage, Serve: create},
}

// create makes the secret, as the specification would have it be: no other is as
// sure to be read alike by all libraries.
func create(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	ep, err := core.CreateEndpoint(ctx, &r.Principal, dialect.EndpointSpec{Dialect: name, URL: in.URL, Patterns: in.Events})
	if err != nil {
		return nil, err
	}
	body := dialect.AppendString([]byte(`{"id":`), ep.ID)
	body = dialect.AppendMember(body, "url", ep.URL)
	body = dialect.AppendTexts(append(body, `,"events":`...), ep.Patterns.Strings())
	body = dialect.AppendMember(body, "secret", string(ep.Secret))
	return &dialect.Response{Status: 201, Body: append(body, '}')}, nil
}
