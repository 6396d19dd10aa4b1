package marketplace

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

var now = time.Unix(1_764_000_000, 5e8)

func received(header, body string, secrets ...string) *dialect.Received {
	r := &dialect.Received{Header: func(string) string { return header }, Body: []byte(body), Now: now}
	for _, s := range secrets {
		r.Secrets = append(r.Secrets, endpoint.Secret(s))
	}
	return r
}

// What Stripe's own library signs is taken, within five minutes on either side.
func TestStripeSigns(t *testing.T) {
	const body, secret = `{"id":"evt_1", "text":"für 日本"}`, "whsec_a secret of Stripe's"
	sign := func(at time.Time, secret string) string {
		return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
	}
	header := sign(now, secret)
	mac := header[strings.Index(header, "v1=")+3:]
	other := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		header, body string
		secrets      []string
		good         bool
	}{
		"as it is":                     {header, body, []string{secret}, true},
		"in capitals":                  {"t=1764000000,v1=" + strings.ToUpper(mac), body, []string{secret}, true},
		"behind another":               {"t=1764000000,v1=" + other + ",v1=" + mac, body, []string{secret}, true},
		"before another":               {header + ",v1=" + other, body, []string{secret}, true},
		"time behind":                  {"v1=" + mac + ",t=1764000000", body, []string{secret}, true},
		"beside another scheme":        {"t=1764000000,v0=" + other + ",v1=" + mac + ",v2=x", body, []string{secret}, true},
		"beside what is no hex":        {"t=1764000000,v1=nothing,v1=" + mac, body, []string{secret}, true},
		"with the secret of before":    {header, body, []string{"the newest", "another", secret}, true},
		"300 s ago":                    {sign(now.Add(-299500*time.Millisecond), secret), body, []string{secret}, true},
		"300 s ahead":                  {sign(now.Add(300*time.Second), secret), body, []string{secret}, true},
		"301 s ago":                    {sign(now.Add(-301*time.Second), secret), body, []string{secret}, false},
		"301 s ahead":                  {sign(now.Add(301*time.Second), secret), body, []string{secret}, false},
		"another secret":               {header, body, []string{"another"}, false},
		"another body":                 {header, body + " ", []string{secret}, false},
		"another time":                 {"t=1764000001,v1=" + mac, body, []string{secret}, false},
		"its time written otherwise":   {"t=01764000000,v1=" + mac, body, []string{secret}, false},
		"the scheme of tests only":     {"t=1764000000,v0=" + mac, body, []string{secret}, false},
		"nothing":                      {"", body, []string{secret}, false},
		"a part that is none":          {header + ",", body, []string{secret}, false},
		"a part with two values":       {header + ",v2=x=y", body, []string{secret}, false},
		"no time":                      {"v1=" + mac, body, []string{secret}, false},
		"two times":                    {"t=1764000000," + header, body, []string{secret}, false},
		"a time with a sign":           {"t=+1764000000,v1=" + mac, body, []string{secret}, false},
		"a time of many digits":        {"t=" + strings.Repeat("9", 13) + ",v1=" + mac, body, []string{secret}, false},
		"half of it":                   {"t=1764000000,v1=" + mac[:32], body, []string{secret}, false},
		"17 signatures, the last good": {"t=1764000000" + strings.Repeat(",v1="+other, 16) + ",v1=" + mac, body, []string{secret}, false},
	} {
		wrong := verifyStripe(received(c.header, c.body, c.secrets...))
		if (wrong == nil) != c.good {
			t.Errorf("%s: %v", name, wrong)
		}
		if wrong != nil && (wrong.Status != 400 || len(wrong.Issues) != 1 || wrong.Issues[0].Path[0] != stripeHeader) {
			t.Errorf("%s: %+v", name, wrong)
		}
	}
}

func TestBankSigns(t *testing.T) {
	const body = `{"id":"b_1"}`
	mac := hex.EncodeToString(dialect.AppendMAC(nil, []byte("a secret"), []byte(body)))
	for name, c := range map[string]struct {
		header, body, secret string
		good                 bool
	}{
		"as it is":      {mac, body, "a secret", true},
		"in capitals":   {strings.ToUpper(mac), body, "a secret", true},
		"another":       {mac, body, "another", false},
		"another body":  {mac, body + "\n", "a secret", false},
		"nothing":       {"", body, "a secret", false},
		"half of it":    {mac[:32], body, "a secret", false},
		"no hex":        {strings.Repeat("x", 64), body, "a secret", false},
		"two of them":   {mac + ", " + mac, body, "a secret", false},
		"with a prefix": {"sha256=" + mac, body, "a secret", false},
	} {
		wrong := verifyBank(received(c.header, c.body, "the newest one", c.secret))
		if (wrong == nil) != c.good {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

// Whatever the header says: what is taken for a signature is one, and only the
// library's own verdict has it pass.
func FuzzStripeSignature(f *testing.F) {
	const body, secret = `{}`, "a secret"
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: now})
	for _, header := range []string{signed.Header, "", "t=1,v1=", "t=1764000000,v1=" + strings.Repeat("0", 64) + ",v0=x", ",,=", signed.Header + "," + signed.Header} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s, ok := parseStripe(header)
		if ok && (len(s.v1) == 0 || len(s.v1) > mostSignatures || s.at.Unix() < 0 || !strings.Contains(header, "t="+s.t)) {
			t.Fatalf("%q is taken for %+v", header, s)
		}
		// The library takes any time, and has no bound.
		theirs := webhook.ValidatePayloadIgnoringTolerance([]byte(body), header, secret) == nil
		if ours := verifyStripe(received(header, body, secret)) == nil; ours && !theirs {
			t.Fatalf("%q passes here, and not where it comes from", header)
		}
	})
}
