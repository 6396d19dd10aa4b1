package dialect

import (
	"context"

	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// Route is one HTTP call of a dialect. The gateway authenticates, checks the
// scope and reads the body before it calls Serve.
type Route struct {
	Method string
	Path   string // segments in braces are parameters: /v1/webhooks/{id}
	Scope  key.Scope
	Serve  func(ctx context.Context, core Core, r *Request) (*Response, error)
}

// Request is a call that was let in.
type Request struct {
	Principal key.Principal
	Param     func(name string) string // from the path
	Query     func(name string) string // empty when absent
	Body      []byte                   // valid only during the call
}

// Response is the answer to a call. Errors are returned beside it: an *Error is
// shown to the client, any other is logged and becomes a 500.
type Response struct {
	Status int
	Body   []byte // JSON; nil for none
}

// Core is what a dialect's calls may ask for. Everything is scoped to the
// principal's org and environment: what belongs to others doesn't exist.
type Core interface {
	CreateEndpoint(ctx context.Context, p *key.Principal, spec EndpointSpec) (*endpoint.Endpoint, error)
	Endpoint(ctx context.Context, p *key.Principal, id string) (*endpoint.Endpoint, error)
	// Endpoints lists in order of creation, behind the place that cursor (empty:
	// the beginning) names; next is empty on the last page.
	Endpoints(ctx context.Context, p *key.Principal, cursor string, limit int) (page []*endpoint.Endpoint, next string, err error)
	PatchEndpoint(ctx context.Context, p *key.Principal, id string, patch EndpointPatch) (*endpoint.Endpoint, error)
	DeleteEndpoint(ctx context.Context, p *key.Principal, id string) error
	// TestEndpoint sends one test event to the endpoint, past its patterns and
	// status, and returns the delivery's id.
	TestEndpoint(ctx context.Context, p *key.Principal, id string) (deliveryID string, err error)
	// RotateSecret makes the endpoint another secret; those of before sign beside it for
	// so many seconds.
	RotateSecret(ctx context.Context, p *key.Principal, id string, overlap int64) (*endpoint.Endpoint, error)
	// EnableEndpoint makes it active again; what was missed since its first failure
	// is delivered unless replay is false.
	EnableEndpoint(ctx context.Context, p *key.Principal, id string, replay bool) (*endpoint.Endpoint, error)
}

// EndpointSpec is what an endpoint is made of.
type EndpointSpec struct {
	Dialect     string
	URL         string
	Patterns    []string
	Secret      string // empty: one is made
	Description string
	Options     endpoint.OptionsPatch
}

// EndpointPatch changes the members that aren't nil.
type EndpointPatch struct {
	URL         *string
	Patterns    *[]string
	Description *string
	Status      *endpoint.Status // Active or Paused
	Options     endpoint.OptionsPatch
}
