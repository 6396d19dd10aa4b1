package quub

import (
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// The document counts five retries and lists six delays: the first of them is what
// it calls the immediate retry, which isn't one of the five.
var webhook = &dialect.Webhook{
	Schedule:         []time.Duration{0, time.Second, 5 * time.Second, 25 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour},
	DisableExhausted: true,
	AppendBody:       appendBody,
	AppendHeaders:    appendHeaders,
}

func appendBody(dst []byte, ev *event.Event, ep *endpoint.Endpoint) []byte {
	return append(appendEnvelope(dst, ev, ep.Org), '}')
}

// appendEnvelope writes all of an event but its closing brace. orgId is the org
// that the event is for, whoever published it. Type and id have no byte that JSON
// escapes.
func appendEnvelope(dst []byte, ev *event.Event, org string) []byte {
	dst = append(append(dst, `{"eventId":"`...), ev.ID...)
	dst = append(append(dst, `","eventType":"`...), ev.Type...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	dst = dialect.AppendMember(append(dst, '"'), "orgId", org)
	return append(append(dst, `,"data":`...), ev.Data...)
}

func appendHeaders(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
	return append(dst, dialect.Header{Name: "X-Quub-Signature", Value: dialect.TimedSignature(a)})
}
