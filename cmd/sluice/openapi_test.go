package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dialects "sluice/pkg/dialect/all"
	"sluice/pkg/dialect/openapi/openapitest"
)

// TestDocuments makes every call of every document by its example, from what is made to
// what is done with it, as links lead; all are taken, and answered as the document says.
// Whatever is served is in one of them.
func TestDocuments(t *testing.T) {
	n := startStory(t, nodeConfig{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	said := make(map[string]bool)
	names := []string{ownName}
	for _, d := range dialects.Dialects {
		names = append(names, d.Name)
	}
	for _, name := range names {
		status, text := askDocument(t, "GET", n.URL()+"/openapi/"+name+".json", nil, nil)
		if status != 200 {
			t.Fatalf("%s: %d %s", name, status, text)
		}
		doc := openapitest.New(t, text)
		for _, op := range doc.Operations() {
			said[op.Method+" "+op.Path] = true
		}
		t.Run(name, func(t *testing.T) {
			r := &documentReader{t, n.member(t), receiver.URL, make(map[*openapitest.Operation]bool)}
			if name == ownName {
				r.own(doc)
			}
			var open []*openapitest.Operation
			for _, op := range doc.Operations() {
				if !op.Keyed() {
					continue
				}
				if open = append(open, op); !strings.Contains(op.Path, "{") {
					r.follow(op, op.Path)
				}
			}
			made := make(map[string]bool)
			for op := range r.made {
				made[op.Method+" "+op.Path] = true
			}
			for _, op := range open {
				if !made[op.Method+" "+op.Path] {
					t.Errorf("no link leads to %s %s", op.Method, op.Path)
				}
			}
		})
	}
	for _, r := range n.server.Routes() {
		// The documents themselves are in none.
		if !said[r.Method+" "+r.Path] && !strings.HasPrefix(r.Path, "/openapi/") {
			t.Errorf("%s %s is in no document", r.Method, r.Path)
		}
	}
}

// documentReader calls for an org as a document says.
type documentReader struct {
	t        *testing.T
	m        member
	receiver string // in the place of examples' hosts
	made     map[*openapitest.Operation]bool
}

// own makes the calls about an endpoint, which is made by some API, and holds bodies and
// queries to what is said of them, as dialecttest does of dialects'.
func (r *documentReader) own(doc *openapitest.Document) {
	r.t.Helper()
	ask := func(method, path string, in, out any) {
		if _, err := r.m.client.call(r.t.Context(), method, path, in, out); err != nil {
			r.t.Fatal(err)
		}
	}
	var made struct{ ID string }
	ask("POST", "/v1/webhooks", map[string]any{"url": r.receiver, "events": []string{"rfq.*"}}, &made)
	at := func(op *openapitest.Operation) string { return strings.Replace(op.Path, "{id}", made.ID, 1) }
	r.follow(doc.Operation("POST", "/v1/events"), "/v1/events")
	deliveries := doc.Operation("GET", "/v1/webhooks/{id}/deliveries")
	eventually(r.t, time.Minute, func() error {
		if _, list := r.call(deliveries, at(deliveries)+"?status=delivered"); !bytes.Contains(list, []byte(`"dlv_`)) {
			return fmt.Errorf("not delivered: %s", list)
		}
		return nil
	})
	r.follow(deliveries, at(deliveries))
	// A replay waits for a paused endpoint: so it can be cancelled.
	ask("PATCH", "/v1/webhooks/"+made.ID, map[string]string{"status": "paused"}, nil)
	begin := doc.Operation("POST", "/v1/webhooks/{id}/replay")
	r.follow(begin, at(begin))
	list := doc.Operation("GET", "/v1/webhooks/{id}/replays")
	r.follow(list, at(list))
	for _, op := range doc.Operations() {
		r.parameters(op, at(op))
		r.members(op, at(op))
	}
}

// parameters has a call say which parameters it takes: those that are described.
func (r *documentReader) parameters(op *openapitest.Operation, path string) {
	var takes []string
	if op.Method == "GET" {
		_, answer := r.send(op, path+"?no_such_parameter=1", nil)
		if _, list, found := bytes.Cut(answer, []byte("is no parameter of this call: it takes ")); found {
			list, _, _ = bytes.Cut(list, []byte(`"`))
			takes = strings.Split(string(list), ", ")
		}
	}
	slices.Sort(takes)
	if said := slices.Sorted(maps.Keys(op.Parameters("query"))); !slices.Equal(said, takes) {
		r.t.Errorf("%s %s takes the parameters %v, described are %v", op.Method, op.Path, takes, said)
	}
}

// memberNames finds names of members in structs, and those of an event's, which is read by
// hand.
const memberNames = "`json:\"(\\w+)|\"(\\w+)\": +has[A-Z]"

// members has a call take each member that is described, and no other.
func (r *documentReader) members(op *openapitest.Operation, path string) {
	described := op.Members()
	if described == nil {
		return
	}
	names := slices.AppendSeq(openapitest.NamesInSources(r.t, memberNames, os.DirFS("../../gateway/manage"), os.DirFS("../../gateway/ingest")), maps.Keys(described))
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		_, answer := r.send(op, path, fmt.Appendf(nil, `{%q:null}`, name))
		taken := !bytes.Contains(answer, []byte("is no member of"))
		if _, said := described[name]; taken != said {
			r.t.Errorf("%s %s: member %s is taken: %v, described: %v", op.Method, op.Path, name, taken, said)
		}
	}
}

// follow makes a call, and those that its answer leads to.
func (r *documentReader) follow(op *openapitest.Operation, path string) {
	r.t.Helper()
	status, answer := r.call(op, path)
	steps, err := op.Steps(path, status, answer)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, step := range steps {
		r.call(step.To, step.Path)
	}
}

func (r *documentReader) call(op *openapitest.Operation, path string) (status int, answer []byte) {
	r.t.Helper()
	r.made[op] = true
	body := bytes.ReplaceAll(op.Example(), []byte("https://example.com"), []byte(r.receiver))
	if err := op.Body(body); err != nil {
		r.t.Errorf("%s %s: its example: %v", op.Method, op.Path, err)
	}
	status, answer = r.send(op, path, body)
	if err := op.Answer(status, answer); err != nil || status > 299 {
		r.t.Errorf("%s %s %s: %d %s: %v", op.Method, path, body, status, answer, err)
	}
	return status, answer
}

// send has what names the org in every header that is described: either that is what it is
// to say, or it takes any text.
func (r *documentReader) send(op *openapitest.Operation, path string, body []byte) (status int, answer []byte) {
	r.t.Helper()
	headers := map[string]string{"Authorization": "Bearer " + r.m.token}
	for name := range op.Parameters("header") {
		headers[name] = r.m.org
	}
	return askDocument(r.t, op.Method, r.m.base+path, headers, body)
}

func askDocument(t *testing.T, method, url string, headers map[string]string, body []byte) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}
