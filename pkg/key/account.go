package key

import (
	"log/slog"
	"net/mail"
)

// Password is what a person proves with who they are. It prints as redacted wherever it
// is logged; string(p) is the password itself.
type Password string

// LogValue hides the password from logs.
func (Password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the password from formatting verbs.
func (Password) String() string { return "[redacted]" }

// GoString hides the password from %#v.
func (Password) GoString() string { return "[redacted]" }

// maxEmail bounds an e-mail address, in bytes: a longer one can't be sent to.
const maxEmail = 254

// ValidEmail reports whether s is an e-mail address, and nothing beside it.
func ValidEmail(s string) bool {
	addr, err := mail.ParseAddress(s)
	return err == nil && addr.Address == s && len(s) <= maxEmail
}
