package ingest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
)

// reader walks over the JSON around data. What it doesn't understand it leaves
// to syntaxIssue, which asks jsontext what is wrong.
type reader struct {
	b   []byte
	pos int
}

// next skips white space and gives the byte behind it, 0 at the end.
func (r *reader) next() byte {
	for r.pos < len(r.b) {
		switch c := r.b[r.pos]; c {
		case ' ', '\n', '\t', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// take moves behind the byte c, if it is next.
func (r *reader) take(c byte) bool {
	if r.next() != c || r.pos == len(r.b) {
		return false
	}
	r.pos++
	return true
}

// text reads a string. ok is false when what is next isn't a valid one.
func (r *reader) text() (s []byte, ok bool) {
	if r.next() != '"' {
		return nil, false
	}
	from := r.pos + 1
	escaped := false
	for i := from; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			raw := r.b[from:i]
			if escaped {
				plain, err := jsontext.AppendUnquote(nil, r.b[r.pos:i+1])
				if err != nil {
					return nil, false
				}
				raw = plain
			} else if !utf8.Valid(raw) {
				return nil, false
			}
			r.pos = i + 1
			return raw, true
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// skip passes over a value of any kind.
func (r *reader) skip() bool {
	dec := jsontext.NewDecoder(bytes.NewBuffer(r.b[r.pos:]))
	if dec.SkipValue() != nil {
		return false
	}
	r.pos += int(dec.InputOffset())
	return true
}

// syntaxIssue says what is wrong with the JSON of b.
func syntaxIssue(b []byte, path []string) dialect.Issue {
	const ends = "the JSON ends before its value does"
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	err := dec.SkipValue()
	if err == nil {
		if _, err = dec.ReadToken(); err == io.EOF || err == nil {
			return dialect.Issue{Path: path, Message: "not valid JSON, or more than one value"}
		}
	}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return dialect.Issue{Path: path, Message: ends}
	}
	path = slices.Concat(path, slices.Collect(syntax.JSONPointer.Tokens()))
	switch text := syntax.Err.Error(); {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return dialect.Issue{Path: path, Message: "the name stands twice in its object; send it once"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return dialect.Issue{Path: path, Message: ends}
	default:
		return dialect.Issue{Path: path, Message: "not valid JSON: " + strings.ToValidUTF8(text, "\uFFFD")}
	}
}
