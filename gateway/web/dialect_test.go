package web_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// A dialect's routes ask for more than a key where it says so, and all that is
// refused at its paths is told in its words; elsewhere nothing changes.
func TestDialect(t *testing.T) {
	s := start(t, web.Config{}, routes...)
	s.Own(&dialect.Dialect{Prefixes: []string{"/theirs/plain"}})
	d := &dialect.Dialect{
		Prefixes: []string{"/theirs"},
		Routes: []dialect.Route{{Method: "POST", Path: "/theirs/{id}", Scope: key.Manage, Serve: func(_ context.Context, _ dialect.Core, r *dialect.Request) (*dialect.Response, error) {
			if r.Param("id") == "nobodys" {
				return nil, dialect.ErrNothing
			}
			return &dialect.Response{Status: 200, Body: []byte(`{}`)}, nil
		}}},
		Networks: true,
		Admit: func(p *key.Principal, header func(string) string) *dialect.Error {
			if header("X-Org") != p.Org {
				return &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "another org"}
			}
			return nil
		},
		AppendError: func(dst []byte, e *dialect.Error) []byte {
			return append(dialect.AppendString(append(dst, `{"wrong":`...), string(e.Code)), '}')
		},
	}
	s.Own(d)
	s.HandleDialect(d, nil)
	for _, c := range []struct{ name, request, want string }{
		{"let in", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nX-Org: org_a\r\nContent-Length: 0\r\n", `200 {}`},
		{"another org", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nX-Org: org_b\r\nContent-Length: 0\r\n", `403 {"wrong":"forbidden"}`},
		{"no org", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nContent-Length: 0\r\n", `403 {"wrong":"forbidden"}`},
		{"two orgs", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nX-Org: org_a\r\nX-Org: org_b\r\nContent-Length: 0\r\n", `403 {"wrong":"forbidden"}`},
		{"no key", "POST /theirs/a HTTP/1.1\r\nX-Org: org_a\r\nContent-Length: 0\r\n", `401 {"wrong":"unauthorized"}`},
		{"no scope", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer poor-key\r\nX-Org: org_a\r\nContent-Length: 0\r\n", `403 {"wrong":"forbidden"}`},
		{"its own refusal", "POST /theirs/nobodys HTTP/1.1\r\nAuthorization: Bearer full-key\r\nX-Org: org_a\r\nContent-Length: 0\r\n", `404 {"wrong":"not_found"}`},
		{"another method", "GET /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\n", `405 {"wrong":"method_not_allowed"}`},
		{"too large", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nX-Org: org_a\r\nContent-Length: 99999999\r\n", `413 {"wrong":"too_large"}`},
		{"a path that nobody serves", "GET /theirs/a/b HTTP/1.1\r\n", `404 {"wrong":"not_found"}`},
		{"their prefix itself", "GET /theirs?a=b HTTP/1.1\r\n", `404 {"wrong":"not_found"}`},
		{"a path that can't be read", "GET /theirs/%00 HTTP/1.1\r\n", `400 {"wrong":"bad_request"}`},
		{"a path that begins alike", "GET /theirsandmore HTTP/1.1\r\n", `404 {"error":{"code":"not_found","message":"there is nothing at this path"}}`},
		{"a longer prefix of another's", "GET /theirs/plain/b HTTP/1.1\r\n", `404 {"error":{"code":"not_found","message":"there is nothing at this path"}}`},
		{"the core's path", "POST /things/a HTTP/1.1\r\nAuthorization: Bearer full-key\r\nContent-Length: 0\r\n", `405 {"error":{"code":"method_not_allowed","message":"this path takes DELETE, GET, HEAD, OPTIONS"}}`},
		{"a key for one network", "POST /theirs/a HTTP/1.1\r\nAuthorization: Bearer bound-key\r\nX-Org: org_a\r\nContent-Length: 0\r\n", `200 {}`},
		{"such a key elsewhere", "DELETE /things/a HTTP/1.1\r\nAuthorization: Bearer bound-key\r\n",
			`403 {"error":{"code":"forbidden","message":"the key is for one network, and this call isn't: use one that is for all"}}`},
		{"nobody's path", "GET /nothing HTTP/1.1\r\n", `404 {"error":{"code":"not_found","message":"there is nothing at this path"}}`},
	} {
		statuses, _, text := exchange(t, s.addr, c.request+"Host: a\r\nConnection: close\r\n\r\n")
		status, body, _ := strings.Cut(c.want, " ")
		if len(statuses) != 1 || !strings.Contains(text, "HTTP/1.1 "+status) || !strings.HasSuffix(text, "\r\n\r\n"+body) {
			t.Errorf("%s: %q, want %s", c.name, text, c.want)
		}
	}
}

// Answers of a dialect that says so tell how many requests are left, refusals
// included; those of others don't.
func TestRateHeaders(t *testing.T) {
	meter := usage.NewMeter(usage.MeterConfig{})
	s := start(t, web.Config{Access: access{control.Free}, Usage: meter}, routes...)
	var used atomic.Int64 // the newest call is told so
	serve := func(_ context.Context, _ dialect.Core, r *dialect.Request) (*dialect.Response, error) {
		used.Store(int64(r.Used))
		return nil, dialect.ErrNothing
	}
	s.HandleDialect(&dialect.Dialect{RateHeaders: true, Routes: []dialect.Route{{Method: "GET", Path: "/told", Serve: serve}}}, nil)
	s.HandleDialect(&dialect.Dialect{Routes: []dialect.Route{{Method: "GET", Path: "/untold", Serve: serve}}}, nil)
	ask := func(path string) string {
		_, _, text := exchange(t, s.addr, "GET "+path+" HTTP/1.1\r\nAuthorization: Bearer full-key\r\nHost: a\r\nConnection: close\r\n\r\n")
		return text
	}
	began := time.Now()
	limit := control.Free.Limits().Requests
	for left := limit - 1; left >= 1; left-- {
		if text := ask("/told"); !strings.Contains(text, " 404 ") || !strings.Contains(text, fmt.Sprintf("X-Ratelimit-Remaining: %d\r\n", left)) {
			t.Fatalf("with %d left: %s", left, text)
		}
	}
	if text := ask("/untold"); strings.Contains(text, "X-Ratelimit") {
		t.Error(text)
	}
	text := ask("/told")
	if !strings.Contains(text, " 429 ") || !strings.Contains(text, "X-Ratelimit-Remaining: 0\r\n") || !strings.Contains(text, fmt.Sprintf("X-Ratelimit-Limit: %d\r\n", limit)) {
		t.Error(text)
	}
	_, after, _ := strings.Cut(text, "X-Ratelimit-Reset: ")
	number, _, _ := strings.Cut(after, "\r\n")
	reset, err := strconv.ParseInt(number, 10, 64)
	if at := time.Unix(reset, 0); err != nil || at.Before(began.Add(time.Minute-time.Second)) || at.After(time.Now().Add(time.Minute+2*time.Second)) {
		t.Errorf("until %q, asked from %v on", number, began)
	}
	counted := meter.Of("org_a", event.Sandbox)[usage.Requests].Load()
	if used.Load() != int64(limit) || counted != int64(limit) {
		t.Errorf("%d requests are told of and %d counted, of %d that were let in", used.Load(), counted, limit)
	}
}
