package standardwebhooks

import (
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

var webhook = &dialect.Webhook{
	Schedule: []time.Duration{0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour},
	DisableExhausted: true,
	AppendBody:       appendBody,
	AppendHeaders:    appendHeaders,
}

// appendBody writes an event without its id, which is a header here. A type has no
// byte that JSON escapes.
func appendBody(dst []byte, ev *event.Event, _ *endpoint.Endpoint) []byte {
	dst = append(append(dst, `{"type":"`...), ev.Type...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	return append(append(append(dst, `","data":`...), ev.Data...), '}')
}

// appendHeaders adds none: the dispatcher signs every delivery as this dialect does.
func appendHeaders(dst []dialect.Header, _ *dialect.Attempt) []dialect.Header { return dst }
