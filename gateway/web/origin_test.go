package web_test

import (
	"net/http"
	"testing"

	"sluice/gateway/web"
)

// ask sends a request with these headers and gives the answer's.
func ask(t *testing.T, s *server, method, path string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestOrigins(t *testing.T) {
	const ours, other = "https://app.example", "https://evil.example"
	s := start(t, web.Config{Origins: []string{"http://localhost:3000", ours}}, routes...)
	const auth, allow, with = "Authorization", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"
	for _, tt := range []struct {
		name, method, path, origin string
		key                        string
		status                     int
		allowed                    bool
	}{
		{"a page of ours", "GET", "/things", ours, full, 200, true},
		{"which is refused", "GET", "/things", ours, "nonsense", 401, true},
		{"and lost", "GET", "/nowhere", ours, full, 404, true},
		{"a page of others", "GET", "/things", other, full, 200, false},
		{"one that looks like ours", "GET", "/things", ours + ".evil.example", full, 200, false},
		{"a page of nowhere", "GET", "/things", "null", full, 200, false},
		{"no page", "GET", "/things", "", full, 200, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := ask(t, s, tt.method, tt.path, "Origin", tt.origin, auth, "Bearer "+tt.key)
			want := map[bool]string{true: tt.origin}[tt.allowed]
			if r.StatusCode != tt.status || r.Header.Get(allow) != want || (r.Header.Get(with) == "true") != tt.allowed || r.Header.Get("Vary") != "Origin" {
				t.Errorf("%s %v", r.Status, r.Header)
			}
		})
	}
	t.Run("asked before", func(t *testing.T) {
		r := ask(t, s, "OPTIONS", "/things", "Origin", ours, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization, last-event-id")
		h := r.Header
		if r.StatusCode != 204 || h.Get(allow) != ours || h.Get("Access-Control-Allow-Methods") != "GET, HEAD, OPTIONS, POST" || h.Get("Access-Control-Allow-Headers") != "authorization, last-event-id" {
			t.Errorf("%s %v", r.Status, h)
		}
		r = ask(t, s, "OPTIONS", "/things", "Origin", other, "Access-Control-Request-Method", "POST")
		if h := r.Header; h.Get(allow) != "" || h.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("to others: %v", h)
		}
	})
	t.Run("none", func(t *testing.T) {
		s := start(t, web.Config{}, routes...)
		if r := ask(t, s, "GET", "/things", "Origin", ours, auth, "Bearer "+full); r.Header.Get(allow) != "" || r.Header.Get("Vary") != "" {
			t.Errorf("%v", r.Header)
		}
	})
}

// TestUpgradeBeside: one path may be a WebSocket's for who asks for one, and a call's
// for who doesn't.
func TestUpgradeBeside(t *testing.T) {
	says := func(what string) func(*web.Call) error {
		return func(c *web.Call) error {
			c.Response.Header.Set("X-Says", what)
			return nil
		}
	}
	s := start(t, web.Config{},
		web.Route{Method: "GET", Path: "/both", Upgrade: true, Open: true, Serve: says("socket")},
		web.Route{Method: "GET", Path: "/both", Serve: says("call")},
		web.Route{Method: "GET", Path: "/alone", Upgrade: true, Open: true, Serve: says("socket")})
	for _, tt := range []struct {
		method, path, upgrade, key string
		status                     int
		says, allow                string
	}{
		{"GET", "/both", "WebSocket", "", 200, "socket", ""},
		{"GET", "/both", "", "", 401, "", ""},
		{"GET", "/both", "", full, 200, "call", ""},
		{"GET", "/both", "h2c", full, 200, "call", ""},
		{"HEAD", "/both", "", full, 200, "call", ""},
		{"POST", "/both", "websocket", full, 405, "", "GET, HEAD, OPTIONS"},
		{"GET", "/alone", "websocket", "", 200, "socket", ""},
		{"GET", "/alone", "", "", 200, "socket", ""},
		{"POST", "/alone", "", "", 405, "", "GET, HEAD, OPTIONS"},
	} {
		headers := []string{"Upgrade", tt.upgrade}
		if tt.key != "" {
			headers = append(headers, "Authorization", "Bearer "+tt.key)
		}
		r := ask(t, s, tt.method, tt.path, headers...)
		if r.StatusCode != tt.status || r.Header.Get("X-Says") != tt.says || r.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s %q: %s %v", tt.method, tt.path, tt.upgrade, r.Status, r.Header)
		}
	}
}
