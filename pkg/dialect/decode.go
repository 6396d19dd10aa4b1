package dialect

import (
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/event"
)

// DecodeStrict reads the body of a call into v, a pointer to a struct. A member
// that v hasn't got, a name that stands twice, bytes that are no UTF-8 or a value
// of another kind is refused, and the error's issue names the place: a client
// whose mistake passed in silence would find it much later.
func DecodeStrict(body []byte, v any) *Error {
	return decode(body, v, json.RejectUnknownMembers(true))
}

// DecodeKnown is DecodeStrict, but for members that v hasn't got: who sends the body
// has a contract of its own, and may say more than we ask.
func DecodeKnown(body []byte, v any) *Error { return decode(body, v) }

func decode(body []byte, v any, how ...json.Options) *Error {
	if k := jsontext.Value(body).Kind(); k != jsontext.KindBeginObject {
		return Invalid(Issue{Message: "the body must be a JSON object"})
	}
	err := json.Unmarshal(body, v, append(how, wholes)...)
	if err == nil {
		return nil
	}
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return Invalid(Issue{Path: tokens(syntax.JSONPointer), Message: syntaxMessage(syntax.Err)})
	case errors.As(err, &semantic):
		return Invalid(Issue{Path: tokens(semantic.JSONPointer), Message: semanticMessage(semantic)})
	}
	return Invalid(Issue{Message: "the body can't be read"})
}

// wholes has numbers that are whole be read into integers however they are written, as
// 15.0 is by those who reckon in floats.
var wholes = json.WithUnmarshalers(json.JoinUnmarshalers(json.UnmarshalFromFunc(readWhole[int]), json.UnmarshalFromFunc(readWhole[int64])))

func readWhole[T int | int64](dec *jsontext.Decoder, v *T) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	text, err := dec.ReadValue()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		f, _ := strconv.ParseFloat(string(text), 64)
		if f != math.Trunc(f) || math.Abs(f) > maxWhole {
			return errNotWhole
		}
		n = int64(f)
	}
	*v = T(n)
	return nil
}

// maxWhole bounds what a float has of whole numbers without leaving one out.
const maxWhole = 1<<53 - 1

// errNotWhole is told as a value of the wrong kind.
var errNotWhole = errors.New("not a whole number")

// The entries of a list's page.
const (
	defaultLimit = 50
	maxLimit     = 100
)

// Limit reads the parameter that says how many entries a page may have; empty: 50.
func Limit(s string) (int, *Error) {
	if s == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		return 0, Invalid(Issue{Path: []string{"limit"}, Message: "must be 1 to 100"})
	}
	return n, nil
}

const maxTypes = 100

// Types reads the parameter of that name, which lists event types and globs with
// commas between; empty: none.
func Types(name, list string) (event.Patterns, *Error) {
	wrong := func(message string) (event.Patterns, *Error) {
		return nil, &Error{Status: 400, Code: BadRequest, Message: name + " " + message, Issues: []Issue{{Path: []string{name}, Message: message}}}
	}
	if list == "" {
		return nil, nil
	}
	var types event.Patterns
	for text := range strings.SplitSeq(list, ",") {
		p, err := event.ParsePattern(strings.TrimSpace(text))
		if err != nil {
			return wrong(err.Error() + `, and a comma stands between two, as in "order.*,payment.succeeded"`)
		}
		if types = append(types, p); len(types) > maxTypes {
			return wrong("has more than " + strconv.Itoa(maxTypes) + " patterns")
		}
	}
	return types, nil
}

// Secret gives the secret that a call brings along; empty: one is to be made.
func Secret(given *string) (string, *Error) {
	if given == nil {
		return "", nil
	}
	if *given == "" {
		return "", Invalid(Issue{Path: []string{"secret"}, Message: "is empty: leave it out and one is made"})
	}
	return *given, nil
}

// Replay reads the body of a call that enables an endpoint: whether what was missed
// is to be delivered.
func Replay(body []byte) (bool, *Error) {
	var in struct {
		Replay *string `json:"replay"`
	}
	if len(body) > 0 {
		if e := DecodeStrict(body, &in); e != nil {
			return false, e
		}
	}
	if in.Replay != nil && *in.Replay != "none" {
		return false, Invalid(Issue{Path: []string{"replay"}, Message: `must be "none": leave it out, and what was missed is delivered`})
	}
	return in.Replay == nil, nil
}

// Invalid is the error of a request with members that are wrong.
func Invalid(issues ...Issue) *Error {
	return &Error{Status: 400, Code: BadRequest, Message: "the request isn't valid", Issues: issues}
}

func tokens(p jsontext.Pointer) []string {
	var path []string
	for t := range p.Tokens() {
		path = append(path, t)
	}
	return path
}

func syntaxMessage(err error) string {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "stands twice"
	case errors.Is(err, jsontext.ErrNonStringName):
		return "a member's name must be a string"
	}
	return "the body is not JSON from here on"
}

func semanticMessage(err *json.SemanticError) string {
	switch {
	case errors.Is(err.Err, json.ErrUnknownName):
		return "is no member of this request"
	case err.GoType == nil:
		return "has a value of the wrong kind"
	}
	t := err.GoType
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "must be a string"
	case reflect.Bool:
		return "must be true or false"
	case reflect.Slice, reflect.Array:
		return "must be a list"
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "must be a whole number"
	case reflect.Float64, reflect.Float32:
		return "must be a number"
	case reflect.Struct:
		if t.String() == "time.Time" {
			return "must be a time as RFC 3339 has it, as in 2027-01-31T00:00:00Z"
		}
		return "must be an object"
	}
	return "has a value of the wrong kind"
}
