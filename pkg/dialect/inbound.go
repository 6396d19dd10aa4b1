package dialect

import (
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// Inbound is how a provider outside sends webhooks to an org, each of which becomes an
// event of it. The gateway serves POST at Path for the default org, and at Path/{org}
// for any; it knows the secrets, publishes, and sees to it that what comes again
// isn't published again.
type Inbound struct {
	Provider string // what the org's secrets for it are kept under: lower case letters
	Path     string

	// Verify refuses a message that none of the secrets signed.
	Verify func(m *Received) *Error

	// Read takes the event out of the body of a message that was verified: its
	// environment, type, data and, where the provider says it, timestamp. id is the
	// provider's own, of 1 to MaxInboundID bytes, by which it is known when it comes again.
	Read func(body []byte) (id string, ev *event.Event, wrong *Error)

	// AppendReply adds the answer, as JSON, to what was taken, now or before.
	AppendReply func(dst []byte, duplicate bool) []byte
}

// MaxInboundID bounds a provider's id of an event, in bytes.
const MaxInboundID = 255

// Received is one request of a provider's, as it came.
type Received struct {
	Header  func(name string) string // empty when absent
	Body    []byte                   // not to be kept
	Secrets []endpoint.Secret        // those that are good, the newest first; there is always one
	Now     time.Time
}
