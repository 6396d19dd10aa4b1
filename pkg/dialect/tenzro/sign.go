package tenzro

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

var webhook = &dialect.Webhook{
	Schedule:      []time.Duration{0, 5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour},
	DisableAfter:  5,
	AppendBody:    appendBody,
	AppendHeaders: appendHeaders,
}

func appendBody(dst []byte, ev *event.Event, _ *endpoint.Endpoint) []byte {
	return append(appendEnvelope(dst, ev), '}')
}

// appendEnvelope writes all of an event but its closing brace. Type and id have
// no byte that JSON escapes.
func appendEnvelope(dst []byte, ev *event.Event) []byte {
	dst = append(append(dst, `{"id":"`...), ev.ID...)
	dst = append(append(dst, `","type":"`...), ev.Type...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	return append(append(dst, `","data":`...), ev.Data...)
}

// appendHeaders signs the body alone, as the document's verifier does; the
// timestamp beside it is for people, and so isn't signed. Who wants it to be
// verifies webhook-signature.
func appendHeaders(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
	var sum [sha256.Size]byte
	return append(dst,
		dialect.Header{Name: "X-Tenzro-Signature", Value: hex.EncodeToString(dialect.AppendMAC(sum[:0], a.Secret, a.Body))},
		dialect.Header{Name: "X-Tenzro-Timestamp", Value: strconv.FormatInt(a.Now.Unix(), 10)})
}
