package web_test

import (
	"testing"

	"sluice/gateway/web"
)

// TestDocument: it is there for everybody, for pages of ours too, and a client that has
// it already isn't sent it again.
func TestDocument(t *testing.T) {
	const ours = "https://app.example"
	s := start(t, web.Config{Origins: []string{ours}}, web.Document("/openapi/acme.json", []byte(`{"openapi":"3.1.1"}`)))
	first := ask(t, s, "GET", "/openapi/acme.json", "Origin", ours)
	tag := first.Header.Get("ETag")
	if first.StatusCode != 200 || first.ContentLength != 19 || first.Header.Get("Content-Type") != "application/json" || tag == "" {
		t.Errorf("%s %v", first.Status, first.Header)
	}
	for _, tt := range []struct {
		known  string
		status int
	}{{tag, 304}, {`"other", W/` + tag, 304}, {"*", 304}, {`"other"`, 200}, {"", 200}} {
		r := ask(t, s, "GET", "/openapi/acme.json", "Origin", ours, "If-None-Match", tt.known)
		if r.StatusCode != tt.status || r.Header.Get("ETag") != tag || r.Header.Get("Cache-Control") != "public, max-age=300" || r.Header.Get("Access-Control-Allow-Origin") != ours {
			t.Errorf("known %q: %s %v", tt.known, r.Status, r.Header)
		}
	}
	if r := ask(t, s, "HEAD", "/openapi/acme.json"); r.StatusCode != 200 || r.Header.Get("ETag") != tag {
		t.Errorf("HEAD: %s %v", r.Status, r.Header)
	}
}
