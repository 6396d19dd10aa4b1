package dialect_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"sluice/pkg/dialect"
)

// FuzzMAC: it is crypto/hmac's, for keys of any length, one behind another.
func FuzzMAC(f *testing.F) {
	f.Add([]byte("12345678"), "1700000000", []byte(`{"a":1}`))
	f.Add([]byte{}, "", []byte{})
	f.Add(bytes.Repeat([]byte("k"), sha256.BlockSize), "1", []byte("b"))
	f.Add(bytes.Repeat([]byte("k"), sha256.BlockSize+1), "1", bytes.Repeat([]byte("b"), 1000))
	f.Fuzz(func(t *testing.T, key []byte, head string, body []byte) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(head + "."))
		mac.Write(body)
		want := mac.Sum([]byte("before"))
		if got := dialect.AppendMAC([]byte("before"), key, body, head, "."); !bytes.Equal(got, want) {
			t.Errorf("%x, want %x", got, want)
		}
	})
}
