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
//
// A dialect's own keys begin with its word in place of sk.
type Token string

// LogValue hides the token from logs.
func (Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the token from formatting verbs.
func (Token) String() string { return "[redacted]" }

// GoString hides the token from %#v.
func (Token) GoString() string { return "[redacted]" }

// The parts of a token, in bytes.
const (
	brandLen  = 16 // at most
	randomLen = 32
	sumLen    = 6
)

// OurBrand is the word that keys begin with, but for a dialect's own.
const OurBrand = "sk"

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrToken is returned for a text that is no key of ours, whatever is wrong
// with it: who guesses learns nothing.
var ErrToken = errors.New("not an API key")

// New makes a key of the environment.
func New(env event.Environment) Token { return Branded(OurBrand, env) }

// Branded makes a key that begins with another word, of 1 to 16 lower-case letters.
func Branded(brand string, env event.Environment) Token {
	t := AppendRandom([]byte(Prefix(brand, env)), randomLen)
	return Token(appendSum(t, string(t)))
}

// Prefix is what stands before a key's random characters.
func Prefix(brand string, env event.Environment) string {
	if env == event.Live {
		return brand + "_live_"
	}
	return brand + "_test_"
}

// startLen is how many of the random characters people may be shown: 18 of 190 bits.
const startLen = 3

// Start gives what people may be shown of a key again and again, to tell it by: its
// prefix and a little more.
func (t Token) Start() string { return string(t[:len(t)-sumLen-randomLen+startLen]) }

// Check reads which environment the token is of. It finds a mistyped token by
// its checksum; whether it was ever given out is for the control state to say.
func Check(token string) (event.Environment, error) {
	rest := strings.TrimLeft(token[:min(len(token), brandLen)], lowerCase)
	brand := token[:min(len(token), brandLen)-len(rest)]
	rest = token[len(brand):]
	var env event.Environment
	switch {
	case brand == "":
		return 0, ErrToken
	case strings.HasPrefix(rest, "_test_"):
		env = event.Sandbox
	case strings.HasPrefix(rest, "_live_"):
		env = event.Live
	default:
		return 0, ErrToken
	}
	rest = rest[len("_test_"):]
	if len(rest) != randomLen+sumLen || strings.Trim(rest, base62) != "" {
		return 0, ErrToken
	}
	body := token[:len(token)-sumLen]
	var sum [sumLen]byte
	if string(appendSum(sum[:0], body)) != token[len(body):] {
		return 0, ErrToken
	}
	return env, nil
}

const lowerCase = "abcdefghijklmnopqrstuvwxyz"

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
