// Package dialect says what a dialect is: a published API, spoken over the same
// core. A dialect is a value made of pure functions: no log, no dialling, no
// clock. A part that is nil is a part it doesn't speak.
//
//	dialect.go   Dialect, Webhook
//	stream.go    Stream: what is said on a WebSocket; SSE: on a stream of events
//	route.go     Route: its HTTP calls, and what they may ask of the core
//	error.go     errors that a client sees
//	decode.go    bodies of calls, read strictly
//	all/         the list of all dialects
//	tetrafi/ …   one folder each: <name>.go sign.go stream.go routes.go
//
// No package but all/ names a dialect.
package dialect

import (
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// Dialect is one published API.
type Dialect struct {
	Name    string // lower case; kept with every endpoint made through it
	Routes  []Route
	Stream  *Stream
	SSE     *SSE
	Webhook *Webhook
}

// Webhook is how a dialect delivers.
type Webhook struct {
	// Schedule holds the delay before each attempt, counted from the end of the
	// failure before; the first is 0. Its length is the number of attempts.
	Schedule []time.Duration

	// DisableAfter is how many counted failures in a row disable the endpoint.
	DisableAfter int

	// AppendBody adds the request body. Its bytes are sent and signed as they are.
	AppendBody func(dst []byte, ev *event.Event) []byte

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
