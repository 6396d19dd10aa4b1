package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	dialects "sluice/pkg/dialect/all"
	"sluice/pkg/dialect/openapi/openapitest"
)

// TestDocuments makes every call of every document by its example, from what is made to
// what is done with it, as links lead; all are taken, and answered as the document says.
func TestDocuments(t *testing.T) {
	n := startStory(t, nodeConfig{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	for _, d := range dialects.Dialects {
		t.Run(d.Name, func(t *testing.T) {
			status, text := askDocument(t, "GET", n.URL()+"/openapi/"+d.Name+".json", nil, nil)
			if status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			r := &documentReader{t, n.member(t), receiver.URL, make(map[*openapitest.Operation]bool)}
			var open []*openapitest.Operation
			for _, op := range openapitest.New(t, text).Operations() {
				if !op.Keyed() {
					continue
				}
				if open = append(open, op); !strings.Contains(op.Path, "{") {
					r.follow(op)
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
}

// documentReader calls for an org as a document says.
type documentReader struct {
	t        *testing.T
	m        member
	receiver string // in the place of examples' hosts
	made     map[*openapitest.Operation]bool
}

// follow makes a call, and those that its answer leads to.
func (r *documentReader) follow(op *openapitest.Operation) {
	status, answer := r.call(op, op.Path)
	for _, link := range op.Links(status) {
		var v any
		if err := json.Unmarshal(answer, &v); err != nil {
			r.t.Fatal(err)
		}
		for _, name := range link.Names {
			inner, _ := v.(map[string]any)
			v = inner[name]
		}
		id, _ := v.(string)
		r.call(link.To, strings.Replace(link.To.Path, "{"+link.Parameter+"}", id, 1))
	}
}

func (r *documentReader) call(op *openapitest.Operation, path string) (status int, answer []byte) {
	r.t.Helper()
	r.made[op] = true
	body := bytes.ReplaceAll(op.Example(), []byte("https://example.com"), []byte(r.receiver))
	if err := op.Body(body); err != nil {
		r.t.Errorf("%s %s: its example: %v", op.Method, op.Path, err)
	}
	headers := map[string]string{"Authorization": "Bearer " + r.m.token}
	for name := range op.Parameters("header") {
		headers[name] = r.m.org // none but that of the org is asked for
	}
	status, answer = askDocument(r.t, op.Method, r.m.base+path, headers, body)
	if err := op.Answer(status, answer); err != nil || status > 299 {
		r.t.Errorf("%s %s %s: %d %s: %v", op.Method, path, body, status, answer, err)
	}
	return status, answer
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
