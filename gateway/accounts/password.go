package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// What a hash costs: 19 MiB of memory and two passes over it, the least that OWASP
// advises for argon2id. A password that was hashed at another cost is verified at that.
const (
	memory  = 19 << 10 // KiB
	passes  = 2
	threads = 1
	saltLen = 16
	sumLen  = 32
)

// hasher hashes passwords, so many at once: each takes its 19 MiB and a processor for
// some tens of milliseconds, and strangers decide how many are asked for.
type hasher struct{ slots chan struct{} }

const (
	mostSlots = 4
	slotWait  = 2 * time.Second
)

// newHasher leaves half of the processors to all else.
func newHasher() hasher {
	return hasher{make(chan struct{}, max(1, min(mostSlots, runtime.GOMAXPROCS(0)/2)))}
}

// busy is told to who didn't get in.
var busy = &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "too many log in or register at this moment: try again", RetryAfter: 2}

// enter waits for a slot. One that is free is taken, however long ago the call was due.
func (h hasher) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-h.slots }
	select {
	case h.slots <- struct{}{}:
		return leave, nil
	default:
	}
	timeout := time.NewTimer(slotWait)
	defer timeout.Stop()
	select {
	case h.slots <- struct{}{}:
		return leave, nil
	case <-timeout.C:
		return nil, busy
	case <-ctx.Done():
		return nil, busy
	}
}

// hash gives what is kept of a password:
//
//	$argon2id$v=19$m=19456,t=2,p=1$salt$sum
func (h hasher) hash(ctx context.Context, password key.Password) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return kept{memory, passes, threads, salt, argon2.IDKey([]byte(password), salt, passes, memory, threads, sumLen)}.String(), nil
}

// verify reports whether it is the password that the text was kept of.
func (h hasher) verify(ctx context.Context, text string, password key.Password) (bool, error) {
	k, err := parseKept(text)
	if err != nil {
		return false, err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	sum := argon2.IDKey([]byte(password), k.salt, k.passes, k.memory, k.threads, uint32(len(k.sum)))
	return subtle.ConstantTimeCompare(sum, k.sum) == 1, nil
}

// decoy is verified where there is no user, so that it takes as long: nobody knows a
// password of it.
func decoy() string {
	salt, sum := make([]byte, saltLen), make([]byte, sumLen)
	rand.Read(salt)
	rand.Read(sum)
	return kept{memory, passes, threads, salt, sum}.String()
}

// kept is a password's hash and what it was made with.
type kept struct {
	memory, passes uint32
	threads        uint8
	salt, sum      []byte
}

var raw64 = base64.RawStdEncoding

func (k kept) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, k.memory, k.passes, k.threads, raw64.EncodeToString(k.salt), raw64.EncodeToString(k.sum))
}

// maxMemory and maxPasses bound what a kept hash may have us spend.
const maxMemory, maxPasses = 1 << 20, 1 << 10

func parseKept(text string) (k kept, err error) {
	var version int
	var rest string
	if _, err = fmt.Sscanf(text, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &k.memory, &k.passes, &k.threads, &rest); err != nil {
		return kept{}, errKept
	}
	salt, sum, _ := strings.Cut(rest, "$")
	k.salt, err = raw64.DecodeString(salt)
	if err == nil {
		k.sum, err = raw64.DecodeString(sum)
	}
	if err != nil || version != argon2.Version || k.memory > maxMemory || k.passes == 0 || k.passes > maxPasses || k.threads == 0 || len(k.sum) < sumLen {
		return kept{}, errKept
	}
	return k, nil
}

var errKept = errors.New("what is kept of the password isn't a hash by argon2id")
