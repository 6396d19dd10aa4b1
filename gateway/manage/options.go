package manage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/filter"
)

// checkOptions checks what a patch sets, and brings its filter into canonical form.
// Zero values take an option back.
func (c *Core) checkOptions(issues []dialect.Issue, p *endpoint.OptionsPatch) []dialect.Issue {
	bad := func(member, message string) {
		issues = append(issues, dialect.Issue{Path: []string{member}, Message: message})
	}
	if n := p.MaxInFlight; n != nil && (*n < 0 || *n > endpoint.MaxMaxInFlight) {
		bad("maxInFlight", fmt.Sprintf("must be 1 to %d, or null for what every endpoint gets", endpoint.MaxMaxInFlight))
	}
	if r := p.RatePerSecond; r != nil && (*r < 0 || *r > endpoint.MaxRatePerSecond) {
		bad("ratePerSecond", fmt.Sprintf("must be more than 0 and at most %d, as in 0.5; or null for any number", endpoint.MaxRatePerSecond))
	}
	if p.Filter != nil && *p.Filter != "" {
		text, err := filter.Parse([]byte(*p.Filter))
		if err != nil {
			issues = append(issues, filterIssue(err))
		}
		p.Filter = &text
	}
	if p.Headers != nil {
		issues = c.checkHeaders(issues, *p.Headers)
	}
	return issues
}

func filterIssue(err error) dialect.Issue {
	issue := dialect.Issue{Path: []string{"filter"}, Message: err.Error()}
	var wrong *filter.Error
	if errors.As(err, &wrong) {
		issue.Path, issue.Message = append(issue.Path, wrong.Path...), wrong.Message
	}
	return issue
}

// checkHeaders never repeats a header's value in what it says.
func (c *Core) checkHeaders(issues []dialect.Issue, headers []endpoint.Header) []dialect.Issue {
	bytes := 0
	seen := make(map[string]bool, len(headers))
	for _, h := range headers {
		bytes += len(h.Name) + len(h.Value)
		name := strings.ToLower(h.Name)
		var message string
		switch {
		case !isToken(h.Name):
			message = "is no name of a header: letters, digits and !#$%&'*+-.^_`|~ only"
		case endpoint.Reserved(name) || c.signed[name]:
			message = "is reserved: what it says is ours to say"
		case seen[name]:
			message = "stands twice: case makes no difference in headers"
		case !isHeaderValue(h.Value):
			message = "must have printable ASCII characters only, and no blanks around them"
		default:
			seen[name] = true
			continue
		}
		issues = append(issues, dialect.Issue{Path: []string{"headers", h.Name}, Message: message})
	}
	switch {
	case len(headers) > endpoint.MaxHeaders:
		issues = append(issues, dialect.Issue{Path: []string{"headers"}, Message: "may be at most " + strconv.Itoa(endpoint.MaxHeaders)})
	case bytes > endpoint.MaxHeaderBytes:
		issues = append(issues, dialect.Issue{Path: []string{"headers"},
			Message: fmt.Sprintf("have %d bytes with their names, and may have %d", bytes, endpoint.MaxHeaderBytes)})
	}
	return issues
}

func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

func isHeaderValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			return false
		}
	}
	return value == strings.Trim(value, " \t")
}
