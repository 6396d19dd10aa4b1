package delivery

import (
	"encoding/binary"
	"time"
)

func flag(set bool, bit uint64) uint64 {
	if set {
		return bit
	}
	return 0
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendVarint(dst, t.UnixNano())
}

func (p Place) append(dst []byte) []byte {
	return binary.AppendVarint(appendText(dst, p.Topic), p.Offset)
}

func (o *Outcome) append(dst []byte) []byte {
	dst = appendText(dst, string(o.Class))
	dst = binary.AppendUvarint(dst, uint64(o.Status))
	dst = appendText(dst, o.Detail)
	dst = appendTime(dst, o.Started)
	dst = binary.AppendVarint(dst, int64(o.Took))
	dst = binary.AppendUvarint(dst, o.Epoch)
	return appendTime(dst, o.RetryAt)
}

// reader takes members off the front of rest. Once something was missing, bad is
// set and every further member is zero. Texts are parts of rest.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = "", true }

func (r *reader) byte() byte {
	if r.rest == "" {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := r.byte()
		if r.bad || shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads a number that fits any int.
func (r *reader) count() int {
	u := r.uvarint()
	if u > 1<<31-1 {
		r.fail()
		return 0
	}
	return int(u)
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) time() time.Time {
	if ns := r.varint(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Time{}
}

// generation reads one that is there.
func (r *reader) generation() uint64 {
	g := r.uvarint()
	if g == 0 {
		r.fail()
	}
	return g
}

// more reads members by their tags, and leaves them as they are.
func (r *reader) more() string {
	all := r.text()
	for in := (reader{rest: all}); in.rest != ""; {
		if in.member(); in.bad {
			r.fail()
		}
	}
	if all == "" {
		r.fail()
	}
	return all
}

// member takes the next member of more.
func (r *reader) member() (tag uint64, value string) { return r.uvarint(), r.text() }

// inherited gives the members of more that a delivery's next hop has, too.
func inherited(more string) string {
	var kept []byte
	for r := (reader{rest: more}); r.rest != ""; {
		before := r.rest
		if tag, _ := r.member(); tag%2 == 1 {
			kept = append(kept, before[:len(before)-len(r.rest)]...)
		}
	}
	return string(kept)
}

func (r *reader) place() Place { return Place{Topic: r.text(), Offset: r.varint()} }

func (r *reader) outcome() Outcome {
	return Outcome{
		Class:   Class(r.text()),
		Status:  r.count(),
		Detail:  r.text(),
		Started: r.time(),
		Took:    time.Duration(r.varint()),
		Epoch:   r.uvarint(),
		RetryAt: r.time(),
	}
}
