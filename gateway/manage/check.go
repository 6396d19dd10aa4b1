package manage

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// The bounds of an endpoint.
const (
	MaxPatterns    = 100
	MaxDescription = 1024 // bytes
	minSecret      = 8
	maxSecret      = 256
)

func (c *Core) checkSpec(spec *dialect.EndpointSpec) error {
	issues := c.checkAddress(nil, spec.URL)
	issues = checkPatterns(issues, spec.Patterns)
	issues = checkDescription(issues, spec.Description)
	if spec.Secret != "" {
		issues = checkSecret(issues, spec.Secret)
	}
	issues = c.checkOptions(issues, &spec.Options)
	return invalid(issues)
}

func (c *Core) checkPatch(patch *dialect.EndpointPatch) error {
	var issues []dialect.Issue
	if patch.URL != nil {
		issues = c.checkAddress(issues, *patch.URL)
	}
	if patch.Patterns != nil {
		issues = checkPatterns(issues, *patch.Patterns)
	}
	if patch.Description != nil {
		issues = checkDescription(issues, *patch.Description)
	}
	if s := patch.Status; s != nil && *s != endpoint.Active && *s != endpoint.Paused {
		issues = append(issues, dialect.Issue{Path: []string{"status"}, Message: `must be "active" or "paused"`})
	}
	issues = c.checkOptions(issues, &patch.Options)
	return invalid(issues)
}

func invalid(issues []dialect.Issue) error {
	if len(issues) == 0 {
		return nil
	}
	return dialect.Invalid(issues...)
}

func (c *Core) checkAddress(issues []dialect.Issue, url string) []dialect.Issue {
	if url == "" {
		return append(issues, dialect.Issue{Path: []string{"url"}, Message: "is missing: where should events be sent?"})
	}
	if err := c.checkURL(url); err != nil {
		return append(issues, dialect.Issue{Path: []string{"url"}, Message: err.Error()})
	}
	return issues
}

func checkPatterns(issues []dialect.Issue, patterns []string) []dialect.Issue {
	if len(patterns) == 0 || len(patterns) > MaxPatterns {
		return append(issues, dialect.Issue{Path: []string{"events"},
			Message: fmt.Sprintf("must have 1 to %d types or patterns, as in [\"settlement.*\"]", MaxPatterns)})
	}
	for i, p := range patterns {
		if _, err := event.ParsePattern(p); err != nil {
			issues = append(issues, dialect.Issue{Path: []string{"events", strconv.Itoa(i)}, Message: err.Error()})
		}
	}
	return issues
}

func checkDescription(issues []dialect.Issue, text string) []dialect.Issue {
	if len(text) > MaxDescription {
		return append(issues, dialect.Issue{Path: []string{"description"}, Message: fmt.Sprintf("has more than %d bytes", MaxDescription)})
	}
	return issues
}

// secretPrefix marks a secret whose key is what follows in base64, as Standard
// Webhooks has it.
const secretPrefix = "whsec_"

// checkSecret never repeats the secret in what it says.
func checkSecret(issues []dialect.Issue, secret string) []dialect.Issue {
	bad := func(message string) []dialect.Issue {
		return append(issues, dialect.Issue{Path: []string{"secret"}, Message: message})
	}
	if message := checkText(secret); message != "" {
		return bad(message)
	}
	if text, ok := strings.CutPrefix(secret, secretPrefix); ok {
		if b, err := base64.StdEncoding.Strict().DecodeString(text); err != nil || len(b) == 0 {
			return bad("begins with whsec_ and must go on in standard base64, with its padding")
		}
	}
	return issues
}

// checkText says what is wrong with a secret of whatever kind; empty: nothing is.
func checkText(secret string) (message string) {
	if len(secret) < minSecret || len(secret) > maxSecret {
		return fmt.Sprintf("must have %d to %d bytes", minSecret, maxSecret)
	}
	for i := range len(secret) {
		if secret[i] < ' ' || secret[i] > '~' {
			return "must have printable ASCII characters only"
		}
	}
	return ""
}

// newSecret makes a secret: whsec_ and the base64 of 32 random bytes.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:])
}
