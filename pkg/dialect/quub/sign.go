package quub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
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

// appendHeaders signs with every secret that is good. The document's verifiers
// look at the first signature only, which is that of the secret they know for sure.
func appendHeaders(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
	timestamp := strconv.FormatInt(a.Now.Unix(), 10)
	value := append(append(make([]byte, 0, 128), "t="...), timestamp...)
	value = appendSignature(value, a.Secret, timestamp, a.Body)
	for _, newer := range a.Newer {
		value = appendSignature(value, newer, timestamp, a.Body)
	}
	return append(dst, dialect.Header{Name: "X-Quub-Signature", Value: string(value)})
}

// appendSignature adds a signature over timestamp.body; the key is the secret's
// bytes, whatever prefix they have.
func appendSignature(dst []byte, secret endpoint.Secret, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	var room [32]byte
	mac.Write(append(append(room[:0], timestamp...), '.'))
	mac.Write(body)
	var sum [sha256.Size]byte
	return hex.AppendEncode(append(dst, ",v1="...), mac.Sum(sum[:0]))
}
