package attempt

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// several is a dialect whose header may carry more than one signature.
var several = &dialect.Webhook{
	AppendBody: stub.AppendBody,
	AppendHeaders: func(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
		value := "v1=" + string(a.Secret)
		for _, s := range a.Newer {
			value += ",v1=" + string(s)
		}
		return append(dst, dialect.Header{Name: "X-Several", Value: value})
	},
}

// While a rotation's overlap goes on, the header of Standard Webhooks has a signature
// of each secret, and the dialect's first is the old one's.
func TestBuildInAnOverlap(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ep := &endpoint.Endpoint{ID: "wh_1", URL: "https://example.com/", Secret: endpoint.Secret("the newest"), Previous: []endpoint.Retired{
		{Secret: endpoint.Secret("over already"), Until: now},
		{Secret: endpoint.Secret("the oldest"), Until: now.Add(1)},
		{Secret: endpoint.Secret("the second"), Until: now.Add(time.Hour)},
	}}
	for _, tc := range []struct {
		at   time.Time
		good []string
		own  string
	}{
		{now.Add(-time.Hour), []string{"over already", "the oldest", "the second", "the newest"}, "v1=over already,v1=the oldest,v1=the second,v1=the newest"},
		{now, []string{"the oldest", "the second", "the newest"}, "v1=the oldest,v1=the second,v1=the newest"},
		{now.Add(time.Minute), []string{"the second", "the newest"}, "v1=the second,v1=the newest"},
		{now.Add(time.Hour), []string{"the newest"}, "v1=the newest"},
	} {
		var r Request
		d := delivery.New(&event.Event{ID: "evt_1", Type: "a.b", Environment: event.Live, Data: []byte(`{}`)}, ep.ID, 0)
		Build(&r, several, d, ep, 1, tc.at)
		headers := http.Header{}
		for _, h := range r.Headers {
			headers.Set(h.Name, h.Value)
		}
		if got := headers.Get("X-Several"); got != tc.own {
			t.Errorf("at %v the dialect signs with %q", tc.at, got)
		}
		passed := 0
		for _, secret := range []string{"over already", "the oldest", "the second", "the newest"} {
			verifier, err := standardwebhooks.NewWebhookRaw([]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			if verifier.VerifyIgnoringTimestamp(r.Body, headers) == nil {
				passed++
				if passed > len(tc.good) || tc.good[passed-1] != secret {
					t.Errorf("at %v %q is good, want %q", tc.at, secret, tc.good)
				}
			}
		}
		if passed != len(tc.good) {
			t.Errorf("at %v %d secrets are good, want %q", tc.at, passed, tc.good)
		}
	}
}

// What is signed is what is sent, custom headers go out as they are, and an ASCII
// body says the same.
func TestBuildWithOptions(t *testing.T) {
	secret := []byte("12345678")
	ep := &endpoint.Endpoint{ID: "wh_1", URL: "https://example.com/", Secret: secret,
		Options: endpoint.Options{ASCIIBody: true, Headers: []endpoint.Header{{Name: "authorization", Value: "Bearer x"}, {Name: "X-tEAM", Value: ""}}}}
	data := `{"é":"日本 ´€´ 😀\"\\","x":1}`
	d := delivery.New(&event.Event{ID: "evt_1", Type: "a.b", Environment: event.Live, Data: []byte(data)}, ep.ID, 0)
	r := Request{Body: make([]byte, 0, 8)}
	Build(&r, stub, d, ep, 1, time.Now())
	if want := `{"\u00e9":"\u65e5\u672c \u00b4\u20ac\u00b4 \ud83d\ude00\"\\","x":1}`; string(r.Body) != want {
		t.Errorf("body %s, want %s", r.Body, want)
	}
	sent, headers := map[string]string{}, http.Header{}
	for _, h := range r.Headers {
		sent[h.Name] = h.Value
		headers.Set(h.Name, h.Value)
	}
	if empty, ok := sent["X-tEAM"]; sent["authorization"] != "Bearer x" || !ok || empty != "" {
		t.Errorf("headers %v", sent)
	}
	if own := sent["X-Stub"]; !strings.HasSuffix(own, string(r.Body)) {
		t.Errorf("the dialect signed %s", own)
	}
	verifier, err := standardwebhooks.NewWebhookRaw(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(r.Body, headers); err != nil {
		t.Error(err)
	}
}

func FuzzEscapeNonASCII(f *testing.F) {
	for _, s := range []string{"", "plain", "\x7f", "é", "😀a", "a\u2028b\uffff", "\U0010ffff", "\xff\xe2\x82", "日本語"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := escapeNonASCII([]byte(s))
		if bytes.ContainsFunc(got, func(r rune) bool { return r >= 0x7F }) {
			t.Fatalf("%q has more than printable ASCII", got)
		}
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want, back string
		if err := json.Unmarshal(quoted, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(escapeNonASCII(quoted), &back); err != nil || back != want {
			t.Fatalf("%q became %q: %v", want, back, err)
		}
	})
}
