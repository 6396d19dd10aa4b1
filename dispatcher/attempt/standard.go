package attempt

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

var secretPrefix = []byte("whsec_")

// standardKey gives the key that Standard Webhooks signs with: what stands in
// base64 behind whsec_, or else the secret's own bytes.
func standardKey(secret endpoint.Secret) []byte {
	if text, ok := bytes.CutPrefix(secret, secretPrefix); ok {
		if key, err := base64.StdEncoding.AppendDecode(nil, text); err == nil {
			return key
		}
	}
	return secret
}

// appendStandard adds the headers of Standard Webhooks: one signature for each
// secret, over id.timestamp.body.
func appendStandard(dst []dialect.Header, secrets []endpoint.Secret, id, timestamp string, body []byte) []dialect.Header {
	var room [128]byte
	b := room[:0]
	for i, secret := range secrets {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, "v1,"...)
		var sum [sha256.Size]byte
		b = base64.StdEncoding.AppendEncode(b, dialect.AppendMAC(sum[:0], standardKey(secret), body, id, ".", timestamp, "."))
	}
	return append(dst,
		dialect.Header{Name: "webhook-id", Value: id},
		dialect.Header{Name: "webhook-timestamp", Value: timestamp},
		dialect.Header{Name: "webhook-signature", Value: string(b)})
}
