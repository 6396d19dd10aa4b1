package web_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/dialect"
)

// A session comes in a cookie or as keys do, and reads live or what it asks for. What a
// browser brings for a page of somebody else's counts for nothing.
func TestSessions(t *testing.T) {
	const ours, other = "https://app.example", "https://evil.example"
	shown := func(c *web.Call) error {
		if err := c.OnlyQuery("types"); err != nil {
			return err
		}
		c.JSON(200, []byte(`{}`))
		c.Response.Header.Set("Environment", c.Principal.Environment.String())
		return nil
	}
	s := start(t, web.Config{Origins: []string{ours}},
		web.Route{Method: "GET", Path: "/things", Serve: shown}, web.Route{Method: "POST", Path: "/things", Serve: shown})
	const cookie, auth, origin, site = "Cookie", "Authorization", "Origin", "Sec-Fetch-Site"
	const brings = "theme=dark; __Host-session=" + session + "; a=b"
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
		env                string
	}{
		{"in a cookie", "GET", "/things", []string{cookie, brings}, 200, "live"},
		{"as keys do", "GET", "/things", []string{auth, "Bearer " + session}, 200, "live"},
		{"for the sandbox", "GET", "/things?environment=sandbox&types=a.b", []string{cookie, brings}, 200, "sandbox"},
		{"for live", "GET", "/things?environment=live", []string{auth, "Bearer " + session}, 200, "live"},
		{"for nothing there is", "GET", "/things?environment=test", []string{cookie, brings}, 400, ""},
		{"a key has its own environment", "GET", "/things?environment=live", []string{auth, "Bearer " + full}, 400, ""},
		{"a key goes before a cookie", "GET", "/things", []string{cookie, brings, auth, "Bearer " + full, origin, other}, 200, "sandbox"},
		{"one that has ended", "GET", "/things", []string{cookie, "__Host-session=expired"}, 401, ""},
		{"another cookie", "GET", "/things", []string{cookie, "session=" + session}, 401, ""},
		{"none", "GET", "/things", []string{cookie, "__Host-session="}, 401, ""},
		{"a page of ours", "GET", "/things", []string{cookie, brings, origin, ours, site, "same-site"}, 200, "live"},
		{"a page of others", "GET", "/things", []string{cookie, brings, origin, other, site, "cross-site"}, 403, ""},
		{"a page of nowhere", "GET", "/things", []string{cookie, brings, origin, "null"}, 403, ""},
		{"a page of the host's", "GET", "/things", []string{cookie, brings, origin, "http://" + s.addr}, 200, "live"},
		{"a link from elsewhere", "GET", "/things", []string{cookie, brings, site, "cross-site"}, 200, "live"},
		{"a change by a page of ours", "POST", "/things", []string{cookie, brings, origin, ours, site, "same-site"}, 200, "live"},
		{"by the host's own", "POST", "/things", []string{cookie, brings, origin, "http://" + s.addr, site, "same-origin"}, 200, "live"},
		{"by no browser", "POST", "/things", []string{cookie, brings}, 200, "live"},
		{"by a page of others", "POST", "/things", []string{cookie, brings, origin, other}, 403, ""},
		{"by one that hides where it is from", "POST", "/things", []string{cookie, brings, site, "cross-site"}, 403, ""},
		{"by one beside ours", "POST", "/things", []string{cookie, brings, site, "same-site"}, 403, ""},
		{"by a page of others, that knows the token", "POST", "/things", []string{auth, "Bearer " + session, origin, other}, 200, "live"},
	} {
		r := ask(t, s, c.method, c.path, c.headers...)
		if r.StatusCode != c.status || r.Header.Get("Environment") != c.env {
			t.Errorf("%s: %s in %q, want %d in %q", c.name, r.Status, r.Header.Get("Environment"), c.status, c.env)
		}
	}
}

// A dialect's open calls come from nobody, with an address; they are counted by that one,
// and may have the client's browser keep a session or forget it.
func TestOpenCalls(t *testing.T) {
	until := time.Date(2126, 11, 22, 3, 4, 5, 0, time.UTC)
	s := start(t, web.Config{}, routes...)
	d := &dialect.Dialect{RateHeaders: true, Routes: []dialect.Route{
		{Method: "POST", Path: "/in", Open: true, PerAddress: 3, Serve: func(_ context.Context, _ dialect.Core, r *dialect.Request) (*dialect.Response, error) {
			if r.Principal.Org != "" || r.From != "127.0.0.1/32" {
				t.Errorf("%+v from %q", r.Principal, r.From)
			}
			return &dialect.Response{Status: 204, Cookie: &dialect.Cookie{Token: "the session", ExpiresAt: until}}, nil
		}},
		{Method: "POST", Path: "/out", Session: true, PerAddress: 3, Serve: func(_ context.Context, _ dialect.Core, r *dialect.Request) (*dialect.Response, error) {
			return &dialect.Response{Status: 204, Cookie: &dialect.Cookie{}}, nil
		}},
	}}
	s.HandleDialect(d, nil)
	for left := 2; left >= -1; left-- {
		r := ask(t, s, "POST", "/in")
		h := r.Header
		if left < 0 {
			after, err := strconv.Atoi(h.Get("Retry-After"))
			if r.StatusCode != 429 || err != nil || after < 1 || after > 60 || h.Get("X-RateLimit-Remaining") != "0" || h.Get("Set-Cookie") != "" {
				t.Errorf("one too many: %s %v", r.Status, h)
			}
			continue
		}
		if r.StatusCode != 204 || h.Get("X-RateLimit-Limit") != "3" || h.Get("X-RateLimit-Remaining") != strconv.Itoa(left) || h.Get("X-RateLimit-Reset") == "" {
			t.Errorf("with %d left: %s %v", left, r.Status, h)
		}
		const want = "__Host-session=the session; expires=Fri, 22 Nov 2126 03:04:05 GMT; path=/; HttpOnly; secure; SameSite=Lax"
		if h.Get("Set-Cookie") != want {
			t.Errorf("keeps %q, want %q", h.Get("Set-Cookie"), want)
		}
	}
	if r := ask(t, s, "POST", "/out"); r.StatusCode != 401 {
		t.Errorf("nobody went out: %s", r.Status)
	}
	if r := ask(t, s, "POST", "/out", "Authorization", "Bearer "+full); r.StatusCode != 403 || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("a key went out: %s", r.Status)
	}
	r := ask(t, s, "POST", "/out", "Authorization", "Bearer "+session)
	if c := r.Cookies(); r.StatusCode != 204 || len(c) != 1 || c[0].Value != "" || !c[0].Expires.Before(time.Now()) || r.Header.Get("X-RateLimit-Limit") != "3" {
		t.Errorf("went out: %s %v", r.Status, r.Header)
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
	} {
		if got := web.Network(net.ParseIP(address)).String(); got != want {
			t.Errorf("%s is of %s, want %s", address, got, want)
		}
	}
}
