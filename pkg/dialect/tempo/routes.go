package tempo

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

const subscriptions = "/api/v1/subscriptions"

var routes = dialect.Visible([]dialect.Route{
	{Method: "POST", Path: "/auth/register", Open: true, PerAddress: registersPerAddress, Serve: register},
	{Method: "POST", Path: "/auth/login", Open: true, PerAddress: loginsPerAddress, Serve: login},
	{Method: "POST", Path: "/auth/logout", Session: true, PerAddress: loginsPerAddress, Serve: logout},
	{Method: "POST", Path: subscriptions, Scope: key.Manage, Serve: create},
	{Method: "GET", Path: subscriptions, Scope: key.Manage, Params: []string{"limit", "offset"}, Serve: list},
	{Method: "GET", Path: subscriptions + "/{id}", Scope: key.Manage, Serve: get},
	{Method: "PATCH", Path: subscriptions + "/{id}", Scope: key.Manage, Serve: patch},
	{Method: "DELETE", Path: subscriptions + "/{id}", Scope: key.Manage, Serve: remove},
	{Method: "GET", Path: "/api/v1/webhooks/logs", Scope: key.Manage, Params: []string{"subscription_id", "limit", "offset"}, Serve: logs},
	{Method: "GET", Path: "/api/v1/usage", Scope: key.Manage, Params: []string{"start_date", "end_date"}, Serve: showUsage},
	{Method: "GET", Path: "/api/v1/plan", Scope: key.Manage, Serve: showPlan},
	{Method: "GET", Path: "/api/v1/quota/warnings", Scope: key.Manage, Serve: warnings},
	{Method: "POST", Path: apiKeys, Scope: key.Manage, Serve: createKey},
	{Method: "GET", Path: apiKeys, Scope: key.Manage, Params: []string{"limit", "offset"}, Serve: listKeys},
	{Method: "DELETE", Path: apiKeys + "/{key}", Scope: key.Manage, Serve: deleteKey},
}, sees)

// sees reports whether an endpoint is a subscription of the network that the caller's
// key is for.
func sees(p *key.Principal, ep *endpoint.Endpoint) bool {
	if ep.Dialect != name || p.Network == "" {
		return ep.Dialect == name
	}
	s, ok := read(ep)
	return ok && s.network == p.Network
}

// create answers with the signing secret, and is the only call that does.
func create(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		Type       string      `json:"type"`
		Network    string      `json:"network"`
		Address    string      `json:"address"`
		WebhookURL string      `json:"webhook_url"`
		Filters    []condition `json:"filters"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	s := subscription{in.Type, in.Network, in.Address, in.Filters}
	if issues := s.check(); len(issues) > 0 {
		return nil, dialect.Invalid(issues...)
	}
	if n := r.Principal.Network; n != "" && s.network != n {
		return nil, &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "Your API key is for " + n + " only. Please use one for " + s.network + "."}
	}
	p := core.Plan(&r.Principal)
	if refused := s.allowed(p); refused != nil {
		return nil, refused
	}
	text, atMost := s.filter(), p.Limits().Subscriptions
	ep, err := core.CreateEndpoint(ctx, &r.Principal, dialect.EndpointSpec{
		Dialect: name, IDPrefix: "sub_", URL: in.WebhookURL, Patterns: []string{s.eventType()}, Options: endpoint.OptionsPatch{Filter: &text}, AtMost: atMost,
	})
	var refused *dialect.Error
	if errors.As(err, &refused) && refused.Code == dialect.PlanLimit {
		return nil, &dialect.Error{Status: refused.Status, Code: refused.Code,
			Message: fmt.Sprintf("Your %s plan allows %d subscriptions. Please upgrade or remove inactive subscriptions.", p, atMost)}
	}
	if err != nil {
		return nil, inOurWords(err, endpointWords)
	}
	return &dialect.Response{Status: 201, Body: appendSubscription(nil, ep, true)}, nil
}

func list(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	offset, limit, wrong := window(r)
	if wrong != nil {
		return nil, wrong
	}
	all, err := mine(ctx, core, &r.Principal)
	if err != nil {
		return nil, err
	}
	begin := min(offset, len(all))
	end := min(begin+limit, len(all))
	body := []byte(`{"subscriptions":[`)
	for i, ep := range all[begin:end] {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendSubscription(body, ep, false)
	}
	return counted(body, len(all), end < len(all)), nil
}

// mine gives all subscriptions of the caller's, oldest first.
func mine(ctx context.Context, core dialect.Core, p *key.Principal) (all []*endpoint.Endpoint, err error) {
	for cursor := ""; ; {
		page, next, err := core.Endpoints(ctx, p, cursor, pageOf)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); next == "" {
			return all, nil
		}
		cursor = next
	}
}

const pageOf = 1000

// window reads which entries of a list are asked for.
func window(r *dialect.Request) (offset, limit int, wrong *dialect.Error) {
	if limit, wrong = dialect.Limit(r.Query("limit")); wrong != nil {
		return 0, 0, wrong
	}
	if text := r.Query("offset"); text != "" {
		var err error
		if offset, err = strconv.Atoi(text); err != nil || offset < 0 || offset > maxOffset {
			return 0, 0, dialect.Invalid(dialect.Issue{Path: []string{"offset"}, Message: "must be 0 to " + strconv.Itoa(maxOffset)})
		}
	}
	return offset, limit, nil
}

const maxOffset = 10_000

// counted ends a list with how many entries there are in all.
func counted(body []byte, total int, more bool) *dialect.Response {
	body = strconv.AppendInt(append(body, `],"total":`...), int64(total), 10)
	body = strconv.AppendBool(append(body, `,"has_more":`...), more)
	return &dialect.Response{Status: 200, Body: append(body, '}')}
}

func get(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	return shown(core.Endpoint(ctx, &r.Principal, r.Param("id")))
}

func patch(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		Active     *bool        `json:"active"`
		WebhookURL *string      `json:"webhook_url"`
		Filters    *[]condition `json:"filters"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	id := r.Param("id")
	change := dialect.EndpointPatch{URL: in.WebhookURL}
	if in.Filters != nil {
		ep, err := core.Endpoint(ctx, &r.Principal, id)
		if err != nil {
			return nil, err
		}
		s, ok := read(ep)
		if !ok {
			return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "what the subscription is owed was set by another API's call: change it there, or create another"}
		}
		s.filters = *in.Filters
		if issues := s.check(); len(issues) > 0 {
			return nil, dialect.Invalid(issues...)
		}
		if refused := s.allowed(core.Plan(&r.Principal)); refused != nil {
			return nil, refused
		}
		text := s.filter()
		change.Options.Filter = &text
	}
	ep, err := dialect.PatchActive(ctx, core, &r.Principal, id, change, in.Active)
	return shown(ep, inOurWords(err, endpointWords))
}

func remove(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	if err := core.DeleteEndpoint(ctx, &r.Principal, r.Param("id")); err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 204}, nil
}

// logs tells of one subscription's deliveries, or of all.
func logs(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	offset, limit, wrong := window(r)
	if wrong != nil {
		return nil, wrong
	}
	var ids []string
	if id := r.Query("subscription_id"); id != "" {
		if _, err := core.Endpoint(ctx, &r.Principal, id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	} else {
		all, err := mine(ctx, core, &r.Principal)
		if err != nil {
			return nil, err
		}
		for _, ep := range all {
			ids = append(ids, ep.ID)
		}
	}
	page, total, err := core.Recent(ctx, &r.Principal, ids, offset, limit)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"logs":[`)
	for i := range page {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendLog(body, &page[i])
	}
	return counted(body, total, offset+len(page) < total), nil
}

// endpointWords are the members of an endpoint as this API has them.
var endpointWords = map[string]string{"url": "webhook_url"}

// inOurWords puts what the core says of members in the words of this API.
func inOurWords(err error, words map[string]string) error {
	var e *dialect.Error
	if !errors.As(err, &e) {
		return err
	}
	said := *e
	said.Issues = nil
	for _, issue := range e.Issues {
		if len(issue.Path) > 0 && words[issue.Path[0]] != "" {
			issue.Path = append([]string{words[issue.Path[0]]}, issue.Path[1:]...)
		}
		said.Issues = append(said.Issues, issue)
	}
	return &said
}

func shown(ep *endpoint.Endpoint, err error) (*dialect.Response, error) {
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 200, Body: appendSubscription(nil, ep, false)}, nil
}
