package attempt

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// stub is a dialect of nothing but the data, with one header.
var stub = &dialect.Webhook{
	AppendBody: func(dst []byte, ev *event.Event, _ *endpoint.Endpoint) []byte { return append(dst, ev.Data...) },
	AppendHeaders: func(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
		return append(dst, dialect.Header{Name: "X-Stub", Value: strings.Join([]string{
			a.EventID, a.EventType, a.EndpointID, a.DeliveryID, strconv.Itoa(a.Number), strconv.FormatInt(a.Now.Unix(), 10), string(a.Body)}, " ")})
	},
}

// TestStandard has the library of Standard Webhooks verify what we sign.
func TestStandard(t *testing.T) {
	now := time.Now()
	ev := &event.Event{ID: "evt_1", Type: "a.b", Environment: event.Live, Data: []byte(`{"ü":"\u001f"}`)}
	for _, tc := range []struct {
		name   string
		secret string
		raw    bool // the library is to take the secret as it is
	}{
		{"made by us", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false},
		{"a phrase", "correct horse", true},
		{"whsec_ and no base64", "whsec_not base64!", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ep := &endpoint.Endpoint{ID: "wh_1", URL: "https://example.com/", Secret: endpoint.Secret(tc.secret)}
			d := delivery.New(ev, ep.ID, 0)
			r := Request{Body: []byte("of the last attempt"), Headers: []dialect.Header{{Name: "Old", Value: "1"}}}
			Build(&r, stub, d, ep, 3, now)

			headers := http.Header{}
			for _, h := range r.Headers {
				headers.Set(h.Name, h.Value)
			}
			verifier, err := standardwebhooks.NewWebhook(tc.secret)
			if tc.raw {
				verifier, err = standardwebhooks.NewWebhookRaw([]byte(tc.secret))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.Verify(r.Body, headers); err != nil {
				t.Error(err)
			}
			if err := verifier.Verify(append([]byte(" "), r.Body...), headers); err == nil {
				t.Error("another body passed")
			}
			if got := headers.Get("webhook-id"); got != "evt_1" {
				t.Errorf("webhook-id %q", got)
			}
			want := "evt_1 a.b wh_1 " + d.ID + " 3 " + strconv.FormatInt(now.Unix(), 10) + ` {"ü":"\u001f"}`
			if got := headers.Get("X-Stub"); got != want || r.URL != ep.URL || len(r.Headers) != 4 {
				t.Errorf("built %q for %s with %d headers", got, r.URL, len(r.Headers))
			}
		})
	}
}

// TestStandardExample holds the signature that the specification prints.
func TestStandardExample(t *testing.T) {
	h := appendStandard(nil, []endpoint.Secret{[]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if got, want := h[2].Value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}
