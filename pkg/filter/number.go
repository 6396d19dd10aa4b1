package filter

import "cmp"

// number is a decimal number as text, taken apart. It points into the text.
type number struct {
	sign   int    // -1, 0, 1
	exp    int    // of ten, of the first digit
	digits []byte // from the first that isn't 0; a dot may be among them
}

// maxExponent is how many digits an exponent may have: a double's has three.
const maxExponent = 4

// parseNumber reads a number as JSON writes them, and nothing else.
func parseNumber(b []byte) (n number, ok bool) {
	n.sign = 1
	if len(b) > 0 && b[0] == '-' {
		n.sign, b = -1, b[1:]
	}
	whole := digitsOf(b)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return n, false
	}
	end := whole
	if end < len(b) && b[end] == '.' {
		fraction := digitsOf(b[end+1:])
		if fraction == 0 {
			return n, false
		}
		end += 1 + fraction
	}
	exp, ok := parseExponent(b[end:])
	if !ok {
		return n, false
	}
	first := 0
	for first < end && (b[first] == '0' || b[first] == '.') {
		first++
	}
	if first == end {
		return number{}, true
	}
	n.digits, n.exp = b[first:end], exp+whole-1-first
	if first > whole {
		n.exp++ // the dot isn't a place
	}
	return n, true
}

// parseExponent reads what stands behind the digits, if anything does.
func parseExponent(b []byte) (exp int, ok bool) {
	if len(b) == 0 {
		return 0, true
	}
	if b[0] != 'e' && b[0] != 'E' {
		return 0, false
	}
	b = b[1:]
	sign := 1
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	if len(b) == 0 || len(b) > maxExponent || digitsOf(b) < len(b) {
		return 0, false
	}
	for _, c := range b {
		exp = 10*exp + int(c-'0')
	}
	return sign * exp, true
}

func digitsOf(b []byte) int {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}

// compare gives -1, 0 or 1 as n is less than m, the same, or more.
func (n *number) compare(m *number) int {
	switch {
	case n.sign != m.sign:
		return cmp.Compare(n.sign, m.sign)
	case n.sign == 0:
		return 0
	case n.exp != m.exp:
		return n.sign * cmp.Compare(n.exp, m.exp)
	}
	a, b := n.digits, m.digits
	for len(a) > 0 || len(b) > 0 {
		var x, y byte
		x, a = digit(a)
		y, b = digit(b)
		if x != y {
			return n.sign * cmp.Compare(x, y)
		}
	}
	return 0
}

// digit takes the next digit off; behind the last there are zeros for ever.
func digit(b []byte) (byte, []byte) {
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
	}
	if len(b) == 0 {
		return '0', nil
	}
	return b[0], b[1:]
}
