package attempt

import (
	"slices"
	"unicode/utf8"
)

// The lengths of escapes: \u00e9, and a pair of them for what is beyond U+FFFF.
const (
	shortEscape = len(`\u00e9`)
	longEscape  = 2 * shortEscape
)

// del is the first character that is escaped: Python does so with it, though it is ASCII.
const del = 0x7F

// escapeNonASCII writes all that isn't printable ASCII in a JSON text as \u escapes, with
// lower-case digits, in place. It can only stand in strings; what is below a blank is
// escaped there already.
func escapeNonASCII(b []byte) []byte {
	more := 0
	for i := 0; i < len(b); {
		if b[i] < del {
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		more += escaped(r) - size
		i += size
	}
	if more == 0 {
		return b
	}
	// From the end to the beginning: what is read is never behind what is written.
	from, to := len(b), len(b)+more
	b = slices.Grow(b, more)[:to]
	for from > 0 && from < to {
		if b[from-1] < del {
			from, to = from-1, to-1
			b[to] = b[from]
			continue
		}
		r, size := utf8.DecodeLastRune(b[:from])
		from, to = from-size, to-escaped(r)
		if r > 0xFFFF {
			r -= 0x10000
			putEscape(b[to:], 0xD800+r>>10)
			putEscape(b[to+shortEscape:], 0xDC00+r&0x3FF)
		} else {
			putEscape(b[to:], r)
		}
	}
	return b
}

func escaped(r rune) int {
	if r > 0xFFFF {
		return longEscape
	}
	return shortEscape
}

func putEscape(b []byte, r rune) {
	const hex = "0123456789abcdef"
	b[0], b[1] = '\\', 'u'
	for i := range 4 {
		b[5-i] = hex[r>>(4*i)&15]
	}
}
