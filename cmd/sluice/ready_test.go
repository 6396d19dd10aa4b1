package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestReady: what sluice ready makes of each answer that it can get.
func TestReady(t *testing.T) {
	answers := func(status int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	node := startStory(t, nodeConfig{})
	for _, c := range []struct {
		name, ops string
		code      int
		out, errs string
	}{
		{"a node", strings.TrimPrefix(node.OpsURL(), "http://"), 0, "log: ready\n", ""},
		{"one that isn't ready", answers(503, "control: 7 commands behind\nlog: ready\n"), 1, "control: 7 commands behind\n", "not ready"},
		{"another server", answers(404, "no such page"), 1, "", "is no ops server: it answered 404"},
		{"nobody", freeAddress(t), 1, "", "is sluice serve running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs, code := sluice(t, nil, "ready", "--ops", c.ops)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
				t.Errorf("exit code %d, %q, %q", code, out, errs)
			}
		})
	}
}
