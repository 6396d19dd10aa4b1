package marketplace

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"sluice/pkg/dialect"
)

const (
	stripeHeader = "Stripe-Signature"
	bankHeader   = "X-Bank-Signature"

	// tolerance is how far a signature's time may be from ours, before or after.
	tolerance = 5 * time.Minute
	// mostSignatures bounds those of one header: Stripe makes one for each secret of
	// an endpoint, and of these there are two while one is rolled.
	mostSignatures = 16
)

// verifyStripe wants one of the header's signatures to be that of t.body, made with
// one of the secrets.
func verifyStripe(m *dialect.Received) *dialect.Error {
	header := m.Header(stripeHeader)
	if header == "" {
		return unsigned(stripeHeader, "is missing")
	}
	s, ok := parseStripe(header)
	if !ok {
		return unsigned(stripeHeader, "must be t=…,v1=…, as Stripe writes it")
	}
	if age := m.Now.Sub(s.at); age > tolerance || age < -tolerance {
		return unsigned(stripeHeader, "was made more than 5 minutes from now: is the clock right, or was this sent before?")
	}
	return signedBy(m, stripeHeader, s.v1, s.t, ".")
}

// stripeSignature is what the header says: t=…,v1=…,v1=…, in any order.
type stripeSignature struct {
	t  string // as it was written: that is what was signed
	at time.Time
	v1 [][]byte
}

// parseStripe reads the header. Signatures of other schemes, of which there is v0 for
// tests, say nothing; a v1 that is no hex or has another length is none.
func parseStripe(header string) (s stripeSignature, ok bool) {
	for part := range strings.SplitSeq(header, ",") {
		scheme, value, found := strings.Cut(part, "=")
		if !found || strings.Contains(value, "=") {
			return s, false
		}
		switch scheme {
		case "t":
			if s.t != "" || !digits(value) {
				return s, false
			}
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return s, false
			}
			s.t, s.at = value, time.Unix(seconds, 0)
		case "v1":
			if len(s.v1) == mostSignatures {
				return s, false
			}
			if mac, err := hex.DecodeString(value); err == nil && len(mac) == sha256.Size {
				s.v1 = append(s.v1, mac)
			}
		}
	}
	return s, s.t != "" && len(s.v1) > 0
}

// digits reports whether s is a number of seconds that can be reckoned with.
func digits(s string) bool {
	return s != "" && len(s) <= 12 && strings.Trim(s, "0123456789") == ""
}

// verifyBank wants the header to be the signature of the body.
func verifyBank(m *dialect.Received) *dialect.Error {
	header := m.Header(bankHeader)
	if header == "" {
		return unsigned(bankHeader, "is missing")
	}
	mac, err := hex.DecodeString(header)
	if err != nil || len(mac) != sha256.Size {
		return unsigned(bankHeader, "must be 64 hex digits")
	}
	return signedBy(m, bankHeader, [][]byte{mac})
}

// signedBy refuses a message unless one of the signatures is made with one of the
// secrets, over the head and the body.
func signedBy(m *dialect.Received, header string, macs [][]byte, head ...string) *dialect.Error {
	var sum [sha256.Size]byte
	for _, secret := range m.Secrets {
		want := dialect.AppendMAC(sum[:0], secret, m.Body, head...)
		for _, mac := range macs {
			if hmac.Equal(mac, want) {
				return nil
			}
		}
	}
	return unsigned(header, "isn't the signature of this body with the secret that is set for this org")
}

func unsigned(header, message string) *dialect.Error {
	return &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "the signature isn't good",
		Issues: []dialect.Issue{{Path: []string{header}, Message: message}}}
}
