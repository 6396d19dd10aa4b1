package control

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"sluice/pkg/datadir"
)

// Sealer encrypts the secrets that enter the log, with AES-256-GCM:
//
//	 0        1            13
//	┌────────┬────────────┬──────────────────────┐
//	│ key id │ nonce      │ ciphertext and tag   │   associated data: org, endpoint, version
//	└────────┴────────────┴──────────────────────┘
//
// The associated data nails a secret to its endpoint: moved to another, it can't
// be opened. A sealer may have several keys: it seals with the first, and opens
// with whichever a secret was sealed with.
type Sealer struct {
	keys []sealKey // the newest first
}

type sealKey struct {
	aead        cipher.AEAD
	id          byte // tells which keys to try: two may have the same
	fingerprint string
}

const (
	sealKeyLen = 32
	nonceLen   = 12
)

// ErrSeal is returned for bytes that these keys never sealed, or not for this
// endpoint.
var ErrSeal = errors.New("secret can't be opened")

// NewSealer makes a sealer of keys of 32 bytes, the newest first.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	s := &Sealer{}
	for _, key := range keys {
		k, err := newSealKey(key)
		if err != nil {
			return nil, err
		}
		if s.Has(k.fingerprint) {
			return nil, fmt.Errorf("the sealing key %s is there twice", k.fingerprint)
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, errKeyFile
	}
	return s, nil
}

func newSealKey(key []byte) (sealKey, error) {
	if len(key) != sealKeyLen {
		return sealKey{}, fmt.Errorf("a sealing key has %d bytes, not %d", sealKeyLen, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealKey{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealKey{}, err
	}
	sum := sha256.Sum256(append([]byte("sluice sealing key\x00"), key...))
	return sealKey{aead: aead, id: sum[0], fingerprint: hex.EncodeToString(sum[:8])}, nil
}

// LoadSealer reads a key file: keys of 32 bytes, as hex or as base64, one a
// line, the newest first. Empty lines and those that begin with # say nothing.
func LoadSealer(path string) (*Sealer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	var keys [][]byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("read sealing key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	s, err := NewSealer(keys...)
	if err != nil {
		return nil, fmt.Errorf("read sealing key %s: %w", path, err)
	}
	return s, nil
}

func parseKey(text []byte) ([]byte, error) {
	if key, err := hex.DecodeString(string(text)); err == nil && len(key) == sealKeyLen {
		return key, nil
	}
	text = bytes.TrimRight(text, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := enc.DecodeString(string(text)); err == nil && len(key) == sealKeyLen {
			return key, nil
		}
	}
	return nil, errKeyFile
}

var errKeyFile = errors.New("a key file holds 32 bytes as 64 hex digits or as base64 (make one with: openssl rand -hex 32), or several such keys, one a line")

// CreateSealer makes a key and keeps it in a new file that only its owner can
// read. It refuses to write over one that is there.
func CreateSealer(path string) (*Sealer, error) {
	key := make([]byte, sealKeyLen)
	rand.Read(key)
	// Durable before it is used: what is sealed with a key must not outlive it.
	if err := datadir.Create(path, append(hex.AppendEncode(nil, key), '\n')); err != nil {
		return nil, fmt.Errorf("create sealing key: %w", err)
	}
	return NewSealer(key)
}

// Fingerprint tells the key that is sealed with from others, and tells nothing
// else about it.
func (s *Sealer) Fingerprint() string { return s.keys[0].fingerprint }

// Has reports whether a key with the fingerprint is among the keys.
func (s *Sealer) Has(fingerprint string) bool {
	return slices.ContainsFunc(s.keys, func(k sealKey) bool { return k.fingerprint == fingerprint })
}

// Seal encrypts a secret of an endpoint with the first key.
func (s *Sealer) Seal(secret []byte, org, endpoint string, version uint32) []byte {
	k := &s.keys[0]
	out := make([]byte, 1+nonceLen, 1+nonceLen+len(secret)+k.aead.Overhead())
	out[0] = k.id
	// 96 random bits: safe for 2^32 secrets under one key, and no counter to keep.
	rand.Read(out[1:])
	return k.aead.Seal(out, out[1:1+nonceLen], secret, associated(org, endpoint, version))
}

// Open decrypts what Seal made for the same endpoint, with any of the keys.
func (s *Sealer) Open(sealed []byte, org, endpoint string, version uint32) ([]byte, error) {
	if len(sealed) < 1+nonceLen {
		return nil, ErrSeal
	}
	for i := range s.keys {
		k := &s.keys[i]
		if k.id != sealed[0] {
			continue
		}
		secret, err := k.aead.Open(nil, sealed[1:1+nonceLen], sealed[1+nonceLen:], associated(org, endpoint, version))
		if err == nil {
			return secret, nil
		}
	}
	return nil, ErrSeal
}

// associated gives bytes that no other org, endpoint and version give: each text
// is preceded by its length.
func associated(org, endpoint string, version uint32) []byte {
	b := []byte("sluice endpoint secret")
	for _, s := range []string{org, endpoint} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, version)
}
