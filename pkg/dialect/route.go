package dialect

import (
	"context"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/plan"
)

// Route is one HTTP call of a dialect. The gateway authenticates, checks the
// scope and reads the body before it calls Serve.
type Route struct {
	Method string
	Path   string // segments in braces are parameters: /v1/webhooks/{id}
	Scope  key.Scope
	// Open calls are served without a key; Request.Principal is nobody.
	Open bool
	// Session calls are for who has logged in: a key isn't enough.
	Session bool
	// PerAddress bounds its calls in a minute from one address, which then don't count
	// against the org's plan; 0: it doesn't, and they do.
	PerAddress int
	// Params are the parameters of the query that it takes; nil: others aren't looked at.
	Params []string
	Serve  func(ctx context.Context, core Core, r *Request) (*Response, error)
}

// Request is a call that was let in.
type Request struct {
	Principal key.Principal
	From      string                   // the network address that it came from, of IPv6 a subscriber's range
	Now       time.Time                // when it came
	Used      int                      // requests of the org's in this minute of its plan's, this one among them
	Param     func(name string) string // from the path
	Query     func(name string) string // empty when absent
	Body      []byte                   // valid only during the call
}

// Response is the answer to a call. Errors are returned beside it: an *Error is
// shown to the client, any other is logged and becomes a 500.
type Response struct {
	Status int
	Body   []byte  // JSON; nil for none
	Cookie *Cookie // nil: a browser keeps the one it has
}

// Core is what a dialect's calls may ask for. Everything is scoped to the
// principal's org and environment: what belongs to others doesn't exist.
type Core interface {
	Accounts
	// Plan is the one that the principal's org is on.
	Plan(p *key.Principal) plan.Plan
	// Usage is what the caller's org used, in both environments together.
	Usage(ctx context.Context, p *key.Principal) (*Usage, error)
	// CountEndpoints counts the endpoints of a dialect that the caller's org has in both
	// environments, and those among them that are active.
	CountEndpoints(p *key.Principal, dialect string) (all, active int)
	// CreateEndpoint refuses with the code PlanLimit what spec.AtMost doesn't allow.
	CreateEndpoint(ctx context.Context, p *key.Principal, spec EndpointSpec) (*endpoint.Endpoint, error)
	Endpoint(ctx context.Context, p *key.Principal, id string) (*endpoint.Endpoint, error)
	// Endpoints lists in order of creation, behind the place that cursor (empty:
	// the beginning) names; next is empty on the last page.
	Endpoints(ctx context.Context, p *key.Principal, cursor string, limit int) (page []*endpoint.Endpoint, next string, err error)
	PatchEndpoint(ctx context.Context, p *key.Principal, id string, patch EndpointPatch) (*endpoint.Endpoint, error)
	DeleteEndpoint(ctx context.Context, p *key.Principal, id string) error
	// TestEndpoint sends one test event of that type to the endpoint (empty: of a type
	// of its own), past its patterns and status, and returns the delivery's id.
	TestEndpoint(ctx context.Context, p *key.Principal, id, eventType string) (deliveryID string, err error)
	// RotateSecret makes the endpoint another secret; those of before sign beside it for
	// so many seconds.
	RotateSecret(ctx context.Context, p *key.Principal, id string, overlap int64) (*endpoint.Endpoint, error)
	// EnableEndpoint makes it active again; what was missed since its first failure
	// is delivered unless replay is false.
	EnableEndpoint(ctx context.Context, p *key.Principal, id string, replay bool) (*endpoint.Endpoint, error)
	// Deliveries lists what became of an endpoint's deliveries, the newest events
	// first, as Endpoints does. A page may be short though the list goes on.
	Deliveries(ctx context.Context, p *key.Principal, id, cursor string, limit int) (page []Delivery, next string, err error)
	// Recent lists what became of deliveries of several endpoints as one list, the newest
	// events first, from the entry of that number on; total is how many there are, of which
	// no more than 100,000 are counted.
	Recent(ctx context.Context, p *key.Principal, ids []string, offset, limit int) (page []Delivery, total int, err error)
	// CreateKey makes the caller's org another key, which may do nothing that the caller
	// may not; the one returned has its text, this once.
	CreateKey(ctx context.Context, p *key.Principal, spec KeySpec) (*Key, error)
	// Keys lists the keys of the caller's org, of every dialect, in order of creation; who
	// calls from the sandbox sees those of the sandbox.
	Keys(ctx context.Context, p *key.Principal) ([]Key, error)
	// RevokeKey takes away one that Keys lists, the caller's own too.
	RevokeKey(ctx context.Context, p *key.Principal, id string) error
	// EventsPage reads what the caller may see of the last seven days. A page may be short,
	// or empty, though there is more.
	EventsPage(ctx context.Context, p *key.Principal, q EventQuery) (EventPage, error)
}

// Usage is what an org used. What was counted in the last two seconds may not be in it.
type Usage struct {
	Month UsedIn    // this month
	Days  []UsedIn  // in order of time, without those in which nothing was counted
	Since time.Time // the first day that Days go back to
}

// UsedIn is what an org used in a month or on a day.
type UsedIn struct {
	Start      time.Time // UTC
	Requests   int64     // of the API, those that count against its plan
	Deliveries int64     // of endpoints of dialects that are metered
}

// KeySpec is what a key is made of.
type KeySpec struct {
	Brand       string // the word that it begins with
	Environment event.Environment
	Scopes      []key.Scope // of the caller's
	Name        string
	ExpiresAt   time.Time // zero: never
	Network     string    // as key.Principal has it
}

// Key is an API key as its owners see it.
type Key struct {
	ID          string
	Token       key.Token // of one that was made just now; else empty
	Start       string    // how it begins
	Name        string
	Environment event.Environment
	Network     string // empty: any
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
}

// EventQuery says which events are asked for.
type EventQuery struct {
	Types    event.Patterns             // nil: all
	From, To string                     // when they were logged: RFC 3339, or a date, which To includes; empty: no bound
	Limit    string                     // of a page; empty: 50
	Cursor   string                     // behind which; empty: from the oldest
	Match    func(ev *event.Event) bool // beside all that; nil: any
}

// EventPage is what there is.
type EventPage struct {
	Events []*event.Event // oldest first
	Next   string         // where to go on, or to ask for what comes
	More   bool           // there may be more already
}

// Delivery is what became of one event owed to an endpoint.
type Delivery struct {
	ID        string
	Endpoint  string
	EventID   string
	EventType string
	At        time.Time // when its newest attempt began, or when it was made if there was none
	Attempts  int       // made so far
	Status    DeliveryStatus
	Waits     string // for people: why it waits though its endpoint could be sent to, and until when; empty: it doesn't

	// Of the newest attempt, as long as that is kept.
	HTTPStatus int           // 0: there was no answer
	Took       time.Duration // until status, or failure
	Failure    string        // for people: what went wrong; empty: nothing did, or there was no attempt
}

// DeliveryStatus says where a delivery stands.
type DeliveryStatus string

// The statuses.
const (
	Pending   DeliveryStatus = "pending"   // it wasn't tried yet
	Retrying  DeliveryStatus = "retrying"  // it failed and is tried again
	Held      DeliveryStatus = "held"      // its endpoint can't take it now
	Delivered DeliveryStatus = "delivered" // by any of its attempts
	Dead      DeliveryStatus = "dead"      // it isn't tried again, unless somebody asks
	Failed    DeliveryStatus = "failed"    // a test that failed
	Cancelled DeliveryStatus = "cancelled" // its endpoint was enabled without what it missed
)

// EndpointSpec is what an endpoint is made of.
type EndpointSpec struct {
	Dialect     string
	IDPrefix    string // how its id begins; empty: wh_
	URL         string
	Patterns    []string
	Secret      string // empty: one is made
	Description string
	Options     endpoint.OptionsPatch
	AtMost      int // endpoints of the dialect that the org may have, in both environments; 0: any number
}

// EndpointPatch changes the members that aren't nil.
type EndpointPatch struct {
	URL         *string
	Patterns    *[]string
	Description *string
	Status      *endpoint.Status // Active or Paused
	Options     endpoint.OptionsPatch
}
