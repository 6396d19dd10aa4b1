package event

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// rebuild is CanonicalPrefix without a bound on names or their order, and the
// one that says what is wrong.
func rebuild(b []byte) (out []byte, n int, members Members, err error) {
	// Of a bytes.Buffer the decoder uses the bytes where they lie.
	r := rebuilder{dec: jsontext.NewDecoder(bytes.NewBuffer(b))}
	out, err = r.value(make([]byte, 0, min(len(b), 1<<10)))
	if err != nil {
		return nil, 0, 0, err
	}
	return out, int(r.dec.InputOffset()), r.members, nil
}

type rebuilder struct {
	dec     *jsontext.Decoder
	members Members
}

// fail is a DataError at the value that was read last.
func (r *rebuilder) fail(message string) error {
	return &DataError{Path: pathOf(r.dec.StackPointer()), Message: message}
}

func (r *rebuilder) value(dst []byte) ([]byte, error) {
	tok, err := r.dec.ReadToken()
	if err != nil {
		return nil, dataError(err)
	}
	switch tok.Kind() {
	case '{':
		if r.dec.StackDepth() > MaxDepth {
			return nil, r.fail("data nests deeper than 64; flatten it, or send the inner part as a string")
		}
		return r.object(dst)
	case '[':
		if r.dec.StackDepth() > MaxDepth {
			return nil, r.fail("data nests deeper than 64; flatten it, or send the inner part as a string")
		}
		return r.array(dst)
	case '"':
		return jsontext.AppendQuote(dst, tok.String())
	case '0':
		literal := tok.String()
		dst, message := appendNumber(dst, []byte(literal), !strings.ContainsAny(literal, ".eE"))
		if message != "" {
			return nil, r.fail(message)
		}
		return dst, nil
	default:
		return append(dst, tok.String()...), nil
	}
}

func (r *rebuilder) array(dst []byte) ([]byte, error) {
	dst = append(dst, '[')
	for i := 0; r.dec.PeekKind() != ']'; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = r.value(dst); err != nil {
			return nil, err
		}
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, dataError(err)
	}
	return append(dst, ']'), nil
}

// member is where one member lies in the output; index orders it.
type member struct {
	from, to int
	index    int64
}

// behindIndexes is the index of a name that isn't integer-like.
const behindIndexes = 1 << 32

func (r *rebuilder) object(dst []byte) ([]byte, error) {
	var members []member
	dst = append(dst, '{')
	inner := len(dst)
	for r.dec.PeekKind() != '}' {
		if len(members) > 0 {
			dst = append(dst, ',')
		}
		m := member{from: len(dst), index: behindIndexes}
		tok, err := r.dec.ReadToken()
		if err != nil {
			return nil, dataError(err)
		}
		name := []byte(tok.String())
		if i, ok := arrayIndex(name); ok {
			m.index = i
		}
		if r.dec.StackDepth() == 1 {
			r.members |= memberOf(name)
		}
		if dst, err = jsontext.AppendQuote(dst, name); err != nil {
			return nil, dataError(err)
		}
		if dst, err = r.value(append(dst, ':')); err != nil {
			return nil, err
		}
		m.to = len(dst)
		members = append(members, m)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, dataError(err)
	}
	byIndex := func(a, b member) int { return cmp.Compare(a.index, b.index) }
	if !slices.IsSortedFunc(members, byIndex) {
		slices.SortStableFunc(members, byIndex)
		dst = reorder(dst, inner, members)
	}
	return append(dst, '}'), nil
}

// reorder writes dst[inner:] again, in the order of members.
func reorder(dst []byte, inner int, members []member) []byte {
	old := bytes.Clone(dst[inner:])
	dst = dst[:inner]
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, old[m.from-inner:m.to-inner]...)
	}
	return dst
}

// dataError says for the sender what the decoder found.
func dataError(err error) error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return &DataError{Message: "the JSON ends before the object does"}
	}
	e := &DataError{Path: pathOf(syntax.JSONPointer)}
	switch text := syntax.Err.Error(); {
	case errors.Is(err, jsontext.ErrDuplicateName):
		e.Message = "the name stands twice in its object; send it once"
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Message = "the JSON ends before the object does"
	case strings.Contains(text, "surrogate"):
		e.Message = "half of a surrogate pair; send whole characters"
	case strings.Contains(text, "UTF-8"):
		e.Message = "bytes that are not UTF-8; send text as UTF-8"
	case strings.Contains(text, "max depth"):
		e.Message = "data nests deeper than 64; flatten it, or send the inner part as a string"
	default:
		e.Message = "not valid JSON: " + text
	}
	return e
}

func pathOf(p jsontext.Pointer) []string { return slices.Collect(p.Tokens()) }
