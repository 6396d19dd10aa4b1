package dialect

// Code classifies an error for a client's program.
type Code string

// The codes that a client may see.
const (
	BadRequest    Code = "bad_request"
	Unauthorized  Code = "unauthorized"
	Forbidden     Code = "forbidden"
	NotFound      Code = "not_found"
	NotAllowed    Code = "method_not_allowed"
	NotAcceptable Code = "not_acceptable"
	Conflict      Code = "conflict"
	PlanLimit     Code = "plan_limit"
	TooLarge      Code = "too_large"
	Unsupported   Code = "unsupported_media_type"
	RateLimited   Code = "rate_limited"
	CursorExpired Code = "cursor_expired"
	InvalidCursor Code = "invalid_cursor"
	Unavailable   Code = "unavailable"
	Internal      Code = "internal"
)

// Issue names one member of a request that is wrong.
type Issue struct {
	Path    []string // member names and indexes from the top
	Message string   // what is wrong and what would be right
}

// Error is what a client is told. Its message names the cause and the remedy,
// and never holds anything of ours: no path of a file, no key, no stack.
type Error struct {
	Status     int // HTTP status
	Code       Code
	Message    string
	Issues     []Issue
	RetryAfter int // seconds; 0: no Retry-After header
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// AppendJSON adds the error in the shape that the core's own calls use:
// {"error":{"code","message","issues":[{"path":[…],"message"}]}}.
func (e *Error) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"error":{"code":`...)
	dst = AppendString(dst, string(e.Code))
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	if len(e.Issues) > 0 {
		dst = AppendIssues(append(dst, `,"issues":`...), e.Issues)
	}
	return append(dst, `}}`...)
}

// AppendIssues adds a list of issues: [{"path":[…],"message"}].
func AppendIssues(dst []byte, issues []Issue) []byte {
	dst = append(dst, '[')
	for i, is := range issues {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"path":[`...)
		for j, p := range is.Path {
			if j > 0 {
				dst = append(dst, ',')
			}
			if j == maxSegments {
				dst = AppendString(dst, "…")
				break
			}
			dst = AppendString(dst, Clip(p, maxSegment))
		}
		dst = append(dst, `],"message":`...)
		dst = AppendString(dst, is.Message)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// The bounds of a path that is told back: its names are the client's, who may
// send them as long and as deep as the body is large.
const (
	maxSegments = 72  // data nests 64 deep
	maxSegment  = 128 // bytes
)
