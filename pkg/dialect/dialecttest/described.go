package dialecttest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/pkg/dialect"
	"sluice/pkg/dialect/openapi"
	"sluice/pkg/dialect/openapi/openapitest"
	"sluice/pkg/endpoint"
)

// documentOf reads the document of a dialect.
func documentOf(t *testing.T, d *dialect.Dialect) *openapitest.Document {
	t.Helper()
	text, err := openapi.Of(d)
	if err != nil {
		t.Fatal(err)
	}
	return openapitest.New(t, text)
}

// described holds the document to what the dialect serves, and that to the document.
func described(t *testing.T, d *dialect.Dialect, dir string) {
	doc := documentOf(t, d)
	var served, said []string
	for _, c := range openapi.Calls(d) {
		served = append(served, c.Method+" "+c.Path)
	}
	for _, op := range doc.Operations() {
		said = append(said, op.Method+" "+op.Path)
		for _, name := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(op.Path, -1) {
			if op.Parameters("path")[name[1]] == nil {
				t.Errorf("%s %s: its parameter %s isn't described", op.Method, op.Path, name[1])
			}
		}
	}
	slices.Sort(served)
	slices.Sort(said)
	if !slices.Equal(served, said) {
		t.Errorf("served: %v\ndescribed: %v", served, said)
	}
	// Its own, and those that it has in common with others.
	names := openapitest.NamesInSources(t, "`json:\"([^\"]+)\"`", os.DirFS(filepath.Join(dir, "..", "..")), os.DirFS(filepath.Join(dir, "..", "..", "..")))
	for i := range d.Routes {
		members(t, d, &d.Routes[i], doc, names)
		parameters(t, d, &d.Routes[i], doc)
	}
	if d.Webhook != nil {
		delivered(t, d, doc, filepath.Join(dir, "bodies.golden"))
	}
	for _, in := range d.Inbound {
		op := doc.Operation("POST", in.Path)
		for _, duplicate := range []bool{false, true} {
			if err := op.Answer(200, in.AppendReply(nil, duplicate)); err != nil {
				t.Errorf("answer to %s: %v", in.Provider, err)
			}
		}
	}
}

// shapes are what calls are told whose members are wrong in name, kind or range: things
// that a document says, too.
var shapes = regexp.MustCompile(`is no member of this request|the body must be a JSON object|must be (a string|a list|true or false|a whole number|1 to 100|0 to 10000|a date)`)

// hold holds a call and its answer to what is said of it.
func hold(t *testing.T, op *openapitest.Operation, line string, query url.Values, body string, resp *dialect.Response) {
	t.Helper()
	wrong := op.Body([]byte(body))
	for name, values := range query {
		if err := op.Parameter("query", name, values[0]); err != nil {
			wrong = err
		}
	}
	switch misshapen := shapes.Find(resp.Body); {
	case resp.Status < 300 && wrong != nil:
		t.Errorf("%s is taken, and the document wouldn't take it: %v", line, wrong)
	case resp.Status == 400 && misshapen != nil && wrong == nil:
		t.Errorf("%s is refused (%s), and the document would take it", line, misshapen)
	}
	if err := op.Answer(resp.Status, resp.Body); err != nil {
		t.Errorf("%s is answered otherwise than the document says: %v", line, err)
	}
}

// members has a call take each member that is described, and no other.
func members(t *testing.T, d *dialect.Dialect, r *dialect.Route, doc *openapitest.Document, names []string) {
	op := doc.Operation(r.Method, r.Path)
	described := op.Members()
	for name := range described {
		names = append(names, name)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		taken := !strings.Contains(answerTo(t, d, r, fmt.Sprintf(`{%q:null}`, name), nil), "is no member of this request")
		if _, said := described[name]; described != nil && taken != said {
			t.Errorf("%s %s: member %s is taken: %v, described: %v", r.Method, r.Path, name, taken, said)
		}
	}
}

// parameters has a call look at each parameter of the query that is described, and at
// no other.
func parameters(t *testing.T, d *dialect.Dialect, r *dialect.Route, doc *openapitest.Document) {
	looked := make(map[string]bool)
	answerTo(t, d, r, "", looked)
	said := doc.Operation(r.Method, r.Path).Parameters("query")
	for name := range said {
		if !looked[name] {
			t.Errorf("%s %s: parameter %s is described, and nobody looks at it", r.Method, r.Path, name)
		}
	}
	for name := range looked {
		if said[name] == nil {
			t.Errorf("%s %s: parameter %s is looked at, and not described", r.Method, r.Path, name)
		}
		if r.Params != nil && !slices.Contains(r.Params, name) {
			t.Errorf("%s %s: parameter %s is looked at, and refused before", r.Method, r.Path, name)
		}
	}
}

// answerTo makes a call about an endpoint, and notes which parameters of the query it
// looks at.
func answerTo(t *testing.T, d *dialect.Dialect, r *dialect.Route, body string, looked map[string]bool) string {
	resp, err := r.Serve(t.Context(), &stub{t: t, name: d.Name}, &dialect.Request{
		Principal: principal, Now: made, Param: func(string) string { return "wh_active" }, Body: []byte(body),
		Query: func(name string) string {
			if looked != nil {
				looked[name] = true
			}
			return ""
		},
	})
	refused, _ := err.(*dialect.Error)
	switch {
	case refused != nil:
		return string(refused.AppendJSON(nil))
	case err != nil:
		t.Fatal(err)
	}
	return string(resp.Body)
}

// delivered holds deliveries to what is said of them.
func delivered(t *testing.T, d *dialect.Dialect, doc *openapitest.Document, bodies string) {
	op := doc.Hook()
	text, err := os.ReadFile(bodies)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if err := op.Body([]byte(line)); err != nil {
			t.Errorf("a delivery isn't what the document says: %s: %v", line, err)
		}
	}
	said := op.Parameters("header")
	for _, h := range d.Webhook.AppendHeaders(nil, &dialect.Attempt{Secret: endpoint.Secret("a secret"), Now: made, Number: 1}) {
		if err := op.Parameter("header", h.Name, h.Value); err != nil {
			t.Errorf("header %s of a delivery: %v", h.Name, err)
		}
		delete(said, h.Name)
	}
	if len(said) != 3 { // those of Standard Webhooks
		t.Errorf("headers are described that deliveries don't have: %v", said)
	}
}
