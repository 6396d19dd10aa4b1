package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	stripe "github.com/stripe/stripe-go/v76/webhook"
)

// TestInbound sends webhooks as Stripe and a bank do: each becomes one event of the org
// whose provider signed it, however often it comes, to another node or over a restart,
// and of nobody else.
func TestInbound(t *testing.T) {
	for name, config := range map[string]func(*testing.T) nodeConfig{
		"embedded": func(*testing.T) nodeConfig { return nodeConfig{} },
		"kafka":    onBrokers,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			cfg.Data = filepath.Join(t.TempDir(), "data")
			n := startStory(t, cfg)
			a, b := n.member(t), n.member(t)
			const secret, theirs = "whsec_what Stripe shows", "whsec_another org's"
			n.setProvider(t, a.org, "stripe", secret, time.Hour)
			n.setProvider(t, b.org, "stripe", theirs, time.Hour)
			n.setProvider(t, a.org, "bank", "a bank's secret", time.Hour)

			now := time.Now()
			first := sent{org: a.org, body: intent("evt_1", "succeeded"), secret: secret, at: now}
			first.want(t, n, `200 {"received":true}`)
			again := first
			again.at = now.Add(2 * time.Second)
			changed := first
			changed.body = intent("evt_1", "requires_action")
			old := first
			old.body, old.at = intent("evt_old", "succeeded"), now.Add(-6*time.Minute)
			forged := first
			forged.body, forged.secret = intent("evt_forged", "succeeded"), theirs
			altered := first
			altered.signedBody, altered.body = first.body, intent("evt_altered", "succeeded")
			unknown := forged
			unknown.org = "org_nobody"
			for name, c := range map[string]struct {
				sent
				want string
			}{
				"a repeat":                            {first, `200 {"received":true,"duplicate":true}`},
				"a repeat, signed again":              {again, `200 {"received":true,"duplicate":true}`},
				"the same event with other content":   {changed, `200 {"received":true,"duplicate":true}`},
				"an old one":                          {old, `400 `},
				"signed with another org's secret":    {forged, `400 `},
				"a body that was changed on the way":  {altered, `400 `},
				"to an org that there isn't":          {unknown, `400 `},
				"one that is the provider's, unready": {sent{org: a.org, body: `{"id":"evt_2"}`, secret: secret, at: now}, `400 `},
			} {
				t.Run(name, func(t *testing.T) { c.sent.want(t, n, c.want) })
			}
			// The other org has an event of the same id, and the bank too: they are others.
			sent{org: b.org, body: intent("evt_1", "succeeded"), secret: theirs, at: now}.want(t, n, `200 {"received":true}`)
			paid := sent{provider: "bank", org: a.org, body: `{"id":"evt_1","type":"escrow.released","livemode":false,"data":{"amount":5.0}}`, secret: "a bank's secret"}
			paid.want(t, n, `200 {"received":true}`)
			// While a secret is changed both are good; once it leaked, only the new one is.
			n.setProvider(t, a.org, "stripe", "the second secret", time.Hour)
			sent{org: a.org, body: intent("evt_3", "canceled"), secret: secret, at: now}.want(t, n, `200 {"received":true}`)
			sent{org: a.org, body: intent("evt_4", "succeeded"), secret: "the second secret", at: now}.want(t, n, `200 {"received":true}`)
			n.setProvider(t, a.org, "stripe", "the second secret", 0)
			sent{org: a.org, body: intent("evt_5", "succeeded"), secret: secret, at: now}.want(t, n, `400 `)

			if name == "embedded" {
				if err := n.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				cfg.Data = filepath.Join(t.TempDir(), "another")
			}
			other := startStory(t, cfg)
			for _, m := range []*member{&a, &b} {
				m.base = other.URL()
			}
			retried := first
			retried.secret, retried.at = "the second secret", time.Now()
			retried.want(t, other, `200 {"received":true,"duplicate":true}`)
			paid.want(t, other, `200 {"received":true,"duplicate":true}`)

			want := []string{"payment.succeeded evt_1 stripe", "escrow.released evt_1 bank", "payment.succeeded evt_3 stripe", "payment.succeeded evt_4 stripe"}
			if got := a.inbound(t, ""); !slices.Equal(got, want) {
				t.Errorf("the org has %q, want %q", got, want)
			}
			if got := a.inbound(t, "?status=canceled&type=payment.*"); !slices.Equal(got, want[2:3]) {
				t.Errorf("by status it has %q", got)
			}
			if got := b.inbound(t, ""); !slices.Equal(got, want[:1]) {
				t.Errorf("the other org has %q", got)
			}
			var live apiKey
			in := map[string]any{"environment": "live", "scopes": []string{"subscribe"}}
			if _, err := other.admin.call(t.Context(), "POST", "/admin/v1/orgs/"+a.org+"/keys", in, &live); err != nil {
				t.Fatal(err)
			}
			alive := member{&client{base: other.URL(), token: live.Key}, a.org}
			if got := alive.inbound(t, ""); len(got) != 0 {
				t.Errorf("in the live environment there is %q", got)
			}
			if _, err := other.admin.call(t.Context(), "DELETE", "/admin/v1/orgs/"+a.org+"/providers/bank", nil, nil); err != nil {
				t.Fatal(err)
			}
			paid.want(t, other, `400 `)
		})
	}
}

// TestBadInbound holds what the API says to what nobody should ask of it, to the letter,
// in testdata/bad_marketplace.txt; -update writes it anew.
func TestBadInbound(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a, b := n.member(t), n.member(t)
	const secret = "a bank's secret"
	n.setProvider(t, a.org, "bank", secret, 0)
	n.setProvider(t, a.org, "stripe", secret, 0)
	var poor apiKey
	in := map[string]any{"environment": "sandbox", "scopes": []string{"publish"}}
	if _, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs/"+a.org+"/keys", in, &poor); err != nil {
		t.Fatal(err)
	}
	bank, toStripe := "POST /api/webhooks/bank/"+a.org, "POST /api/webhooks/stripe/"+a.org
	signed := func(body string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		return "X-Bank-Signature: " + hex.EncodeToString(mac.Sum(nil)) + "\r\n"
	}
	ok := `{"id":"b_1","type":"a.b","data":{}}`
	of := func(name, body string) asked {
		return asked{name: name, line: bank, key: "-", headers: signed(body), body: body}
	}
	nested := `{"id":"b_1","type":"a.b","data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`
	zeros := strings.Repeat("0", 64)
	cases := []asked{
		of("1 nothing", ""), of("2 an open brace", "{"), of("3 a list", "[]"), of("4 something behind", ok+ok),
		of("5 a name twice", `{"id":"b_1","id":"b_2","type":"a.b","data":{}}`), of("6 bad UTF-8", "{\"id\":\"\xff\",\"type\":\"a.b\",\"data\":{}}"),
		of("7 a lone surrogate", `{"id":"\ud800","type":"a.b","data":{}}`), of("8 data too deep", nested),
		of("9 a number too large", `{"id":"b_1","type":"a.b","data":{"n":9007199254740993}}`),
		of("11 data of more than 256 KiB", `{"id":"b_1","type":"a.b","data":"`+strings.Repeat("x", 256<<10)+`"}`),
		of("11 more than is read", `{"id":"b_1","type":"a.b","data":"`+strings.Repeat("x", 400<<10)+`"}`),
		of("17 no type", `{"id":"b_1","data":{}}`), of("20 an id of 256 bytes", `{"id":"`+strings.Repeat("x", 256)+`","type":"a.b","data":{}}`),
		{name: "15 compressed", line: bank, key: "-", headers: signed(ok) + "Content-Encoding: gzip\r\n", body: ok},
		{name: "no signature", line: bank, key: "-", body: ok},
		{name: "no signature, and a key", line: bank, body: ok},
		{name: "a signature of something else", line: bank, key: "-", headers: signed("{}"), body: ok},
		{name: "a signature that is none", line: bank, key: "-", headers: "X-Bank-Signature: sha256=x\r\n", body: ok},
		{name: "two signatures", line: bank, key: "-", headers: signed(ok) + signed(ok), body: ok},
		{name: "to an org without a secret", line: "POST /api/webhooks/bank/" + b.org, key: "-", headers: signed(ok), body: ok},
		{name: "to an org that there isn't", line: "POST /api/webhooks/bank/org_nobody", key: "-", headers: signed(ok), body: ok},
		{name: "to the default org, which has no secret", line: "POST /api/webhooks/bank", key: "-", headers: signed(ok), body: ok},
		{name: "to an org of 10 kB", line: "POST /api/webhooks/bank/" + strings.Repeat("x", 10<<10), key: "-", headers: signed(ok), body: ok},
		{name: "to no org", line: "POST /api/webhooks/bank/", key: "-", headers: signed(ok), body: ok},
		{name: "of another provider", line: "POST /api/webhooks/paypal", key: "-", headers: signed(ok), body: ok},
		{name: "of Stripe, signed as the bank does", line: toStripe, key: "-", headers: signed(ok), body: ok},
		{name: "of Stripe, a signature that is none", line: toStripe, key: "-", headers: "Stripe-Signature: t=1\r\n", body: ok},
		{name: "of Stripe, long ago", line: toStripe, key: "-", headers: "Stripe-Signature: t=1764000000,v1=" + zeros + "\r\n", body: ok},
		{name: "of Stripe, far ahead", line: toStripe, key: "-", headers: "Stripe-Signature: t=999999999999,v1=" + zeros + "\r\n", body: ok},
		{name: "25 no key", line: "GET /api/events", key: "-"},
		{name: "26 a key with a mistake", line: "GET /api/events", key: "sk_test_" + strings.Repeat("x", 38)},
		{name: "31 a key that may not read", line: "GET /api/events", key: poor.Key},
		{name: "34 another method", line: "PUT /api/events"},
		{name: "34 another method for a provider", line: "GET /api/webhooks/stripe"},
		{name: "35 a path that nobody serves", line: "GET /api/orders"},
		{name: "35 one below", line: "GET /api/events/nothing/at/all"},
		{name: "35 a slash behind", line: "GET /api/events/"},
		{name: "35 a path that can't be read", line: "GET /api/%00"},
		{name: "36 limit 0", line: "GET /api/events?limit=0"},
		{name: "36 limit a word", line: "GET /api/events?limit=abc"},
		{name: "37 cursor no cursor", line: "GET /api/events?cursor=garbage"},
		{name: "38 from after to", line: "GET /api/events?from=2026-01-02&to=2026-01-01"},
		{name: "a date that is none", line: "GET /api/events?from=yesterday"},
		{name: "a type that is none", line: "GET /api/events?type=Order"},
		{name: "a parameter of another name", line: "GET /api/events?types=order.*"},
		{name: "74 a stream as JSON", line: "GET /api/events/stream", headers: "Accept: application/json\r\n"},
		{name: "a stream without a key", line: "GET /api/events/stream", key: "-", headers: "Accept: text/event-stream\r\n"},
		of("last, one as it should be", ok),
	}
	var said strings.Builder
	for _, c := range cases {
		answer := c.ask(t, strings.TrimPrefix(n.URL(), "http://"), a.token)
		said.WriteString(strings.NewReplacer(a.org, "ORG", b.org, "OTHER ORG").Replace(answer))
	}
	holdAnswers(t, "bad_marketplace.txt", said.String())
	if got := b.inbound(t, ""); len(got) != 0 {
		t.Errorf("the other org has %q", got)
	}
}

// intent is an event as Stripe writes it.
func intent(id, status string) string {
	return fmt.Sprintf(`{"id":%q,"object":"event","type":"payment_intent.succeeded","livemode":false,"created":1764000000,
  "data":{"object":{"id":"pi_1","amount":1099.0,"status":%q}},"pending_webhooks":1,"request":{"id":null}}`, id, status)
}

// sent is one webhook of a provider.
type sent struct {
	provider, org, body, secret string // without a provider: Stripe
	signedBody                  string // what the signature is of; empty: body
	at                          time.Time
}

func (s sent) want(t *testing.T, n *storyNode, want string) {
	t.Helper()
	signed := s.body
	if s.signedBody != "" {
		signed = s.signedBody
	}
	path, name, value := "/api/webhooks/stripe/", "Stripe-Signature", ""
	if s.provider == "bank" {
		mac := hmac.New(sha256.New, []byte(s.secret))
		mac.Write([]byte(signed))
		path, name, value = "/api/webhooks/bank/", "X-Bank-Signature", hex.EncodeToString(mac.Sum(nil))
	} else {
		value = stripe.GenerateTestSignedPayload(&stripe.UnsignedPayload{Payload: []byte(signed), Secret: s.secret, Timestamp: s.at}).Header
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", n.URL()+path+s.org, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(name, value)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	var got string
	eventually(t, time.Minute, func() error { // a provider sends again what was answered so
		if req.Body, err = req.GetBody(); err != nil {
			return err
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		got = fmt.Sprintf("%d %s", r.StatusCode, text)
		if err == nil && r.StatusCode == http.StatusServiceUnavailable {
			err = fmt.Errorf("%s: %s", s.body, got)
		}
		return err
	})
	if !strings.HasPrefix(got, want) || strings.HasPrefix(want, "200") && got != want {
		t.Errorf("%s was answered %s, want %s", s.body, got, want)
	}
}

// inbound lists what the org's key sees, by type, the provider's id and the provider.
func (m member) inbound(t *testing.T, query string) (all []string) {
	t.Helper()
	var page struct {
		Items []struct {
			Type, Timestamp string
			Data            struct {
				ProviderEventID, Provider string
				Object                    map[string]any
			}
		}
	}
	if _, err := m.call(t.Context(), "GET", "/api/events"+query, nil, &page); err != nil {
		t.Fatal(err)
	}
	for _, item := range page.Items {
		if item.Data.Provider == "stripe" && (item.Timestamp != "2025-11-24T16:00:00.000Z" || item.Data.Object["id"] != "pi_1") {
			t.Errorf("it is %+v", item)
		}
		all = append(all, item.Type+" "+item.Data.ProviderEventID+" "+item.Data.Provider)
	}
	return all
}

// setProvider is what an operator does.
func (n *storyNode) setProvider(t *testing.T, org, provider, secret string, overlap time.Duration) {
	t.Helper()
	args := []string{"org", "provider", "set", org, provider, "--overlap", overlap.String(), "--ops", strings.TrimPrefix(n.OpsURL(), "http://"), "--admin-token", n.AdminToken()}
	var said bytes.Buffer
	if code := run(context.Background(), args, std{In: strings.NewReader(secret + "\n"), Out: &said, Err: &said}); code != 0 || strings.Contains(said.String(), secret) {
		t.Fatalf("%d: %s", code, said.String())
	}
}
