package tempo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/plan"
)

// The kinds of subscriptions, and the types of the events that they are owed.
var kinds = []struct{ kind, eventType string }{
	{"TRANSFER", "chain.transfer"},
	{"MINT", "chain.mint"},
	{"BURN", "chain.burn"},
	{"APPROVAL", "chain.approval"},
}

// kindOf gives what an event's type is called here.
func kindOf(eventType string) string {
	for _, k := range kinds {
		if k.eventType == eventType {
			return k.kind
		}
	}
	return eventType // another API's call may have subscribed to it
}

// mainnet is the network that not every plan has.
const mainnet = "mainnet"

var networks = []string{mainnet, "testnet"}

// subscription is what an endpoint of this API is owed. It isn't kept beside the
// endpoint: its kind is the endpoint's pattern, the rest its filter,
//
//	{"$network":"mainnet","$or":[{"token":{"in":[…]}},{"from":{"in":[…]}},{"to":{"in":[…]}}],
//	 "$and":[{"amount":{"gte":"1000000"}},{"from":{"in":[…]}}]}
//
// which is read back (read) where it is shown. So what is shown is what goes out.
type subscription struct {
	kind, network, address string
	filters                []condition
}

// condition is one of its filters, as clients have it.
type condition struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// filterTypes are the members of data that filters ask for, and how.
var filterTypes = []struct {
	name, member string
	operator     string // empty: it is an address
}{
	{"amount_min", "amount", "gte"},
	{"amount_max", "amount", "lte"},
	{"from_address", "from", ""},
	{"to_address", "to", ""},
}

const (
	maxDigits = 78 // of 2^256
	maxIssues = 20 // of filters, told at once
)

// check says what is wrong with the subscription, whatever its org's plan.
func (s *subscription) check() (issues []dialect.Issue) {
	bad := func(message string, path ...string) {
		issues = append(issues, dialect.Issue{Path: path, Message: message})
	}
	if s.eventType() == "" {
		bad("must be TRANSFER, MINT, BURN or APPROVAL", "type")
	}
	if !slices.Contains(networks, s.network) {
		bad("must be "+strings.Join(networks, " or "), "network")
	}
	if wrong := checkAddress(s.address); wrong != "" {
		bad(wrong, "address")
	}
	for i, f := range s.filters {
		if len(issues) == maxIssues {
			break
		}
		if member, wrong := f.check(); wrong != "" {
			bad(wrong, "filters", strconv.Itoa(i), member)
		}
	}
	return issues
}

// allowed says what the plan doesn't allow of the subscription; nil: nothing.
func (s *subscription) allowed(p plan.Plan) *dialect.Error {
	limits := p.Limits()
	switch {
	case s.network == mainnet && !limits.Mainnet:
		return &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: "Your plan does not include mainnet access. Please upgrade to Starter or higher."}
	case len(s.filters) > limits.Filters:
		return &dialect.Error{Status: 400, Code: dialect.BadRequest,
			Message: fmt.Sprintf("Your %s plan allows %d filters for a subscription, and this has %d.", p, limits.Filters, len(s.filters))}
	}
	return nil
}

func (f *condition) check() (member, wrong string) {
	for _, t := range filterTypes {
		switch {
		case t.name != f.Type:
		case t.operator == "":
			return "value", checkAddress(f.Value)
		case !isAmount(f.Value):
			return "value", `must be a whole number of at most 78 digits, as a string: "1000000"`
		default:
			return "", ""
		}
	}
	return "type", "must be amount_min, amount_max, from_address or to_address"
}

func isAmount(text string) bool {
	return text != "" && len(text) <= maxDigits && strings.Trim(text, "0123456789") == "" && (text[0] != '0' || text == "0")
}

func (s *subscription) eventType() string {
	for _, k := range kinds {
		if k.kind == s.kind {
			return k.eventType
		}
	}
	return ""
}

// filter writes the endpoint's filter of a subscription that was checked.
func (s *subscription) filter() string {
	dst := dialect.AppendString([]byte(`{"$network":`), s.network)
	for i, member := range []string{"token", "from", "to"} {
		dst = append(dst, [...]string{`,"$or":[`, `,`, `,`}[i]...)
		dst = appendAddress(dst, member, s.address)
	}
	dst = append(dst, ']')
	for i, f := range s.filters {
		dst = append(dst, [...]string{`,"$and":[`, `,`}[min(i, 1)]...)
		for _, t := range filterTypes {
			switch {
			case t.name != f.Type:
			case t.operator == "":
				dst = appendAddress(dst, t.member, f.Value)
			default:
				dst = append(dst, `{"`+t.member+`":{"`+t.operator+`":"`+f.Value+`"}}`...)
			}
		}
	}
	if len(s.filters) > 0 {
		dst = append(dst, ']')
	}
	return string(append(dst, '}'))
}

// appendAddress asks for an address in whatever case it is written.
func appendAddress(dst []byte, member, address string) []byte {
	dst = append(dst, `{"`+member+`":{"in":`...)
	return append(dialect.AppendTexts(dst, spellings(address)), "}}"...)
}

// read gives the subscription of an endpoint; false: its events or its filter are of
// another form, which another API's call gave them.
func read(ep *endpoint.Endpoint) (s subscription, ok bool) {
	type operators struct {
		In  []string `json:"in"`
		GTE string   `json:"gte"`
		LTE string   `json:"lte"`
	}
	var in struct {
		Network string                 `json:"$network"`
		Address []map[string]operators `json:"$or"`
		Filters []map[string]operators `json:"$and"`
	}
	if err := json.Unmarshal([]byte(ep.Options.Filter), &in); err != nil || len(in.Address) == 0 || len(in.Address[0]["token"].In) == 0 {
		return s, false
	}
	s.network, s.address = in.Network, in.Address[0]["token"].In[0]
	for _, f := range in.Filters {
		for member, o := range f {
			value := o.GTE + o.LTE
			if len(o.In) > 0 {
				value = o.In[0]
			}
			for _, t := range filterTypes {
				if t.member == member && (t.operator == "") == (len(o.In) > 0) && (t.operator == "gte") == (o.GTE != "") {
					s.filters = append(s.filters, condition{t.name, value})
				}
			}
		}
	}
	if len(ep.Patterns) == 1 {
		s.kind = kindOf(ep.Patterns[0].String())
	}
	return s, len(s.check()) == 0 && s.filter() == ep.Options.Filter
}
