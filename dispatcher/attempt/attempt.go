package attempt

import (
	"context"
	"strconv"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// Sender makes attempts. It is used by any number of goroutines at once.
type Sender interface {
	// Send makes one request and waits for its outcome; it never repeats one. Epoch
	// of the outcome is left to the caller. The error says that the attempt was cut
	// off by ctx or Close, or that this process couldn't make it: what it came to is
	// unknown, and it counts for nothing.
	Send(ctx context.Context, r *Request) (delivery.Outcome, error)

	// Close cuts off what is under way, waits for it and closes every connection.
	Close()
}

// Request is what goes out in one attempt. A Request may be used again with
// Build when its attempt is over.
type Request struct {
	URL     string
	Headers []dialect.Header // Host, Content-Length, Content-Type and User-Agent are the sender's
	Body    []byte
	shown   int // of Headers: the values of those behind are told to nobody

	// Exchange is what Send tells of what went over the wire. Its headers are good until
	// the Request is used again.
	Exchange delivery.Exchange

	// What Build and Send need room for, each time.
	secrets []endpoint.Secret
	signing dialect.Attempt
	sent    []byte
}

// Build makes r the request of the delivery's attempt with that number, signed
// for now with the secrets that are good then. The delivery's data must be there.
func Build(r *Request, w *dialect.Webhook, d *delivery.Delivery, ep *endpoint.Endpoint, number int, now time.Time) {
	r.URL, r.Exchange = ep.URL, delivery.Exchange{}
	r.Body = w.AppendBody(r.Body[:0], &d.Event, ep)
	if ep.Options.ASCIIBody {
		r.Body = escapeNonASCII(r.Body)
	}
	r.secrets = ep.AppendSigning(r.secrets[:0], now)
	r.Headers = appendStandard(r.Headers[:0], r.secrets, d.Event.ID, strconv.FormatInt(now.Unix(), 10), r.Body)
	r.signing = dialect.Attempt{
		Secret:     r.secrets[0],
		Newer:      r.secrets[1:],
		Body:       r.Body,
		Now:        now,
		Number:     number,
		EventID:    d.Event.ID,
		EventType:  d.Event.Type,
		EndpointID: ep.ID,
		DeliveryID: d.ID,
	}
	r.Headers = w.AppendHeaders(r.Headers, &r.signing)
	r.shown = len(r.Headers) // what follows is the owner's
	r.Headers = append(r.Headers, ep.Options.Headers...)
}
