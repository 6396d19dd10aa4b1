package event

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"
)

// An id of ours sorts by the millisecond it was made in, and can't be guessed:
//
//	evt_ 01hzx3k9fq 8v2m6t0w4n7y1c5b
//	     time        80 random bits      both in base 32: digits and lower case letters without i, l, o, u
const (
	idPrefix = "evt_"
	idDigits = "0123456789abcdefghjkmnpqrstvwxyz"
	idTime   = 10
	idRandom = 16
	idLen    = len(idPrefix) + idTime + idRandom
)

// NewID makes an id at the given time. The random part is from the runtime's
// ChaCha8, which the operating system seeds.
func NewID(now time.Time) string { return makeID(now, rand.Uint64(), rand.Uint64()) }

// makeID takes 40 bits of each number.
func makeID(at time.Time, a, b uint64) string {
	var raw [idLen]byte
	copy(raw[:], idPrefix)
	putDigits(raw[len(idPrefix):len(idPrefix)+idTime], uint64(at.UnixMilli()))
	putDigits(raw[len(idPrefix)+idTime:idLen-8], a)
	putDigits(raw[idLen-8:], b)
	return string(raw[:])
}

func putDigits(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = idDigits[v&31]
		v >>= 5
	}
}

// IDTime gives the time at which an id of ours was made. Anybody may send an id
// that looks like one of ours, so it is a hint where to look and no more.
func IDTime(id string) (time.Time, bool) {
	if len(id) != idLen || id[:len(idPrefix)] != idPrefix {
		return time.Time{}, false
	}
	var ms int64
	for i := len(idPrefix); i < idLen; i++ {
		d := strings.IndexByte(idDigits, id[i])
		if d < 0 {
			return time.Time{}, false
		}
		if i < len(idPrefix)+idTime {
			ms = ms<<5 | int64(d)
		}
	}
	if ms >= 1<<48 {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}

// SourceID is the id of an event that a source outside has one for: the prefix, and
// 24 characters of base64url, the first 18 bytes of SHA-256 over the length of the
// source (8 bytes, big endian), the source and the id.
func SourceID(prefix, source, id string) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(len(source)))
	hash := sha256.Sum256(append(append(b, source...), id...))
	return prefix + base64.RawURLEncoding.EncodeToString(hash[:18])
}

// ValidID reports whether s may be an event's id: 1 to MaxID letters, digits,
// '_' and '-'.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > MaxID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
