package dialect

import (
	"context"

	"sluice/pkg/endpoint"
)

// ListEndpoints serves a page of the caller's endpoints in the member of that name, each
// as show adds it, and the place behind them.
func ListEndpoints(member string, show func(dst []byte, ep *endpoint.Endpoint) []byte) func(context.Context, Core, *Request) (*Response, error) {
	return func(ctx context.Context, core Core, r *Request) (*Response, error) {
		limit, wrong := Limit(r.Query("limit"))
		if wrong != nil {
			return nil, wrong
		}
		page, next, err := core.Endpoints(ctx, &r.Principal, r.Query("cursor"), limit)
		if err != nil {
			return nil, err
		}
		body := append(AppendString([]byte{'{'}, member), ':', '[')
		for i, ep := range page {
			if i > 0 {
				body = append(body, ',')
			}
			body = show(body, ep)
		}
		return &Response{Status: 200, Body: append(AppendNext(append(body, ']'), next), '}')}, nil
	}
}

// RemoveEndpoint deletes the endpoint that the path names as {id}, and says no more.
func RemoveEndpoint(ctx context.Context, core Core, r *Request) (*Response, error) {
	if err := core.DeleteEndpoint(ctx, &r.Principal, r.Param("id")); err != nil {
		return nil, err
	}
	return &Response{Status: 204}, nil
}
