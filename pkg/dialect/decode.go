package dialect

import (
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeStrict reads the body of a call into v, a pointer to a struct. A member
// that v hasn't got, a name that stands twice, bytes that are no UTF-8 or a value
// of another kind is refused, and the error's issue names the place: a client
// whose mistake passed in silence would find it much later.
func DecodeStrict(body []byte, v any) *Error {
	if k := jsontext.Value(body).Kind(); k != jsontext.KindBeginObject {
		return Invalid(Issue{Message: "the body must be a JSON object"})
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
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
