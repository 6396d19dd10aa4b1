package marketplace

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var inbound = []*dialect.Inbound{
	{Provider: "stripe", Path: "/api/webhooks/stripe", Verify: verifyStripe, Read: readStripe, AppendReply: appendReceived},
	{Provider: "bank", Path: "/api/webhooks/bank", Verify: verifyBank, Read: readBank, AppendReply: appendReceived},
}

// stripeTypes are Stripe's types that the document has a name for; any other is
// stripe.<type>.
var stripeTypes = map[string]string{
	"payment_intent.created":        "payment.intent.created",
	"payment_intent.succeeded":      "payment.succeeded",
	"payment_intent.payment_failed": "payment.failed",
	"charge.dispute.created":        "dispute.opened",
	"charge.dispute.closed":         "dispute.resolved",
}

// readStripe reads an event of Stripe's that carries its object.
func readStripe(body []byte) (string, *event.Event, *dialect.Error) {
	var in struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Livemode *bool  `json:"livemode"`
		Created  int64  `json:"created"`
		Data     struct {
			Object jsontext.Value `json:"object"`
		} `json:"data"`
	}
	if wrong := dialect.DecodeKnown(body, &in); wrong != nil {
		return "", nil, wrong
	}
	issues := missing(in.ID, in.Type, in.Data.Object, "data", "object")
	if in.Livemode == nil {
		issues = append(issues, dialect.Issue{Path: []string{"livemode"}, Message: "is missing"})
	}
	if len(issues) > 0 {
		return "", nil, dialect.Invalid(issues...)
	}
	typ := stripeTypes[in.Type]
	if typ == "" {
		typ = fitting("stripe."+in.Type, "stripe.other")
	}
	ev := &event.Event{Environment: environment(in.Livemode), Type: typ, Data: data("stripe", in.ID, in.Data.Object)}
	if at := time.Unix(in.Created, 0).UTC(); in.Created > 0 && at.Year() <= 9999 {
		ev.Timestamp = at
	}
	return in.ID, ev, nil
}

// readBank reads {id,type,data}, and livemode where there is one.
func readBank(body []byte) (string, *event.Event, *dialect.Error) {
	var in struct {
		ID       string         `json:"id"`
		Type     string         `json:"type"`
		Livemode *bool          `json:"livemode"`
		Data     jsontext.Value `json:"data"`
	}
	if wrong := dialect.DecodeKnown(body, &in); wrong != nil {
		return "", nil, wrong
	}
	if issues := missing(in.ID, in.Type, in.Data, "data"); len(issues) > 0 {
		return "", nil, dialect.Invalid(issues...)
	}
	return in.ID, &event.Event{Environment: environment(in.Livemode), Type: fitting(in.Type, "bank.other"), Data: data("bank", in.ID, in.Data)}, nil
}

// missing says what of a message isn't there.
func missing(id, typ string, object jsontext.Value, path ...string) (issues []dialect.Issue) {
	if id == "" || len(id) > dialect.MaxInboundID {
		issues = append(issues, dialect.Issue{Path: []string{"id"}, Message: "must have 1 to 255 bytes"})
	}
	if typ == "" {
		issues = append(issues, dialect.Issue{Path: []string{"type"}, Message: "is missing"})
	}
	if len(object) == 0 {
		issues = append(issues, dialect.Issue{Path: path, Message: "is missing"})
	}
	return issues
}

// fitting gives the type, or the other one where an event can't be of it.
func fitting(typ, other string) string {
	if event.ValidType(typ) {
		return typ
	}
	return other
}

// environment is live unless the provider says otherwise.
func environment(livemode *bool) event.Environment {
	if livemode != nil && !*livemode {
		return event.Sandbox
	}
	return event.Live
}

func data(provider, id string, object jsontext.Value) []byte {
	dst := dialect.AppendString([]byte(`{"provider":`), provider)
	dst = dialect.AppendMember(dst, "providerEventId", id)
	return append(append(append(dst, `,"object":`...), object...), '}')
}

func appendReceived(dst []byte, duplicate bool) []byte {
	dst = append(dst, `{"received":true`...)
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, '}')
}
