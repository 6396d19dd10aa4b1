package dialect

import (
	"context"

	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// Own has routes see no endpoints but those made through the dialect: an endpoint
// of another, shown in the words of this one, would say what isn't so. The
// parameter {id} of their paths is an endpoint's.
func Own(name string, routes []Route) []Route {
	return Visible(routes, func(_ *key.Principal, ep *endpoint.Endpoint) bool { return ep.Dialect == name })
}

// Visible has routes see no endpoints but those that the caller may see, as Own does.
func Visible(routes []Route, to func(p *key.Principal, ep *endpoint.Endpoint) bool) []Route {
	own := make([]Route, len(routes))
	for i, r := range routes {
		serve := r.Serve
		r.Serve = func(ctx context.Context, core Core, req *Request) (*Response, error) {
			own := ownCore{core, to}
			if id := req.Param("id"); id != "" {
				if _, err := own.Endpoint(ctx, &req.Principal, id); err != nil {
					return nil, err
				}
			}
			return serve(ctx, own, req)
		}
		own[i] = r
	}
	return own
}

// ErrNothing is the error of an id that is nothing of the caller's.
var ErrNothing = &Error{Status: 404, Code: NotFound, Message: "there is nothing of yours with this id"}

// ownCore knows no endpoints but those that a caller may see.
type ownCore struct {
	Core
	visible func(p *key.Principal, ep *endpoint.Endpoint) bool
}

func (c ownCore) Endpoint(ctx context.Context, p *key.Principal, id string) (*endpoint.Endpoint, error) {
	ep, err := c.Core.Endpoint(ctx, p, id)
	if err == nil && !c.visible(p, ep) {
		return nil, ErrNothing
	}
	return ep, err
}

// Endpoints asks for no more than still has room on the page, so that the place
// behind what was looked at is the place behind the page.
func (c ownCore) Endpoints(ctx context.Context, p *key.Principal, cursor string, limit int) ([]*endpoint.Endpoint, string, error) {
	var page []*endpoint.Endpoint
	for {
		some, next, err := c.Core.Endpoints(ctx, p, cursor, limit-len(page))
		if err != nil {
			return nil, "", err
		}
		for _, ep := range some {
			if c.visible(p, ep) {
				page = append(page, ep)
			}
		}
		if next == "" || len(page) == limit {
			return page, next, nil
		}
		cursor = next
	}
}
