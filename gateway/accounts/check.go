package accounts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// The bounds of what a registration says, in bytes.
const (
	minPassword = 8 // characters
	maxPassword = 1024
	maxName     = 256
)

var slugs = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$`)

// reserved are slugs that would pass for us.
var reserved = []string{"admin", "api", "auth", "default", "root", "support", "system", "www"}

// check says what is wrong with a registration.
func check(r *dialect.Registration) (issues []dialect.Issue) {
	bad := func(member, message string) {
		issues = append(issues, dialect.Issue{Path: []string{member}, Message: message})
	}
	if !key.ValidEmail(r.Email) {
		bad("email", "must be an e-mail address")
	}
	if utf8.RuneCountInString(string(r.Password)) < minPassword || len(r.Password) > maxPassword {
		bad("password", fmt.Sprintf("must have %d characters at least, and %d bytes at most", minPassword, maxPassword))
	}
	for _, name := range []struct{ member, text string }{{"name", r.Name}, {"org", r.Org}} {
		switch {
		case name.text == "" && name.member == "org":
			bad(name.member, "is missing")
		case len(name.text) > maxName:
			bad(name.member, fmt.Sprintf("has more than %d bytes", maxName))
		case strings.ContainsFunc(name.text, unicode.IsControl): // it is written into mails
			bad(name.member, "has a control character")
		}
	}
	switch {
	case r.Slug == "":
	case !slugs.MatchString(r.Slug):
		bad("slug", "must be 2 to 63 lower-case letters, digits and '-', with no '-' at either end")
	case slices.Contains(reserved, r.Slug):
		bad("slug", "is reserved: choose another")
	}
	return issues
}
