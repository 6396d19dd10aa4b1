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

// appendEnvelope writes all of an event but its closing brace, without the
// members of data that own names. Type and id have no byte that JSON escapes.
func appendEnvelope(dst []byte, ev *event.Event, own event.Members) []byte {
	dst = append(append(dst, `{"type":"`...), ev.Type...)
	dst = append(append(dst, `","id":"`...), ev.ID...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	dst = append(dst, '"')
	return ev.AppendMembers(dst, own)
}
