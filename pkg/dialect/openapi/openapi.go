// Package openapi makes the OpenAPI 3.1 document of a dialect. What only people can
// say, its summaries, shapes and examples, stands in the dialect's openapi.json; what
// the code knows is taken from the code.
//
//	openapi.json of the dialect ─┐
//	common.json ─────────────────┼─► Of ─► /openapi/{dialect}.json
//	routes, scopes, streams ─────┘
//
// dialecttest holds the document to what is served: no call is missing and none is too
// many, and every golden call and answer is of the shapes that it gives.
package openapi

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// common is what all documents say alike: keys, refusals, shapes of the core's.
//
//go:embed common.json
var common []byte

// Call is one call that a document is of.
type Call struct {
	Method, Path string
	Scope        key.Scope // that its key must have; empty: any key will do
	Open         bool      // it takes no key
	Socket       bool      // it is upgraded to a WebSocket
	Uncounted    bool      // it doesn't count against the plan
	Session      bool      // it takes no key either, but a session
	Bounded      bool      // there may be so many of it in a minute from one address
	RateHeaders  bool      // answers say how many requests are left
}

// Calls lists what a dialect serves.
func Calls(d *dialect.Dialect) (calls []Call) {
	for _, r := range d.Routes {
		calls = append(calls, Call{Method: r.Method, Path: r.Path, Scope: r.Scope, Open: r.Open, Session: r.Session, Bounded: r.PerAddress > 0, RateHeaders: d.RateHeaders})
	}
	if d.Stream != nil {
		for _, path := range d.Stream.Paths {
			calls = append(calls, Call{Method: "GET", Path: path, Open: true, Socket: true})
		}
	}
	if d.SSE != nil {
		for _, path := range d.SSE.Paths {
			calls = append(calls, Call{Method: "GET", Path: path, Scope: key.Subscribe, Uncounted: true})
		}
	}
	for _, in := range d.Inbound {
		for _, path := range []string{in.Path, in.Path + "/{org}"} {
			calls = append(calls, Call{Method: "POST", Path: path, Open: true})
		}
	}
	return calls
}

// Of gives the document of a dialect, which must have an openapi.json.
func Of(d *dialect.Dialect) ([]byte, error) {
	doc, err := Build(d.OpenAPI, Calls(d))
	if err != nil {
		return nil, fmt.Errorf("make document of dialect %s: %w", d.Name, err)
	}
	return doc, nil
}

// object is a JSON object.
type object map[string]any

// in gives the object that a member is; nil: there is none.
func (o object) in(name string) object {
	inner, _ := o[name].(map[string]any)
	return inner
}

// Build completes what is written of the calls: who may make them, how they are
// refused, and what they share with others.
func Build(written []byte, calls []Call) ([]byte, error) {
	var doc, shared object
	if err := json.Unmarshal(common, &shared); err != nil {
		return nil, fmt.Errorf("read common.json: %w", err)
	}
	if err := json.Unmarshal(written, &doc); err != nil {
		return nil, fmt.Errorf("read openapi.json: %w", err)
	}
	doc["openapi"] = shared["openapi"]
	for kind, own := range doc.in("components") {
		maps.Copy(shared.in("components").in(kind), own.(map[string]any))
	}
	doc["components"] = shared["components"]
	if slices.ContainsFunc(calls, func(c Call) bool { return c.RateHeaders }) {
		for _, status := range []string{"400", "403", "404", "409", "429"} {
			refusal := shared.in("components").in("responses").in(status)
			headers := rateHeaders()
			maps.Copy(headers, refusal.in("headers"))
			refusal["headers"] = headers
		}
	}
	for _, c := range calls {
		if op := doc.in("paths").in(c.Path).in(strings.ToLower(c.Method)); op != nil {
			c.complete(op)
		}
	}
	if hook := doc.in("webhooks").in("event").in("post"); hook != nil {
		hook["security"] = []any{}
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} { // the dispatcher's
			parameters, _ := hook["parameters"].([]any)
			hook["parameters"] = append(parameters, ref("parameters", name))
		}
		hook["responses"] = map[string]any{"2XX": ref("responses", "2XX"), "410": ref("responses", "410")}
	}
	return json.Marshal(doc, json.Deterministic(true), jsontext.WithIndent(" "))
}

// complete adds to an operation what the gateway does with its call.
func (c *Call) complete(op object) {
	refusals := []string{"400", "413", "415", "503"}
	switch {
	case c.Socket:
		refusals = []string{"400", "403", "426", "503"}
	case !c.Open:
		refusals = append(refusals, "401", "403")
	}
	if c.Bounded || !c.Open && !c.Uncounted {
		refusals = append(refusals, "429")
	}
	if !c.Open && strings.Contains(c.Path, "{") {
		refusals = append(refusals, "404")
	}
	if !c.Open && c.Method != "GET" {
		refusals = append(refusals, "409")
	}
	op["security"] = []any{}
	switch {
	case c.Session:
		op["security"] = []any{map[string]any{"session": []any{}}}
	case !c.Open:
		scopes := []any{}
		if c.Scope != "" {
			scopes = append(scopes, string(c.Scope))
		}
		op["security"] = []any{map[string]any{"bearer": scopes}, map[string]any{"apiKey": scopes}, map[string]any{"session": scopes}}
	}
	responses := op.in("responses")
	if responses == nil {
		responses = object{}
		op["responses"] = map[string]any(responses)
	}
	if c.Socket {
		refusals = append(refusals, "101")
	}
	if c.RateHeaders {
		for status := range responses {
			if answer := responses.in(status); answer["$ref"] == nil {
				answer["headers"] = rateHeaders()
			}
		}
	}
	for _, status := range refusals {
		responses[status] = ref("responses", status)
	}
}

// rateHeaders are those of answers to calls that were counted.
func rateHeaders() map[string]any {
	headers := make(map[string]any)
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		headers[name] = ref("headers", name)
	}
	return headers
}

func ref(kind, name string) map[string]any {
	return map[string]any{"$ref": "#/components/" + kind + "/" + name}
}
