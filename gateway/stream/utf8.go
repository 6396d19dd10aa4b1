package stream

// utf8Check looks at a text as it comes, in pieces that may cut characters, and
// knows of each byte whether any text can go on with it (RFC 3629, 4). Its zero
// value is at the beginning.
type utf8Check struct {
	need     byte // bytes of the character still to come
	low, top byte // bounds of the next
}

// take looks at the next piece; false: no text has it.
func (u *utf8Check) take(b []byte) bool {
	for _, c := range b {
		switch {
		case u.need > 0:
			if c < u.low || c > u.top {
				return false
			}
			u.need, u.low, u.top = u.need-1, 0x80, 0xbf
		case c >= 0x80 && !u.lead(c):
			return false
		}
	}
	return true
}

// lead takes the first byte of a character of several; false: there is none that
// begins with it.
func (u *utf8Check) lead(c byte) bool {
	u.low, u.top = 0x80, 0xbf
	switch {
	case c >= 0xc2 && c <= 0xdf:
		u.need = 1
	case c >= 0xe0 && c <= 0xef:
		u.need = 2
	case c >= 0xf0 && c <= 0xf4:
		u.need = 3
	default:
		return false
	}
	switch c {
	case 0xe0: // else a shorter form of the same
		u.low = 0xa0
	case 0xed: // else half of a surrogate pair
		u.top = 0x9f
	case 0xf0:
		u.low = 0x90
	case 0xf4: // else beyond U+10FFFF
		u.top = 0x8f
	}
	return true
}

// whole reports whether the text may end here, and begins anew.
func (u *utf8Check) whole() bool {
	whole := u.need == 0
	*u = utf8Check{}
	return whole
}
