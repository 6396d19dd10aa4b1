// Package openapitest reads OpenAPI documents for tests, and holds calls and answers to
// them.
package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Document is an OpenAPI document that calls are held to. Of answers it is stricter
// than for clients: they have no member that isn't described.
type Document struct {
	t        *testing.T
	root     object
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by place
}

// New reads a document.
func New(t *testing.T, text []byte) *Document {
	t.Helper()
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	seal(root)
	d := &Document{t, root.(map[string]any), jsonschema.NewCompiler(), make(map[string]*jsonschema.Schema)}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", root); err != nil {
		t.Fatal(err)
	}
	return d
}

// seal has objects take no member that isn't described, unless they say so.
func seal(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, said := v["additionalProperties"]; v["properties"] != nil && !said {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			seal(inner)
		}
	case []any:
		for _, inner := range v {
			seal(inner)
		}
	}
}

// object is a JSON object of the document.
type object = map[string]any

// at gives the object that stands at a place, and the place itself: another, where a
// reference leads there. It is nil where there is none.
func (d *Document) at(place ...string) (object, []string) {
	v := any(d.root)
	for i, name := range place {
		switch holder := v.(type) {
		case object:
			v = holder[name]
		case []any:
			n, _ := strconv.Atoi(name)
			v = holder[n]
		default:
			return nil, place
		}
		if inner, _ := v.(object); inner["$ref"] != nil {
			to := strings.Split(strings.TrimPrefix(inner["$ref"].(string), "#/"), "/")
			return d.at(append(to, place[i+1:]...)...)
		}
	}
	found, _ := v.(object)
	return found, place
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// valid holds JSON to the schema at a place.
func (d *Document) valid(text []byte, place []string) error {
	at := "openapi.json#"
	for _, name := range place {
		at += "/" + url.PathEscape(escaper.Replace(name))
	}
	if d.schemas[at] == nil {
		schema, err := d.compiler.Compile(at)
		if err != nil {
			d.t.Fatal(err)
		}
		d.schemas[at] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return d.schemas[at].Validate(value)
}

// Operation is one call of a document.
type Operation struct {
	Method, Path string
	doc          *Document
	place        []string
}

// Operations lists the calls of a document, by path and method.
func (d *Document) Operations() (all []*Operation) {
	paths, _ := d.at("paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item, _ := d.at("paths", path)
		for _, method := range []string{"post", "get", "patch", "put", "delete"} {
			if item[method] != nil {
				all = append(all, &Operation{strings.ToUpper(method), path, d, []string{"paths", path, method}})
			}
		}
	}
	return all
}

// Operation gives a call; it fails the test where there is none.
func (d *Document) Operation(method, path string) *Operation {
	d.t.Helper()
	for _, op := range d.Operations() {
		if op.Method == method && op.Path == path {
			return op
		}
	}
	d.t.Fatalf("the document doesn't have %s %s", method, path)
	return nil
}

// Hook gives the call that a delivery is.
func (d *Document) Hook() *Operation {
	return &Operation{"POST", "event", d, []string{"webhooks", "event", "post"}}
}

func (o *Operation) in(place ...string) (object, []string) {
	return o.doc.at(append(slices.Clone(o.place), place...)...)
}

// Body holds the body of a request to its schema.
func (o *Operation) Body(body []byte) error {
	asked, place := o.in("requestBody")
	switch {
	case len(body) > 0 && asked == nil:
		return fmt.Errorf("it takes no body")
	case len(body) > 0:
		return o.doc.valid(body, append(place, "content", "application/json", "schema"))
	case asked["required"] == true:
		return fmt.Errorf("it takes a body")
	}
	return nil
}

// Members gives the names of what its body may have, in whichever of its forms; nil: it
// takes none.
func (o *Operation) Members() map[string]any {
	schema, place := o.in("requestBody", "content", "application/json", "schema")
	members, _ := schema["properties"].(object)
	forms, _ := schema["anyOf"].([]any)
	for i := range forms {
		form, _ := o.doc.at(append(slices.Clone(place), "anyOf", strconv.Itoa(i))...)
		if members == nil {
			members = make(object)
		}
		maps.Copy(members, form["properties"].(object))
	}
	return members
}

// NamesInSources gives the names that a member of a body could have, and one that no call
// knows: what the groups of an expression find in the sources in these folders.
func NamesInSources(t *testing.T, expression string, folders ...fs.FS) []string {
	t.Helper()
	names := []string{"no_such_member"}
	for _, folder := range folders {
		files, err := fs.Glob(folder, "*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("sources in %v: %v %v", folder, files, err)
		}
		for _, file := range files {
			source, err := fs.ReadFile(folder, file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range regexp.MustCompile(expression).FindAllStringSubmatch(string(source), -1) {
				names = append(names, strings.Join(found[1:], ""))
			}
		}
	}
	return names
}

// Answer holds an answer to what is said of its status.
func (o *Operation) Answer(status int, body []byte) error {
	said, place := o.in("responses", strconv.Itoa(status))
	content, _ := said["content"].(object)
	switch {
	case said == nil:
		return fmt.Errorf("the status %d isn't described", status)
	case (content == nil) != (len(body) == 0):
		return fmt.Errorf("a body of %d bytes, which it is said to have: %v", len(body), content != nil)
	case len(body) > 0:
		return o.doc.valid(body, append(place, "content", "application/json", "schema"))
	}
	return nil
}

// Parameters gives where the schemas of the parameters are that are taken in a place:
// path, query or header.
func (o *Operation) Parameters(in string) map[string][]string {
	schemas := make(map[string][]string)
	for _, holder := range [][]string{o.place, o.place[:len(o.place)-1]} {
		held, _ := o.doc.at(holder...)
		list, _ := held["parameters"].([]any)
		for i := range list {
			p, place := o.doc.at(append(slices.Clone(holder), "parameters", strconv.Itoa(i))...)
			if p["in"] == in {
				schemas[p["name"].(string)] = append(place, "schema")
			}
		}
	}
	return schemas
}

// Parameter holds a parameter, as it stands in a URL or a header, to its schema.
func (o *Operation) Parameter(in, name, value string) error {
	place := o.Parameters(in)[name]
	if place == nil {
		return fmt.Errorf("the parameter %s isn't described", name)
	}
	if schema, _ := o.doc.at(place...); schema["type"] != "integer" {
		value = strconv.Quote(value)
	}
	return o.doc.valid([]byte(value), place)
}

// Keyed reports whether it takes a key, and is answered with JSON or nothing: streams
// and what others sign are left out.
func (o *Operation) Keyed() bool {
	said, _ := o.in()
	streams, _ := o.in("responses", "200", "content", "text/event-stream")
	keys, _ := said["security"].([]any)
	takesKey := slices.ContainsFunc(keys, func(way any) bool { return way.(object)["apiKey"] != nil })
	return takesKey && streams == nil
}

// Example gives the body of its example; nil: it has none.
func (o *Operation) Example() []byte {
	said, _ := o.in("requestBody", "content", "application/json")
	if said["example"] == nil {
		return nil
	}
	text, err := json.Marshal(said["example"])
	if err != nil {
		o.doc.t.Fatal(err)
	}
	return text
}

// Step is a call about what another was answered with.
type Step struct {
	To   *Operation
	Path string // with what its parameters stand for
}

// Steps gives the calls that an answer leads to, where the path was called. What takes
// away comes last.
func (o *Operation) Steps(path string, status int, answer []byte) (steps []Step, err error) {
	said, _ := o.in("responses", strconv.Itoa(status), "links")
	for _, to := range o.doc.Operations() {
		called, _ := to.in()
		for _, v := range said {
			link := v.(object)
			if link["operationId"] != called["operationId"] {
				continue
			}
			leads := to.Path
			for name, from := range link["parameters"].(object) {
				value, err := o.evaluate(from.(string), path, answer)
				if err != nil {
					return nil, err
				}
				leads = strings.Replace(leads, "{"+name+"}", value, 1)
			}
			steps = append(steps, Step{to, leads})
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		rank := map[bool]int{true: 1}
		return rank[a.To.Method == "DELETE"] - rank[b.To.Method == "DELETE"]
	})
	return steps, nil
}

// evaluate gives what an expression of a link stands for: a parameter of the path that
// was called, or a text in its answer.
func (o *Operation) evaluate(expression, path string, answer []byte) (string, error) {
	if name, ok := strings.CutPrefix(expression, "$request.path."); ok {
		at := slices.Index(strings.Split(o.Path, "/"), "{"+name+"}")
		if at < 0 {
			return "", fmt.Errorf("%s: %s has no such parameter", expression, o.Path)
		}
		return strings.Split(path, "/")[at], nil
	}
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(expression, "$response.body#/"), "/") {
		switch holder := v.(type) {
		case object:
			v = holder[name]
		case []any:
			if n, err := strconv.Atoi(name); err == nil && n < len(holder) {
				v = holder[n]
			}
		}
	}
	text, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s isn't in %s", expression, answer)
	}
	return text, nil
}
