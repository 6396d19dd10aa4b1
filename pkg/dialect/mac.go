package dialect

import (
	"crypto/sha256"
	"hash"
	"sync"
)

// AppendMAC adds the HMAC-SHA256 of the head's texts and the body, one behind the
// other: 32 bytes. It is what crypto/hmac gives, which makes two digests and more for
// each signature; here one is used again. Any number of goroutines may call it.
func AppendMAC(dst, key, body []byte, head ...string) []byte {
	m := macs.Get().(*mac)
	defer macs.Put(m)
	if len(key) > sha256.BlockSize {
		m.hash.Reset()
		m.hash.Write(key)
		key = m.hash.Sum(m.key[:0])
	}
	m.begin(key, 0x36)
	m.head = m.head[:0]
	for _, text := range head {
		m.head = append(m.head, text...)
	}
	m.hash.Write(m.head)
	m.hash.Write(body)
	inner := m.hash.Sum(m.sum[:0])
	m.begin(key, 0x5c)
	m.hash.Write(inner)
	return append(dst, m.hash.Sum(m.sum[:0])...)
}

// mac is what a signature needs.
type mac struct {
	hash     hash.Hash
	block    [sha256.BlockSize]byte
	key, sum [sha256.Size]byte
	head     []byte
}

var macs = sync.Pool{New: func() any { return &mac{hash: sha256.New()} }}

// begin hashes the key's block, as RFC 2104 has it: filled with zeros, and each byte
// combined with the pad.
func (m *mac) begin(key []byte, pad byte) {
	clear(m.block[copy(m.block[:], key):])
	for i := range m.block {
		m.block[i] ^= pad
	}
	m.hash.Reset()
	m.hash.Write(m.block[:])
}
