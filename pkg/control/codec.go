package control

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// The things of the state as bytes, in snapshots and for the hash: a kind, and
// then members in a fixed order. Numbers are varints, texts and lists begin with
// their length, a time is its seconds and nanoseconds, in UTC.
const (
	kindLog      = 'l'
	kindOrg      = 'o'
	kindGone     = 'g'
	kindKey      = 'k'
	kindEndpoint = 'e'
)

// format is that of the bytes below. A change of what is written, or a new
// member, gets a higher one: snapshots and hashes of another are not compared.
const format = 1

func appendLog(b []byte, s *state) []byte {
	b = append(b, kindLog)
	b = append(b, s.incarnation[:]...)
	b = binary.AppendVarint(b, int64(s.lanes))
	return appendTexts(b, s.sealedWith)
}

func appendOrg(b []byte, o *Org) []byte {
	b = append(b, kindOrg)
	b = binary.AppendVarint(b, o.created)
	b = appendText(b, o.ID)
	b = appendText(b, o.Name)
	b = appendText(b, o.Plan)
	b = appendText(b, o.Email)
	b = appendTime(b, o.CreatedAt)
	b = appendTime(b, o.UpdatedAt)
	return binary.AppendUvarint(b, o.Version)
}

func appendGone(b []byte, id string) []byte { return appendText(append(b, kindGone), id) }

func appendKey(b []byte, k *Key) []byte {
	b = append(b, kindKey)
	b = binary.AppendVarint(b, k.created)
	b = append(b, k.Hash[:]...)
	b = append(b, byte(k.Environment))
	b = appendText(b, k.ID)
	b = appendText(b, k.Org)
	b = appendText(b, k.Name)
	b = appendTexts(b, k.Scopes)
	b = appendTime(b, k.CreatedAt)
	return appendTime(b, k.ExpiresAt)
}

// appendEndpoint writes what many endpoints share first, and the texts that are
// its own last: they are read as one string.
func appendEndpoint(b []byte, e *entry) []byte {
	b = append(b, kindEndpoint)
	b = binary.AppendVarint(b, e.created)
	b = append(b, byte(e.Environment))
	b = appendText(b, e.Org)
	b = appendText(b, e.Dialect)
	b = binary.AppendUvarint(b, uint64(len(e.Patterns)))
	for _, p := range e.Patterns {
		b = appendText(b, p.String())
	}
	b = appendText(b, e.Status)
	b = appendTime(b, e.CreatedAt)
	b = appendTime(b, e.UpdatedAt)
	b = appendTime(b, e.DisabledAt)
	b = binary.AppendVarint(b, e.From)
	b = binary.AppendVarint(b, e.Skip)
	b = binary.AppendUvarint(b, e.Epoch)
	b = binary.AppendUvarint(b, e.Version)
	b = binary.AppendVarint(b, e.Control)
	b = binary.AppendVarint(b, e.Missed)
	own := []string{e.ID, e.URL, e.Description, e.Reason, e.sealed}
	for _, s := range own {
		b = binary.AppendUvarint(b, uint64(len(s)))
	}
	for _, s := range own {
		b = append(b, s...)
	}
	return b
}

func appendText[T ~string](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts[T ~string](b []byte, list []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// errDamaged is what reading says of bytes that none of the above wrote.
var errDamaged = errors.New("it is damaged")

// load adds one thing to the state.
func (s *state) load(thing []byte) error {
	r := reader{rest: thing}
	switch r.byte() {
	case kindLog:
		incarnation, lanes, sealedWith := r.take(len(s.incarnation)), r.varint(), readTexts[string](&r)
		if r.done() {
			s.setLog(func() {
				s.begun, s.lanes, s.sealedWith = true, int32(lanes), sealedWith
				copy(s.incarnation[:], incarnation)
			})
		}
	case kindOrg:
		if o := r.org(); r.done() {
			s.addOrg(o)
		}
	case kindGone:
		if id := r.text(); r.done() {
			s.retire(id)
		}
	case kindKey:
		if k := r.key(); r.done() {
			s.addKey(k)
		}
	case kindEndpoint:
		if e := r.endpoint(s); r.done() {
			return s.restore(e)
		}
	default:
		return errDamaged
	}
	if !r.done() {
		return errDamaged
	}
	return nil
}

// restore opens the secret of an endpoint as it was written and adds it.
func (s *state) restore(e *entry) (err error) {
	if e.Secret, err = s.sealer.Open([]byte(e.sealed), e.Org, e.ID, secretVersion); err != nil {
		return err
	}
	s.addEndpoint(e)
	return nil
}

// reader takes members off the front of bytes. Once bad it gives zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = nil, true }

// done says that all was read, and made sense.
func (r *reader) done() bool { return !r.bad && len(r.rest) == 0 }

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		n = -1
	}
	r.take(n)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		n = -1
	}
	r.take(n)
	return v
}

// length reads a number of things that take a byte each at least.
func (r *reader) length() int {
	if n := r.uvarint(); n <= uint64(len(r.rest)) {
		return int(n)
	}
	r.fail()
	return 0
}

func (r *reader) text() string { return string(r.take(r.length())) }

func readTexts[T ~string](r *reader) []T {
	n := r.length()
	if n == 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		list[i] = T(r.text())
	}
	return list
}

func (r *reader) time() time.Time {
	s, ns := r.varint(), r.uvarint()
	if ns >= 1e9 {
		r.fail()
	}
	return time.Unix(s, int64(ns)).UTC()
}

func (r *reader) environment() event.Environment {
	env := event.Environment(r.byte())
	if !validEnvironment(env) {
		r.fail()
	}
	return env
}

func (r *reader) org() *Org {
	return &Org{
		created: r.varint(), ID: r.text(), Name: r.text(), Plan: Plan(r.text()), Email: r.text(),
		CreatedAt: r.time(), UpdatedAt: r.time(), Version: r.uvarint(),
	}
}

func (r *reader) key() *Key {
	k := &Key{created: r.varint()}
	copy(k.Hash[:], r.take(len(k.Hash)))
	k.Environment = r.environment()
	k.ID, k.Org, k.Name, k.Scopes = r.text(), r.text(), r.text(), readTexts[key.Scope](r)
	k.CreatedAt, k.ExpiresAt = r.time(), r.time()
	return k
}

// endpoint reads an endpoint of an org that was read before.
func (r *reader) endpoint(s *state) *entry {
	e := &entry{created: r.varint()}
	e.Environment = r.environment()
	org := s.orgs[string(r.take(r.length()))]
	if org == nil {
		r.fail()
		return nil
	}
	e.Org = org.ID
	e.Dialect = s.dialect(r.text())
	patterns, err := parsePatterns(readTexts[string](r))
	if err != nil {
		r.fail()
	}
	e.Patterns = patterns
	e.Status = r.status()
	e.CreatedAt, e.UpdatedAt, e.DisabledAt = r.time(), r.time(), r.time()
	e.From, e.Skip, e.Epoch, e.Version, e.Control, e.Missed = r.varint(), r.varint(), r.uvarint(), r.uvarint(), r.varint(), r.varint()
	own := []*string{&e.ID, &e.URL, &e.Description, &e.Reason, &e.sealed}
	var lengths [5]int
	total := 0
	for i := range own {
		lengths[i] = r.length()
		total += lengths[i]
	}
	texts := string(r.take(total))
	for i := range own {
		if r.bad {
			return nil
		}
		*own[i], texts = texts[:lengths[i]], texts[lengths[i]:]
	}
	return e
}

func (r *reader) status() endpoint.Status {
	text := r.take(r.length())
	all := []endpoint.Status{endpoint.Active, endpoint.Paused, endpoint.Disabled}
	if i := slices.Index(all, endpoint.Status(text)); i >= 0 {
		return all[i]
	}
	r.fail()
	return ""
}
