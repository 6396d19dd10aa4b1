package event

import (
	"errors"
	"strings"
)

// ValidType reports whether s is an event type: two or more segments of lower
// case letters, digits and underscores with a dot between, beginning with a
// letter, at most MaxType bytes.
func ValidType(s string) bool {
	if len(s) > MaxType || len(s) == 0 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	dots := 0
	for i := range len(s) {
		switch c := s[i]; {
		case typeByte(c):
		case c == '.' && s[i-1] != '.' && i != len(s)-1:
			dots++
		default:
			return false
		}
	}
	return dots > 0
}

func typeByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
}

// MaxStars bounds the wildcards of one pattern.
const MaxStars = 8

// Pattern is an event type in which any * stands for any run of characters,
// none included. Matching costs a search through the type for each star, however
// it was thought out, and allocates nothing.
type Pattern struct{ text string }

// The ways in which a pattern can be wrong.
var (
	ErrPatternLength = errors.New("a pattern has 1 to 128 bytes")
	ErrPatternByte   = errors.New("a pattern has lower case letters, digits, '_', '.' and '*' only")
	ErrPatternStars  = errors.New("a pattern has at most 8 '*', never two in a row")
)

// ParsePattern checks s. Its errors are written for the person who sent it.
func ParsePattern(s string) (Pattern, error) {
	if len(s) == 0 || len(s) > MaxType {
		return Pattern{}, ErrPatternLength
	}
	for i := range len(s) {
		if c := s[i]; !typeByte(c) && c != '.' && c != '*' {
			return Pattern{}, ErrPatternByte
		}
	}
	if strings.Contains(s, "**") || strings.Count(s, "*") > MaxStars {
		return Pattern{}, ErrPatternStars
	}
	return Pattern{s}, nil
}

// String gives the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match reports whether the type matches.
func (p Pattern) Match(typ string) bool {
	head, rest, star := strings.Cut(p.text, "*")
	if !star {
		return p.text == typ
	}
	typ, ok := strings.CutPrefix(typ, head)
	for ok {
		part, behind, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(typ, part)
		}
		// What lies between two stars may as well be found at its first place.
		_, typ, ok = strings.Cut(typ, part)
		rest = behind
	}
	return false
}

// Patterns is a set of which any may match.
type Patterns []Pattern

// Match reports whether any pattern of the set matches the type.
func (ps Patterns) Match(typ string) bool {
	for i := range ps {
		if ps[i].Match(typ) {
			return true
		}
	}
	return false
}

// Strings gives the patterns as they were written.
func (ps Patterns) Strings() []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.text
	}
	return out
}
