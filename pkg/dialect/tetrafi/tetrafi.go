// Package tetrafi speaks TetraFi's published API.
//
//	auth        {"type":"auth","token":"sk_…"} → auth.ok with the environment
//	subscribe   channels are types or globs, corridors narrow them; cursor resumes
//	event       {type,id,timestamp,…members of data…,cursor}; a webhook's body is the same without cursor
//	signature   X-TetraFi-Signature: hex HMAC-SHA256 of timestamp.body
//	retries     at once, 5 s, 30 s, 5 min, 1 h; then dead letter; 5 counted failures disable
//	management  /v1/webhooks
//
// Sources: TetraFi "Real-time events" (WebSocket, webhooks, retry table).
package tetrafi

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// Dialect is TetraFi's API.
var Dialect = &dialect.Dialect{
	Name:    "tetrafi",
	Webhook: webhook,
}

// envelope names the members that are the event's own, even where data has one
// of the same name.
const envelope = event.MemberType | event.MemberID | event.MemberTimestamp | event.MemberCursor

// appendEnvelope adds an event up to its last member, without the closing brace:
// on the WebSocket its cursor follows.
func appendEnvelope(dst []byte, ev *event.Event) []byte {
	// The type has letters that need no escaping, and so has the id.
	dst = append(dst, `{"type":"`...)
	dst = append(dst, ev.Type...)
	dst = append(dst, `","id":"`...)
	dst = append(dst, ev.ID...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	dst = append(dst, '"')
	return ev.AppendMembers(dst, envelope)
}
