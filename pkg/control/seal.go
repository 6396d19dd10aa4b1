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
	"path/filepath"
)

// Sealer encrypts the secrets that enter the log, with AES-256-GCM:
//
//	 0        1            13
//	┌────────┬────────────┬──────────────────────┐
//	│ key id │ nonce      │ ciphertext and tag   │   associated data: org, endpoint, version
//	└────────┴────────────┴──────────────────────┘
//
// The associated data nails a secret to its endpoint: moved to another, it can't
// be opened.
type Sealer struct {
	aead        cipher.AEAD
	id          byte // of the key; others could be told from it once there is a second
	fingerprint string
}

const (
	sealKeyLen = 32
	nonceLen   = 12
)

// ErrSeal is returned for bytes that this key never sealed, or not for this
// endpoint.
var ErrSeal = errors.New("secret can't be opened")

// NewSealer makes a sealer of a key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != sealKeyLen {
		return nil, fmt.Errorf("a sealing key has %d bytes, not %d", sealKeyLen, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("sluice sealing key\x00"), key...))
	return &Sealer{aead: aead, id: sum[0], fingerprint: hex.EncodeToString(sum[:8])}, nil
}

// LoadSealer reads a key file: 32 bytes, as hex or as base64.
func LoadSealer(path string) (*Sealer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	key, err := parseKey(bytes.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("read sealing key %s: %w", path, err)
	}
	return NewSealer(key)
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
	return nil, errors.New("a key file holds 32 bytes as 64 hex digits or as base64 (make one with: openssl rand -hex 32)")
}

// CreateSealer makes a key and keeps it in a new file that only its owner can
// read. It refuses to write over one that is there.
func CreateSealer(path string) (*Sealer, error) {
	key := make([]byte, sealKeyLen)
	rand.Read(key)
	if err := writeSecretFile(path, hex.AppendEncode(nil, key)); err != nil {
		return nil, fmt.Errorf("create sealing key: %w", err)
	}
	return NewSealer(key)
}

// writeSecretFile makes a file of mode 0600, durable before it returns: what is
// sealed with a key must not outlive it.
func writeSecretFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Fingerprint tells sealing keys apart and tells nothing else about them.
func (s *Sealer) Fingerprint() string { return s.fingerprint }

// Seal encrypts a secret of an endpoint.
func (s *Sealer) Seal(secret []byte, org, endpoint string, version uint32) []byte {
	out := make([]byte, 1+nonceLen, 1+nonceLen+len(secret)+s.aead.Overhead())
	out[0] = s.id
	// 96 random bits: safe for 2^32 secrets under one key, and no counter to keep.
	rand.Read(out[1:])
	return s.aead.Seal(out, out[1:1+nonceLen], secret, associated(org, endpoint, version))
}

// Open decrypts what Seal made for the same endpoint.
func (s *Sealer) Open(sealed []byte, org, endpoint string, version uint32) ([]byte, error) {
	if len(sealed) < 1+nonceLen || sealed[0] != s.id {
		return nil, ErrSeal
	}
	secret, err := s.aead.Open(nil, sealed[1:1+nonceLen], sealed[1+nonceLen:], associated(org, endpoint, version))
	if err != nil {
		return nil, ErrSeal
	}
	return secret, nil
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
