// Package dialect says what a dialect is: a published API, spoken over the same
// core. A dialect is a value made of pure functions: no log, no dialling, no
// clock. A part that is nil is a part it doesn't speak.
//
//	dialect.go   Dialect, Webhook
//	stream.go    Stream: what is said on a WebSocket; SSE: on a stream of events
//	message.go   reading what a client says on a WebSocket
//	reply.go     what we say alike in all dialects
//	route.go     Route: its HTTP calls, and what they may ask of the core
//	account.go   people, who register and log in
//	inbound.go   Inbound: webhooks of others, which become events
//	own.go       calls that see no endpoints but those of their dialect
//	active.go    endpoints that are active or aren't
//	sign.go      a signature that has its time in it
//	mac.go       what signatures are made of
//	error.go     errors that a client sees
//	decode.go    bodies and pages of calls, read strictly
//	json.go      pieces of what is written
//	openapi/     the OpenAPI document of each
//	all/         the list of all dialects
//	tetrafi/ …   one folder each: <name>.go sign.go stream.go routes.go openapi.json
//
// No package but all/ names a dialect.
package dialect

import (
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// Dialect is one published API.
type Dialect struct {
	Name    string // lower case; kept with every endpoint made through it
	Routes  []Route
	Stream  *Stream
	SSE     *SSE
	Webhook *Webhook
	Inbound []*Inbound

	// OpenAPI is its openapi.json: what people are told of all that, its calls in words,
	// shapes and examples. Package openapi makes the document of it.
	OpenAPI []byte

	// Admit judges a call of Routes by headers of the dialect's own, once its key is
	// known and its plan has room; nil: whoever has a key may come in. A header that
	// is absent is empty.
	Admit func(p *key.Principal, header func(name string) string) *Error

	// Networks says that calls of Routes keep to the network that a key is for. Elsewhere
	// such a key isn't let in: it would do more there than it is for.
	Networks bool

	// RateHeaders has answers to Routes say how many requests are left to the org, and
	// until when, in X-RateLimit-Limit, -Remaining and -Reset.
	RateHeaders bool

	// Prefixes are paths that are this API's with all that lies below them, but for
	// what another dialect has a longer one of. They end with a whole segment.
	Prefixes []string

	// AppendError adds the JSON that answers a call which is refused below Prefixes,
	// whether or not anything is served there; nil: in the shape of Error.AppendJSON.
	AppendError func(dst []byte, e *Error) []byte
}

// Webhook is how a dialect delivers.
type Webhook struct {
	// Schedule holds the delay before each attempt, counted from the end of the
	// failure before; the first is 0. Its length is the number of attempts.
	Schedule []time.Duration

	// Metered has its deliveries count against the month's quota of their org's plan, each
	// once, with its first attempt.
	Metered bool

	// DisableAfter is how many counted failures in a row disable the endpoint; 0: no
	// number of them does.
	DisableAfter int
	// DisableExhausted has a delivery that runs out of attempts disable the endpoint,
	// unless another succeeded since its first failure began.
	DisableExhausted bool

	// AppendBody adds the request body of an event for an endpoint. Its bytes are sent
	// and signed as they are.
	AppendBody func(dst []byte, ev *event.Event, ep *endpoint.Endpoint) []byte

	// AppendHeaders adds the headers of one attempt, signature included.
	// Content-Type and the Standard Webhooks headers are the dispatcher's, for
	// every dialect.
	AppendHeaders func(dst []Header, a *Attempt) []Header
}

// Header is one header of a delivery; Name goes out exactly as written.
type Header = endpoint.Header

// Attempt is what a dialect needs to know of one attempt to sign it.
type Attempt struct {
	Secret     endpoint.Secret   // the one that receivers know for sure: while a newer one is brought to them, the old one
	Newer      []endpoint.Secret // beside it, oldest first; for a header that may carry several signatures
	Body       []byte
	Now        time.Time // fresh for each attempt
	Number     int       // 1, 2, …
	EventID    string
	EventType  string
	EndpointID string
	DeliveryID string
}
