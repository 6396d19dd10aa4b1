package filter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/event"
)

// Parse checks a filter as somebody wrote it and gives its text in canonical form;
// empty: it asks for nothing. JSON is taken as strictly as data is. An *Error says
// what is wrong.
func Parse(raw []byte) (text string, err error) {
	canonical, _, err := event.Canonical(raw)
	var wrong *event.DataError
	switch {
	case errors.As(err, &wrong):
		return "", &Error{Path: wrong.Path, Message: strings.Replace(wrong.Message, "data nests", "it nests", 1)}
	case err != nil:
		return "", &Error{Message: err.Error()}
	case len(canonical) > MaxText:
		return "", &Error{Message: fmt.Sprintf("has %d bytes, and may have %d", len(canonical), MaxText)}
	case string(canonical) == "{}":
		return "", nil
	}
	text = string(canonical)
	_, err = Of(text)
	return text, err
}

// compile reads a text in canonical form.
func compile(text string) (*Filter, error) {
	f := &Filter{text: text}
	c := compiler{f: f, dec: jsontext.NewDecoder(strings.NewReader(text))}
	var err error
	if f.expr, err = c.filter(1); err != nil {
		return nil, err
	}
	if _, err := c.dec.ReadToken(); err == nil {
		return nil, c.wrong("goes on behind its end")
	}
	return f, nil
}

type compiler struct {
	f     *Filter
	dec   *jsontext.Decoder
	tests int
}

// wrong is an Error at the value that was read last.
func (c *compiler) wrong(message string) error {
	var path []string
	for name := range c.dec.StackPointer().Tokens() {
		path = append(path, name)
	}
	return &Error{Path: path, Message: message}
}

// token reads one; JSON that isn't can only come from elsewhere than Parse.
func (c *compiler) token() (jsontext.Token, error) {
	tok, err := c.dec.ReadToken()
	if err != nil {
		return tok, &Error{Message: "isn't JSON: " + err.Error()}
	}
	return tok, nil
}

// filter reads an object of members and conditions, all of which must hold.
func (c *compiler) filter(depth int) (expr, error) {
	all := expr{kind: and}
	switch tok, err := c.token(); {
	case err != nil:
		return all, err
	case tok.Kind() != '{':
		return all, c.wrong(`must be an object of members and conditions, as in {"quote.price":{"gte":1}}`)
	case depth > MaxDepth:
		return all, c.wrong(fmt.Sprintf("nests more than %d deep", MaxDepth))
	}
	for c.dec.PeekKind() != '}' {
		tok, err := c.token()
		if err != nil {
			return all, err
		}
		var e expr
		switch name := tok.String(); {
		case name == "$and":
			e, err = c.list(and, depth)
		case name == "$or":
			e, err = c.list(or, depth)
		case name == "$not":
			e, err = c.filter(depth + 1)
			e = expr{kind: not, kids: []expr{e}}
		case name == "$network":
			e, err = c.condition(&c.f.network)
		case name == "$corridor":
			e, err = c.condition(&c.f.corridor)
		case strings.HasPrefix(name, "$"):
			err = c.wrong("is unknown: there are $and, $or, $not, $network and $corridor")
		default:
			e, err = c.member(name)
		}
		if err != nil {
			return all, err
		}
		all.kids = append(all.kids, e)
	}
	if _, err := c.token(); err != nil {
		return all, err
	}
	if len(all.kids) == 0 && depth > 1 {
		return all, c.wrong("has no condition")
	}
	return all, nil
}

// list reads what stands behind $and and $or.
func (c *compiler) list(kind kind, depth int) (expr, error) {
	e := expr{kind: kind}
	if tok, err := c.token(); err != nil {
		return e, err
	} else if tok.Kind() != '[' {
		return e, c.wrong("must be a list of filters")
	}
	for c.dec.PeekKind() != ']' {
		kid, err := c.filter(depth + 1)
		if err != nil {
			return e, err
		}
		e.kids = append(e.kids, kid)
	}
	if _, err := c.token(); err != nil {
		return e, err
	}
	if len(e.kids) == 0 {
		return e, c.wrong("must have one filter at least")
	}
	return e, nil
}

// member reads the condition on a member of data.
func (c *compiler) member(path string) (expr, error) {
	names := strings.Split(path, ".")
	if len(names) > MaxPath || slices.Contains(names, "") {
		return expr{}, c.wrong(fmt.Sprintf("must be 1 to %d names with dots between, as in quote.price", MaxPath))
	}
	n := &c.f.root
	for _, name := range names {
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return expr{}, c.wrong("isn't a name")
		}
		n = n.child(quoted)
	}
	return c.condition(n)
}

// condition reads what a value must be: this one, or what an object of operators
// says, which must all hold.
func (c *compiler) condition(n *node) (expr, error) {
	if c.dec.PeekKind() != '{' {
		value, err := c.scalar()
		if err != nil {
			return expr{}, err
		}
		return c.test(n, test{op: in, values: [][]byte{value}})
	}
	if _, err := c.token(); err != nil {
		return expr{}, err
	}
	all := expr{kind: and}
	for c.dec.PeekKind() != '}' {
		tok, err := c.token()
		if err != nil {
			return all, err
		}
		e, err := c.operator(n, tok.String())
		if err != nil {
			return all, err
		}
		all.kids = append(all.kids, e)
	}
	if _, err := c.token(); err != nil {
		return all, err
	}
	if len(all.kids) == 0 {
		return all, c.wrong("has no operator: there are " + operators)
	}
	return all, nil
}

const operators = "in, prefix, exists, gt, gte, lt and lte"

func (c *compiler) operator(n *node, name string) (expr, error) {
	switch name {
	case "in":
		values, err := c.scalars()
		if err != nil {
			return expr{}, err
		}
		return c.test(n, test{op: in, values: values})
	case "prefix":
		tok, err := c.token()
		if err != nil {
			return expr{}, err
		}
		if tok.Kind() != '"' {
			return expr{}, c.wrong("must be a string")
		}
		quoted, err := jsontext.AppendQuote(nil, tok.String())
		if err != nil {
			return expr{}, c.wrong("must be a string")
		}
		return c.test(n, test{op: prefix, values: [][]byte{quoted[:len(quoted)-1]}})
	case "exists":
		tok, err := c.token()
		if err != nil {
			return expr{}, err
		}
		switch tok.Kind() {
		case 't':
			return c.test(n, test{op: exists})
		case 'f':
			e, err := c.test(n, test{op: exists})
			return expr{kind: not, kids: []expr{e}}, err
		}
		return expr{}, c.wrong("must be true or false")
	case "gt", "gte", "lt", "lte":
		return c.comparison(n, name)
	}
	return expr{}, c.wrong("is no operator: there are " + operators)
}

func (c *compiler) comparison(n *node, name string) (expr, error) {
	bound, err := c.scalar()
	if err != nil {
		return expr{}, err
	}
	number, ok := parseNumber(unquoted(bound))
	if !ok {
		return expr{}, c.wrong(`must be a number, or a string that is one, as in "100000000000000000000"`)
	}
	return c.test(n, test{op: map[string]op{"gt": gt, "gte": gte, "lt": lt, "lte": lte}[name], bound: number})
}

// scalar reads a string, a number, true, false or null, as data has it.
func (c *compiler) scalar() ([]byte, error) {
	switch c.dec.PeekKind() {
	case '{', '[':
		c.dec.ReadToken()
		return nil, c.wrong("must be a string, a number, true, false or null")
	}
	value, err := c.dec.ReadValue()
	if err != nil {
		return nil, &Error{Message: "isn't JSON: " + err.Error()}
	}
	return bytes.Clone(value), nil
}

func (c *compiler) scalars() (values [][]byte, err error) {
	if tok, err := c.token(); err != nil {
		return nil, err
	} else if tok.Kind() != '[' {
		return nil, c.wrong("must be a list of values")
	}
	for c.dec.PeekKind() != ']' {
		value, err := c.scalar()
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	if len(values) == 0 || len(values) > MaxList {
		return nil, c.wrong("must have 1 to " + strconv.Itoa(MaxList) + " values")
	}
	return values, nil
}

// test adds a test of a member's value.
func (c *compiler) test(n *node, t test) (expr, error) {
	if c.tests == MaxTests {
		return expr{}, c.wrong(fmt.Sprintf("is one condition more than the %d that a filter may have", MaxTests))
	}
	t.bit = 1 << c.tests
	c.tests++
	n.tests = append(n.tests, t)
	return expr{kind: leaf, bit: t.bit}, nil
}
