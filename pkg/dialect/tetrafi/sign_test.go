package tetrafi

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// webhookCases are what testdata/webhook holds the requests of.
var webhookCases = []struct {
	name    string
	event   event.Event
	attempt dialect.Attempt
}{
	{
		"rfq.created",
		event.Event{
			ID: "evt_abc123", Type: "rfq.created", Timestamp: time.Date(2024, 3, 10, 13, 0, 0, 999, time.FixedZone("", 3600)),
			Data: []byte(`{"rfq":{"id":"rfq_xyz789","pair":"USDC/USDT","side":"buy","amount":"1000000.00","corridor":"ethereum-optimism","deadline":1710000005}}`),
		},
		dialect.Attempt{Secret: endpoint.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Now: time.Unix(1710072000, 999e6), Number: 1},
	},
	{
		"collision", // data has members of the envelope's names; cursor isn't one here
		event.Event{
			ID: "evt_1", Type: "audit.recorded", Timestamp: time.Date(2024, 3, 10, 12, 0, 42, 100e6, time.UTC),
			Data:    []byte(`{"id":"x","timestamp":{"type":1},"type":[",\"}"],"note":"für 日本, 𝒳 \u001f\" </script>","cursor":"kept"}`),
			Members: event.MemberID | event.MemberTimestamp | event.MemberType | event.MemberCursor,
		},
		dialect.Attempt{Secret: endpoint.Secret("correct horse"), Now: time.Unix(1710072042, 0), Number: 5},
	},
	{
		"empty",
		event.Event{ID: "evt_2", Type: "ping.sent", Timestamp: time.UnixMilli(-1), Data: []byte(`{}`)},
		dialect.Attempt{Secret: endpoint.Secret("correct horse"), Now: time.Unix(1710072042, 0), Number: 2},
	},
}

// send gives what goes out for an attempt: headers, in their order, and body.
func send(ev *event.Event, a dialect.Attempt) ([]dialect.Header, []byte) {
	a.Body = Dialect.Webhook.AppendBody(nil, ev, new(endpoint.Endpoint))
	a.EventID, a.EventType, a.EndpointID, a.DeliveryID = ev.ID, ev.Type, "wh_1", "dlv_1"
	return Dialect.Webhook.AppendHeaders(nil, &a), a.Body
}

// TestWebhookBytes holds the bytes that receivers depend on.
func TestWebhookBytes(t *testing.T) {
	for _, tc := range webhookCases {
		want, err := os.ReadFile(filepath.Join("testdata", "webhook", tc.name+".http"))
		if err != nil {
			t.Fatal(err)
		}
		headers, body := send(&tc.event, tc.attempt)
		var got bytes.Buffer
		for _, h := range headers {
			got.WriteString(h.Name + ": " + h.Value + "\r\n")
		}
		got.WriteString("\r\n")
		got.Write(body)
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, got.Bytes(), want)
		}
		if !json.Valid(body) {
			t.Errorf("%s: the body isn't JSON", tc.name)
		}
	}
}

// TestPrintedVerifier has the document's own verifier judge what we send, and
// what somebody forged from it.
func TestPrintedVerifier(t *testing.T) {
	type request struct {
		Headers map[string]string `json:"headers"`
		Body    []byte            `json:"body"`
		Secret  string            `json:"secret"`
	}
	var input bytes.Buffer
	var want []string
	ask := func(r request, answer string) {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(line, '\n'))
		want = append(want, answer)
	}
	for _, tc := range webhookCases {
		tc.attempt.Now = time.Now()
		headers, body := send(&tc.event, tc.attempt)
		r := request{map[string]string{}, body, string(tc.attempt.Secret)}
		for _, h := range headers {
			r.Headers[strings.ToLower(h.Name)] = h.Value // as node gives them
		}
		ask(r, "200 "+tc.event.ID+" dlv_1")

		forged := r
		forged.Body = append(slices.Clone(body), ' ')
		ask(forged, "401")
		forged = r
		forged.Secret += "x"
		ask(forged, "401")

		tc.attempt.Now = time.Now().Add(-6 * time.Minute)
		headers, _ = send(&tc.event, tc.attempt)
		r.Headers = map[string]string{"x-tetrafi-signature": headers[0].Value, "x-tetrafi-timestamp": headers[1].Value}
		ask(r, "401")
	}
	cmd := exec.Command("node", filepath.Join("testdata", "webhook", "verify.js"))
	cmd.Stdin = &input
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node, which runs the document's code, failed: %v", err)
	}
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
		t.Errorf("the verifier said %q, want %q", got, want)
	}
}

// TestSchedule holds the document's table of retries: delays and their sum.
func TestSchedule(t *testing.T) {
	var sum time.Duration
	var table []string
	for _, delay := range Dialect.Webhook.Schedule {
		sum += delay
		table = append(table, delay.String()+" "+sum.String())
	}
	want := []string{"0s 0s", "5s 5s", "30s 35s", "5m0s 5m35s", "1h0m0s 1h5m35s"}
	if !slices.Equal(table, want) || Dialect.Webhook.DisableAfter != 5 {
		t.Errorf("schedule %q, disabled after %d", table, Dialect.Webhook.DisableAfter)
	}
}

func BenchmarkWebhook(b *testing.B) {
	tc := webhookCases[0]
	body := appendBody(nil, &tc.event, nil)
	tc.attempt.Body = body
	var headers []dialect.Header
	b.ReportAllocs()
	for b.Loop() {
		body = appendBody(body[:0], &tc.event, nil)
		headers = appendHeaders(headers[:0], &tc.attempt)
	}
}
