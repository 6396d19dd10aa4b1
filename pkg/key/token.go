package key

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"log/slog"
	"strings"

	"sluice/pkg/event"
)

// Token is the text of a key. It prints as redacted wherever it is logged;
// string(t) is the key itself.
//
//	sk_test_ 0123456789abcdefghijklmnopqrstuv 0aB3xZ
//	prefix   32 random base62 characters      CRC-32 of all before
type Token string

// LogValue hides the token from logs.
func (Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the token from formatting verbs.
func (Token) String() string { return "[redacted]" }

// GoString hides the token from %#v.
func (Token) GoString() string { return "[redacted]" }

// The parts of a token.
const (
	prefixSandbox = "sk_test_"
	prefixLive    = "sk_live_"
	randomLen     = 32
	sumLen        = 6
	// Len is the length of a token, in bytes.
	Len = len(prefixSandbox) + randomLen + sumLen
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrToken is returned for a text that is no key of ours, whatever is wrong
// with it: who guesses learns nothing.
var ErrToken = errors.New("not an API key")

// New makes a key of the environment.
func New(env event.Environment) Token {
	prefix := prefixSandbox
	if env == event.Live {
		prefix = prefixLive
	}
	t := append(make([]byte, 0, Len), prefix...)
	t = AppendRandom(t, randomLen)
	return Token(appendSum(t, string(t)))
}

// Check reads which environment the token is of. It finds a mistyped token by
// its checksum; whether it was ever given out is for the control state to say.
func Check(token string) (event.Environment, error) {
	var env event.Environment
	switch {
	case len(token) != Len:
		return 0, ErrToken
	case strings.HasPrefix(token, prefixSandbox):
		env = event.Sandbox
	case strings.HasPrefix(token, prefixLive):
		env = event.Live
	default:
		return 0, ErrToken
	}
	for i := len(prefixSandbox); i < Len; i++ {
		if !alphanumeric(token[i]) {
			return 0, ErrToken
		}
	}
	body := token[:Len-sumLen]
	var sum [sumLen]byte
	if string(appendSum(sum[:0], body)) != token[Len-sumLen:] {
		return 0, ErrToken
	}
	return env, nil
}

// Hash gives what we keep of a token. A token holds 190 random bits, which
// nobody can search, so a fast hash keeps it as safe as a slow one would, at a
// microsecond instead of milliseconds for each request.
func Hash(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// AppendRandom adds n random base62 characters.
func AppendRandom(dst []byte, n int) []byte {
	var buf [64]byte
	for n > 0 {
		rand.Read(buf[:])
		for _, b := range buf {
			// 248 is the highest multiple of 62 in a byte: above it the remainders wouldn't be equally likely.
			if b < 248 && n > 0 {
				dst = append(dst, base62[b%62])
				n--
			}
		}
	}
	return dst
}

// appendSum adds the checksum of body, left-padded with 0.
func appendSum(dst []byte, body string) []byte {
	sum := crc32.ChecksumIEEE([]byte(body))
	var digits [sumLen]byte
	for i := sumLen - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return append(dst, digits[:]...)
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
