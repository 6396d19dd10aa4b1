package marketplace

import (
	"strings"

	"sluice/pkg/dialect"
)

// codes are those that the document names otherwise than we do.
var codes = map[dialect.Code]string{
	dialect.BadRequest:    "VALIDATION_ERROR",
	dialect.InvalidCursor: "VALIDATION_ERROR",
	dialect.Internal:      "INTERNAL_ERROR",
}

// appendError writes {code,message,issues:[{path,message}]}; issues is always there.
func appendError(dst []byte, e *dialect.Error) []byte {
	code := codes[e.Code]
	if code == "" {
		code = strings.ToUpper(string(e.Code))
	}
	dst = dialect.AppendString(append(dst, `{"code":`...), code)
	dst = dialect.AppendString(append(dst, `,"message":`...), e.Message)
	return append(dialect.AppendIssues(append(dst, `,"issues":`...), e.Issues), '}')
}
