package event

import (
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// number takes a number and leaves it as its double prints.
func (s *scan) number() bool {
	from := s.pos
	n, ok := readNumber(s.src[from:])
	if !ok {
		return false
	}
	s.pos += n.size
	if n.canonical() {
		return true
	}
	var buf [32]byte
	text, message := appendNumber(buf[:0], s.src[from:s.pos], n.integer())
	if message != "" {
		return false
	}
	if string(text) != string(s.src[from:s.pos]) {
		s.replace(from, text)
	}
	return true
}

// number is the look of a number literal.
type number struct {
	size     int
	negative bool
	whole    int // digits before the point
	fraction int // digits behind it
	zeros    int // zeros right behind it
	exponent bool
	zero     bool // the whole part is 0
	trailing bool // the last digit of the fraction is 0
}

func (n *number) integer() bool { return n.fraction == 0 && !n.exponent }

// canonical reports whether the literal is sure to be what its double prints.
// Every decimal of up to 15 digits survives a double, and so is its shortest
// text; JavaScript writes it with an exponent only below 1e-6.
func (n *number) canonical() bool {
	switch {
	case n.exponent || n.whole+n.fraction > 15:
		return false
	case n.fraction == 0:
		return !(n.zero && n.negative)
	}
	return !n.trailing && (!n.zero || n.zeros < 6)
}

func readNumber(b []byte) (n number, ok bool) {
	i := 0
	if i < len(b) && b[i] == '-' {
		n.negative = true
		i++
	}
	n.whole = digits(b[i:])
	if n.whole == 0 || b[i] == '0' && n.whole > 1 {
		return n, false
	}
	n.zero = b[i] == '0'
	i += n.whole
	if i < len(b) && b[i] == '.' {
		i++
		n.fraction = digits(b[i:])
		if n.fraction == 0 {
			return n, false
		}
		for n.zeros < n.fraction && b[i+n.zeros] == '0' {
			n.zeros++
		}
		i += n.fraction
		n.trailing = b[i-1] == '0'
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		n.exponent = true
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		d := digits(b[i:])
		if d == 0 {
			return n, false
		}
		i += d
	}
	n.size = i
	return n, true
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}

// appendNumber adds a valid literal as JavaScript prints its double. A message
// says why it can't be taken.
func appendNumber(dst, literal []byte, integer bool) (text []byte, message string) {
	f, err := strconv.ParseFloat(string(literal), 64)
	switch {
	case err != nil:
		return dst, "the number is too large for a double; send it as a string"
	case integer && math.Abs(f) > maxInteger:
		return dst, "the integer is beyond ±(2^53-1), where readers lose digits; send it as a string"
	case f == 0:
		return append(dst, '0'), ""
	}
	return jsontext.AppendFloat(dst, f, 64), ""
}
