package dialect

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"sluice/pkg/endpoint"
)

// TimedSignature gives t=…,v1=…: when the attempt is made, in Unix seconds, and hex
// HMAC-SHA256 of t.body. Every secret that is good adds a v1. Published verifiers look
// at the first only, which is that of the secret they know for sure.
func TimedSignature(a *Attempt) string {
	timestamp := strconv.FormatInt(a.Now.Unix(), 10)
	value := append(append(make([]byte, 0, 128), "t="...), timestamp...)
	value = appendSignature(value, a.Secret, timestamp, a.Body)
	for _, newer := range a.Newer {
		value = appendSignature(value, newer, timestamp, a.Body)
	}
	return string(value)
}

// appendSignature adds a signature over timestamp.body; the key is the secret's
// bytes, whatever prefix they have.
func appendSignature(dst []byte, secret endpoint.Secret, timestamp string, body []byte) []byte {
	var sum [sha256.Size]byte
	return hex.AppendEncode(append(dst, ",v1="...), AppendMAC(sum[:0], secret, body, timestamp, "."))
}
