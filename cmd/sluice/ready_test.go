package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
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

// TestStoppedOnceReady: who is told by /readyz that a node is ready, and stops it, stops
// one that is, also while its own start still looks.
func TestStoppedOnceReady(t *testing.T) {
	for _, asked := range []bool{true, false} {
		n := &node{ops: newOps(prometheus.NewRegistry(), nil), failed: make(chan error)}
		n.ops.require("slow to its own start", func(ctx context.Context) error {
			if _, probed := ctx.Deadline(); probed {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if asked {
			answer := httptest.NewRecorder()
			n.ops.server.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if answer.Code != http.StatusOK {
				t.Fatalf("it answers %d: %s", answer.Code, answer.Body)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := n.awaitReady(ctx); (err == nil) != asked {
			t.Errorf("asked: %v; its start ended with %v", asked, err)
		}
	}
}
