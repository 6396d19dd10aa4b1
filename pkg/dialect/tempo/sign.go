package tempo

import (
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

var webhook = &dialect.Webhook{
	Schedule:      []time.Duration{0, 5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour},
	DisableAfter:  5,
	Metered:       true,
	AppendBody:    appendBody,
	AppendHeaders: appendHeaders,
}

// own are the names of the envelope, which stand where data has members of the same.
const own = event.MemberID | event.MemberType | event.MemberNetwork | event.MemberTimestamp | event.MemberSubscriptionID

// appendBody writes an event as JavaScript would write it again: the verifier does.
// Id and type have no byte that JSON escapes.
func appendBody(dst []byte, ev *event.Event, ep *endpoint.Endpoint) []byte {
	dst = ev.AppendNumbered(append(dst, '{'))
	dst = append(append(dst, `"id":"`...), ev.ID...)
	dst = append(append(dst, `","type":"`...), kindOf(ev.Type)...)
	dst = append(dst, `","network":`...)
	if ev.Network == "" { // as a test's
		dst = append(dst, "null"...)
	} else {
		dst = dialect.AppendString(dst, ev.Network)
	}
	dst = append(dst, `,"timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	dst = dialect.AppendMember(append(dst, '"'), "subscription_id", ep.ID)
	return append(ev.AppendNamed(dst, own), '}')
}

func appendHeaders(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
	return append(dst, dialect.Header{Name: "X-Tempo-Signature", Value: dialect.TimedSignature(a)})
}
