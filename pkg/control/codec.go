package control

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/filter"
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
	kindReplay   = 'r'
	kindProvider = 'p'
	kindUser     = 'u'
)

// format is that of the bytes below. A change of what is written, or a new
// member, gets a higher one: snapshots and hashes of another are not compared. A
// member that isn't written unless a command set it which earlier releases stop at
// needs no other: none of them comes to compare it.
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
	b = binary.AppendUvarint(b, o.Version)
	if o.Slug != "" {
		b = appendText(b, o.Slug)
	}
	return b
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
	b = appendTime(b, k.ExpiresAt)
	if k.Start != "" || k.Network != "" || k.User != "" {
		b = appendText(appendText(b, k.Start), k.Network)
	}
	if k.User != "" {
		b = appendText(b, k.User)
	}
	return b
}

// appendEndpoint writes what many endpoints have in common first, and what is its
// own as it lies in the entry.
func appendEndpoint(b []byte, e *entry) []byte {
	b = append(b, kindEndpoint)
	b = binary.AppendVarint(b, e.created)
	b = append(b, byte(e.home.env))
	b = appendText(b, e.home.org)
	b = append(b, e.group.common...)
	return append(b, e.own...)
}

func appendCommon(b []byte, dialect string, patterns event.Patterns) []byte {
	b = appendText(b, dialect)
	b = binary.AppendUvarint(b, uint64(len(patterns)))
	for _, p := range patterns {
		b = appendText(b, p.String())
	}
	return b
}

// appendOwn writes an endpoint's texts behind all else: they are read as parts of one
// string. What few endpoints have follows, where there is any of it.
func appendOwn(b []byte, ep *endpoint.Endpoint, sealed *sealed) []byte {
	b = appendText(b, ep.Status)
	b = appendTime(b, ep.CreatedAt)
	b = appendTime(b, ep.UpdatedAt)
	b = appendTime(b, ep.DisabledAt)
	b = binary.AppendVarint(b, ep.From)
	b = binary.AppendVarint(b, ep.Skip)
	b = binary.AppendUvarint(b, ep.Epoch)
	b = binary.AppendUvarint(b, ep.Version)
	b = binary.AppendVarint(b, ep.Control)
	b = binary.AppendVarint(b, ep.Missed)
	texts := [...]string{ep.ID, ep.URL, ep.Description, ep.Reason, sealed.secret}
	for _, s := range texts {
		b = binary.AppendUvarint(b, uint64(len(s)))
	}
	for _, s := range texts {
		b = append(b, s...)
	}
	if o := &ep.Options; !o.IsZero() || sealed.headers != "" || sealed.version != firstSecret {
		b = appendRare(b, o, sealed)
	}
	return b
}

func appendRare(b []byte, o *endpoint.Options, sealed *sealed) []byte {
	b = append(b, bit(o.Ordered)|bit(o.ASCIIBody)<<1)
	b = binary.AppendUvarint(b, uint64(o.MaxInFlight))
	b = binary.AppendUvarint(b, math.Float64bits(o.RatePerSecond))
	b = appendText(b, o.Filter)
	b = appendText(b, sealed.headers)
	b = binary.AppendUvarint(b, uint64(sealed.version))
	return appendPrevious(b, sealed.previous)
}

func appendPrevious(b []byte, previous []sealedSecret) []byte {
	b = binary.AppendUvarint(b, uint64(len(previous)))
	for i := range previous {
		p := &previous[i]
		b = appendText(b, p.secret)
		b = binary.AppendUvarint(b, uint64(p.version))
		b = appendTime(b, p.until)
	}
	return b
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
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

// load adds one thing to the state, which keeps parts of the string.
func (s *state) load(thing string) error {
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
		return s.loadEndpoint(&r)
	case kindReplay:
		return s.loadReplay(&r)
	case kindProvider:
		return s.loadProvider(&r)
	case kindUser:
		return s.loadUser(&r)
	default:
		return errDamaged
	}
	if !r.done() {
		return errDamaged
	}
	return nil
}

// loadEndpoint adds an endpoint of an org that was loaded before, once its secret
// could be opened.
func (s *state) loadEndpoint(r *reader) error {
	e := &entry{created: r.varint()}
	env := r.environment()
	org := s.orgs[r.text()]
	if org == nil || r.bad {
		return errDamaged
	}
	e.home = s.home(org.ID, env)
	if e.group = r.group(s.wanted[env]); e.group == nil {
		return errDamaged
	}
	e.own = strings.Clone(r.rest)
	var ep endpoint.Endpoint
	if err := e.open(&ep, s.sealer); err != nil {
		return err
	}
	if ep.Options.Filter != "" {
		if _, err := filter.Of(ep.Options.Filter); err != nil {
			return errDamaged
		}
		e.group = s.wanted[env].of(e.group.dialect, e.group.patterns, ep.Options.Filter)
	}
	e.from = ep.From
	s.addEndpoint(e)
	return nil
}

// reader takes members off the front of a string; texts are parts of it. Once bad
// it gives zeros.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = "", true }

// done says that all was read, and made sense.
func (r *reader) done() bool { return !r.bad && len(r.rest) == 0 }

func (r *reader) take(n int) string {
	if n < 0 || n > len(r.rest) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) uvarint() (v uint64) {
	for shift := 0; shift < 64 && !r.bad; shift += 7 {
		b := r.byte()
		if v |= uint64(b&0x7f) << shift; b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// length reads a number of things that take a byte each at least.
func (r *reader) length() int {
	if n := r.uvarint(); n <= uint64(len(r.rest)) {
		return int(n)
	}
	r.fail()
	return 0
}

func (r *reader) text() string { return r.take(r.length()) }

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
	o := &Org{
		created: r.varint(), ID: r.text(), Name: r.text(), Plan: Plan(r.text()), Email: r.text(),
		CreatedAt: r.time(), UpdatedAt: r.time(), Version: r.uvarint(),
	}
	if len(r.rest) > 0 {
		if o.Slug = r.text(); o.Slug == "" {
			r.fail() // it isn't written then
		}
	}
	return o
}

func (r *reader) key() *Key {
	k := &Key{created: r.varint()}
	copy(k.Hash[:], r.take(len(k.Hash)))
	k.Environment = r.environment()
	k.ID, k.Org, k.Name, k.Scopes = r.text(), r.text(), r.text(), readTexts[key.Scope](r)
	k.CreatedAt, k.ExpiresAt = r.time(), r.time()
	if len(r.rest) > 0 {
		k.Start, k.Network = r.text(), r.text()
		named := len(r.rest) > 0
		if named {
			k.User = r.text()
		}
		if named == (k.User == "") || k.Start == "" && k.Network == "" && k.User == "" {
			r.fail() // what is empty isn't written
		}
	}
	return k
}

// group reads what appendCommon wrote; nil: it didn't.
func (r *reader) group(x *index) *group {
	from := r.rest
	dialect, texts := r.text(), readTexts[string](r)
	if r.bad {
		return nil
	}
	if g := x.groups[from[:len(from)-len(r.rest)]]; g != nil {
		return g
	}
	patterns, err := parsePatterns(texts)
	if err != nil {
		return nil
	}
	return x.of(strings.Clone(dialect), patterns, "")
}

// own reads what appendOwn wrote.
func (r *reader) own(ep *endpoint.Endpoint, sealed *sealed) {
	sealed.secret, sealed.version = r.plain(ep), firstSecret
	if len(r.rest) > 0 {
		r.rare(&ep.Options, sealed)
	}
}

// rare reads what few endpoints have.
func (r *reader) rare(o *endpoint.Options, sealed *sealed) {
	flags := r.byte()
	if flags > 3 {
		r.fail()
	}
	o.Ordered, o.ASCIIBody = flags&1 != 0, flags&2 != 0
	o.MaxInFlight, o.RatePerSecond = int(r.uvarint()), math.Float64frombits(r.uvarint())
	o.Filter, sealed.headers, sealed.version = r.text(), r.text(), uint32(r.uvarint())
	sealed.previous = r.previous()
}

func (r *reader) previous() []sealedSecret {
	n := r.length()
	if n == 0 {
		return nil
	}
	list := make([]sealedSecret, n)
	for i := range list {
		list[i] = sealedSecret{r.text(), uint32(r.uvarint()), r.time()}
	}
	return list
}

// plain reads what every endpoint has.
func (r *reader) plain(ep *endpoint.Endpoint) (secret string) {
	ep.Status = r.status()
	ep.CreatedAt, ep.UpdatedAt, ep.DisabledAt = r.time(), r.time(), r.time()
	ep.From, ep.Skip, ep.Epoch, ep.Version, ep.Control, ep.Missed = r.varint(), r.varint(), r.uvarint(), r.uvarint(), r.varint(), r.varint()
	texts := [...]*string{&ep.ID, &ep.URL, &ep.Description, &ep.Reason, &secret}
	var lengths [len(texts)]int
	for i := range lengths {
		lengths[i] = r.length()
	}
	for i, text := range texts {
		*text = r.take(lengths[i])
	}
	return secret
}

func (r *reader) status() endpoint.Status {
	switch status := endpoint.Status(r.text()); status {
	case endpoint.Active, endpoint.Paused, endpoint.Disabled:
		return status
	}
	r.fail()
	return ""
}
