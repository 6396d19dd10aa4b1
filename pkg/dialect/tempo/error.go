package tempo

import (
	"strings"

	"sluice/pkg/dialect"
)

// titles are what the document calls errors, and beside that what HTTP does.
var titles = map[dialect.Code]string{
	dialect.Unauthorized:  "Unauthorized",
	dialect.Forbidden:     "Forbidden",
	dialect.NotFound:      "Not Found",
	dialect.NotAllowed:    "Method Not Allowed",
	dialect.NotAcceptable: "Not Acceptable",
	dialect.Conflict:      "Conflict",
	dialect.TooLarge:      "Content Too Large",
	dialect.Unsupported:   "Unsupported Media Type",
	dialect.PlanLimit:     "Subscription limit reached",
	dialect.RateLimited:   "Rate limit exceeded",
	dialect.Unavailable:   "Service Unavailable",
	dialect.Internal:      "Internal Server Error",
}

// appendError writes {error,details}; details name the place of all that is wrong.
func appendError(dst []byte, e *dialect.Error) []byte {
	title := titles[e.Code]
	if title == "" {
		title = "Bad Request"
	}
	details := e.Message
	if len(e.Issues) > 0 {
		details = ""
	}
	for i, issue := range e.Issues {
		if i > 0 {
			details += "; "
		}
		if len(issue.Path) > 0 {
			details += dialect.Clip(strings.Join(issue.Path, "."), maxPlace) + ": "
		}
		details += issue.Message
	}
	dst = dialect.AppendString(append(dst, `{"error":`...), title)
	return append(dialect.AppendMember(dst, "details", details), '}')
}

// maxPlace bounds a place that is told back, in bytes: its names are the client's.
const maxPlace = 256
