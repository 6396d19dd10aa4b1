package tetrafi

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

// appendBody writes what the WebSocket's message has, without its cursor.
func appendBody(dst []byte, ev *event.Event, _ *endpoint.Endpoint) []byte {
	return append(appendEnvelope(dst, ev, event.MemberType|event.MemberID|event.MemberTimestamp), '}')
}

// appendHeaders adds the table's headers. The document's handler looks for the
// delivery under a name that its table doesn't have, so the id goes out under
// both; it is the same over a delivery's retries, which X-TetraFi-Attempt
// numbers.
func appendHeaders(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
	timestamp := strconv.FormatInt(a.Now.Unix(), 10)
	return append(dst,
		dialect.Header{Name: "X-TetraFi-Signature", Value: sign(a.Secret, timestamp, a.Body)},
		dialect.Header{Name: "X-TetraFi-Timestamp", Value: timestamp},
		dialect.Header{Name: "X-TetraFi-Event", Value: a.EventType},
		dialect.Header{Name: "X-TetraFi-WebhookId", Value: a.EndpointID},
		dialect.Header{Name: "X-TetraFi-DeliveryId", Value: a.DeliveryID},
		dialect.Header{Name: "X-TetraFi-Delivery-Id", Value: a.DeliveryID},
		dialect.Header{Name: "X-TetraFi-Attempt", Value: strconv.Itoa(a.Number)})
}

// sign gives 64 hex digits: HMAC-SHA256 of timestamp.body, the key being the
// secret's bytes, whatever prefix they have. The document prints a template that
// lost its $; with it, this is what its verifier works out.
func sign(secret []byte, timestamp string, body []byte) string {
	var sum [sha256.Size]byte
	return hex.EncodeToString(dialect.AppendMAC(sum[:0], secret, body, timestamp, "."))
}
