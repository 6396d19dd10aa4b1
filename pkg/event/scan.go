package event

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// scan walks over one JSON object. What is canonical stays where it lies; what
// isn't is cut out and replaced, so that data which is canonical costs no copy:
//
//	src   start … done … pos …
//	out   the canonical form of src[start:done]
//
// A method that returns false gives up, for whatever reason: rebuild then says
// whether and why. It must never take what jsontext would refuse.
type scan struct {
	src       []byte
	pos       int
	start     int
	done      int
	out       []byte
	members   Members
	names     [scanNames]span // of the objects that are open, to find one that stands twice
	openNames int
}

// scanNames is how many names scan can hold; rebuild has no such bound.
const scanNames = 128

type span struct{ from, to uint32 }

func (s *scan) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

// replace puts other bytes in the place of src[from:pos].
func (s *scan) replace(from int, with []byte) {
	if s.out == nil && from > s.start {
		s.out = make([]byte, 0, min(len(s.src)-s.start, 1<<10))
	}
	s.out = append(s.out, s.src[s.done:from]...)
	s.out = append(s.out, with...)
	s.done = s.pos
}

func (s *scan) result() []byte {
	if s.done == s.start {
		return s.src[s.start:s.pos:s.pos]
	}
	return append(s.out, s.src[s.done:s.pos]...)
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (s *scan) space() {
	if s.pos < len(s.src) && s.src[s.pos] > ' ' {
		return
	}
	from := s.pos
	for s.pos < len(s.src) && isSpace(s.src[s.pos]) {
		s.pos++
	}
	if s.pos > from && s.pos < len(s.src) {
		s.replace(from, nil)
	}
}

// mark takes the byte c, with white space on both sides.
func (s *scan) mark(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	s.space()
	return true
}

func (s *scan) value(depth int) bool {
	switch c := s.peek(); c {
	case '"':
		return s.text()
	case '{':
		return s.object(depth)
	case '[':
		return s.array(depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return (c == '-' || '0' <= c && c <= '9') && s.number()
	}
}

func (s *scan) word(w string) bool {
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

func (s *scan) array(depth int) bool {
	if depth > MaxDepth {
		return false
	}
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
		return true
	}
	for s.value(depth + 1) {
		s.space()
		if s.peek() == ']' {
			s.pos++
			return true
		}
		if !s.mark(',') {
			return false
		}
	}
	return false
}

func (s *scan) object(depth int) bool {
	if depth > MaxDepth {
		return false
	}
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
		return true
	}
	o := openObject{first: s.openNames, index: -1}
	for s.name(&o, depth) && s.mark(':') && s.value(depth+1) {
		s.space()
		if s.peek() == '}' {
			s.pos++
			s.openNames = o.first
			return true
		}
		if !s.mark(',') {
			return false
		}
	}
	return false
}

// openObject is what must be known of an object's names so far.
type openObject struct {
	first int    // where its names begin in scan.names
	seen  uint64 // a bit for each name's look, to be sure that a name is new
	index int64  // the last integer-like name
	plain bool   // there was a name that isn't integer-like
}

// name takes a member's name: canonical, new, and in JavaScript's order.
func (s *scan) name(o *openObject, depth int) bool {
	if s.peek() != '"' || s.openNames == scanNames {
		return false
	}
	from := s.pos + 1
	plain := s.quoted()
	if !plain {
		return false
	}
	name := s.src[from : s.pos-1]
	look := uint64(1) << (nameLook(name) & 63)
	if o.seen&look != 0 && s.stands(o.first, name) {
		return false
	}
	o.seen |= look
	s.names[s.openNames] = span{uint32(from), uint32(s.pos - 1)}
	s.openNames++
	if index, ok := arrayIndex(name); ok {
		if o.plain || index <= o.index {
			return false
		}
		o.index = index
	} else {
		o.plain = true
	}
	if depth == 1 {
		s.members |= memberOf(name)
	}
	return true
}

func nameLook(name []byte) uint {
	if len(name) == 0 {
		return 0
	}
	return uint(len(name)) + 7*uint(name[0]) + 31*uint(name[len(name)-1]) + 11*uint(name[len(name)/2])
}

func (s *scan) stands(first int, name []byte) bool {
	for _, n := range s.names[first:s.openNames] {
		if string(s.src[n.from:n.to]) == string(name) {
			return true
		}
	}
	return false
}

// arrayIndex reads a name that JavaScript orders as a number: 0 to 2^32-2,
// written without a leading zero.
func arrayIndex(name []byte) (int64, bool) {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n < math.MaxUint32
}

// text takes a string value.
func (s *scan) text() bool {
	from := s.pos
	if s.quoted() {
		return true
	}
	if s.pos == from {
		return false
	}
	// It ends at pos, but has an escape that JavaScript wouldn't print.
	plain, err := jsontext.AppendUnquote(nil, s.src[from:s.pos])
	if err != nil {
		return false
	}
	quoted, err := jsontext.AppendQuote(nil, plain)
	if err != nil {
		return false
	}
	s.replace(from, quoted)
	return true
}

// quoted moves behind the string at pos and reports whether it is canonical.
// If it can't be a string at all, pos stays.
func (s *scan) quoted() (canonical bool) {
	canonical = true
	i := s.pos + 1
	for {
		i += plainLen(s.src[i:])
		if i >= len(s.src) {
			return false
		}
		switch c := s.src[i]; {
		case c == '"':
			s.pos = i + 1
			return canonical
		case c == '\\':
			n, fewest := escape(s.src[i:])
			if n == 0 {
				return false
			}
			canonical = canonical && fewest
			i += n
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s.src[i:])
			if r == utf8.RuneError && size == 1 {
				return false
			}
			i += size
		default: // a bare control character
			return false
		}
	}
}

// plainLen counts the bytes before the first that needs a look: a quote, a
// backslash, a control character, or the beginning of a longer rune.
func plainLen(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The lowest marked byte is right; those above it may be marked by a borrow.
		marked := (w | (w - ones*0x20) | (quote - ones) | (slash - ones)) & highs
		if marked != 0 {
			return n + bits.TrailingZeros64(marked)/8
		}
		n += 8
	}
	for n < len(b) && b[n] >= 0x20 && b[n] != '"' && b[n] != '\\' && b[n] < utf8.RuneSelf {
		n++
	}
	return n
}

// escape gives the length of the escape that b begins with, 0 if it is none,
// and whether JSON.stringify would print it.
func escape(b []byte) (n int, canonical bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2, true
	case '/':
		return 2, false
	case 'u':
		if len(b) < 6 {
			return 0, false
		}
		v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
		if err != nil {
			return 0, false
		}
		short := v == '\b' || v == '\t' || v == '\n' || v == '\f' || v == '\r'
		return 6, v < 0x20 && !short && (b[5] < 'A' || b[5] > 'F')
	}
	return 0, false
}
