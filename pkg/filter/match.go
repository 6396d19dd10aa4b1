package filter

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/event"
)

// node is what is looked for in an object: a member, the tests of its value, and
// what is looked for inside it.
type node struct {
	name  []byte // quoted, as canonical data has it; the root has none
	tests []test
	kids  []node
}

// child finds or makes what is looked for under a name.
func (n *node) child(quoted []byte) *node {
	for i := range n.kids {
		if bytes.Equal(n.kids[i].name, quoted) {
			return &n.kids[i]
		}
	}
	n.kids = append(n.kids, node{name: quoted})
	return &n.kids[len(n.kids)-1]
}

// op is what a test asks.
type op uint8

const (
	in     op = iota // the value is one of some
	prefix           // it is a string that begins so
	exists
	gt
	gte
	lt
	lte
)

// test is one condition on a member's value; bit is set where it holds. Of a member
// that isn't there none holds.
type test struct {
	op     op
	bit    uint64
	values [][]byte // of in; of prefix one, without its closing quote
	bound  number
}

// kind is how an expression is made of others.
type kind uint8

const (
	leaf kind = iota
	and
	or
	not
)

// expr is made of tests.
type expr struct {
	kind kind
	bit  uint64 // of a leaf
	kids []expr
}

// holds evaluates the expression over the tests that hold.
func (e *expr) holds(bits uint64) bool {
	switch e.kind {
	case leaf:
		return bits&e.bit != 0
	case not:
		return !e.kids[0].holds(bits)
	}
	for i := range e.kids {
		if e.kids[i].holds(bits) == (e.kind == or) {
			return e.kind == or
		}
	}
	return e.kind == and
}

// object runs the tests of an object's members, which begins at b[i]. It stops behind
// the last that is looked for, and in any case in front of the closing brace. Bytes
// that are no canonical JSON have some result, and nothing worse.
func (n *node) object(b []byte, i int) (at int, bits uint64) {
	left := len(n.kids)
	for i++; i < len(b) && b[i] == '"'; i++ {
		behind := skipString(b, i)
		name := b[i:behind]
		i = behind + 1 // the colon
		if kid := n.find(name); kid == nil {
			i = skip(b, i, 0)
		} else {
			var found uint64
			i, found = kid.value(b, i)
			bits |= found
			left--
		}
		if left == 0 || i >= len(b) || b[i] != ',' {
			break
		}
	}
	return i, bits
}

func (n *node) find(name []byte) *node {
	for i := range n.kids {
		if bytes.Equal(n.kids[i].name, name) {
			return &n.kids[i]
		}
	}
	return nil
}

// value runs the tests of the value at b[i].
func (n *node) value(b []byte, i int) (end int, bits uint64) {
	if i >= len(b) {
		return i, 0
	}
	if b[i] == '{' && len(n.kids) > 0 {
		end, bits = n.object(b, i)
		end = skip(b, end, 1)
	} else {
		end = skip(b, i, 0)
	}
	return end, bits | n.judge(b[min(i, len(b)):min(end, len(b))])
}

// attribute runs the tests of one of the event's own attributes; empty: it has none.
func (n *node) attribute(text string) uint64 {
	if len(n.tests) == 0 || text == "" {
		return 0
	}
	var room [event.MaxAttribute + 32]byte
	quoted, _ := jsontext.AppendQuote(room[:0], text)
	return n.judge(quoted)
}

func (n *node) judge(value []byte) (bits uint64) {
	for t := range n.tests {
		if n.tests[t].holds(value) {
			bits |= n.tests[t].bit
		}
	}
	return bits
}

func (t *test) holds(value []byte) bool {
	switch t.op {
	case exists:
		return true
	case in:
		for _, v := range t.values {
			if bytes.Equal(v, value) {
				return true
			}
		}
		return false
	case prefix:
		return bytes.HasPrefix(value, t.values[0]) // the quote makes it a string
	}
	n, ok := parseNumber(unquoted(value))
	if !ok {
		return false
	}
	switch c := n.compare(&t.bound); t.op {
	case gt:
		return c > 0
	case gte:
		return c >= 0
	case lt:
		return c < 0
	default:
		return c <= 0
	}
}

// unquoted takes the quotes off a string; other values stay as they are.
func unquoted(value []byte) []byte {
	if len(value) >= 2 && value[0] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// skip gives the place behind the value at b[i], or len(b); with depth 1, the place
// behind the object that b[i] is in.
func skip(b []byte, i, depth int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = skipString(b, i) - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 {
				return i // a number or a word ended before it
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// skipString gives the place behind the string at b[i], or len(b).
func skipString(b []byte, i int) int {
	if i++; i >= len(b) {
		return len(b)
	}
	if quote := bytes.IndexByte(b[i:], '"'); quote == 0 || quote > 0 && b[i+quote-1] != '\\' {
		return i + quote + 1
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
