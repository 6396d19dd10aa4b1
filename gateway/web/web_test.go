package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The library's clock, for good.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// The library's housekeeper, which looks every 10 s whether its server is still there.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// access knows some keys, and a session.
type access struct{ plan control.Plan }

const (
	full  = "full-key"
	poor  = "poor-key"
	bound = "bound-key" // for one network

	session = "session-token"
)

func (a access) Authenticate(_ context.Context, token string) (*key.Principal, error) {
	p := &key.Principal{Org: "org_a", Environment: event.Sandbox, KeyID: "key_" + token}
	switch token {
	case full:
		p.Scopes = key.Scopes
		return p, nil
	case poor:
		p.Scopes = []key.Scope{key.Subscribe}
		return p, nil
	case bound:
		p.Scopes, p.Network = key.Scopes, "testnet"
		return p, nil
	case session:
		p.Environment, p.Session = event.Live, true
		return p, nil
	case "expired":
		return nil, control.ErrExpired
	case "unavailable":
		return nil, control.ErrUnavailable
	case "other-org":
		p.Org = "org_b"
		return p, nil
	case "deleted-org":
		p.Org = "org_gone"
		return p, nil
	}
	return nil, control.ErrUnauthorized
}

func (a access) Org(id string) *control.Org {
	if id == "org_gone" {
		return nil
	}
	return &control.Org{ID: id, Plan: a.plan}
}

type server struct {
	*web.Server
	addr string
	done chan error
}

func start(t *testing.T, cfg web.Config, routes ...web.Route) *server {
	t.Helper()
	if cfg.Access == nil {
		cfg.Access = access{control.Enterprise}
	}
	s := &server{Server: web.New(cfg), done: make(chan error, 1)}
	for _, r := range routes {
		s.Handle(r)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	go func() { s.done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-s.done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func echo(c *web.Call) error {
	who := "nobody"
	if c.Principal != nil {
		who = c.Principal.Org
	}
	c.JSON(200, fmt.Appendf(nil, `{"path":%q,"id":%q,"sub":%q,"body":%d,"who":%q}`, c.Path(), c.Param("id"), c.Param("sub"), len(c.PostBody()), who))
	return nil
}

var routes = []web.Route{
	{Method: "GET", Path: "/open", Open: true, Serve: echo},
	{Method: "POST", Path: "/open", Open: true, MaxBody: web.MaxBody, Serve: echo},
	{Method: "POST", Path: "/big", Open: true, MaxBody: 3 << 20, Serve: echo},
	{Method: "GET", Path: "/things", Serve: echo},
	{Method: "POST", Path: "/things", Scope: key.Manage, Serve: echo},
	{Method: "GET", Path: "/things/{id}", Serve: echo},
	{Method: "DELETE", Path: "/things/{id}", Serve: echo},
	{Method: "GET", Path: "/filtered", Open: true, Serve: func(c *web.Call) error {
		if err := c.OnlyQuery("types", "limit"); err != nil {
			return err
		}
		return echo(c)
	}},
	{Method: "GET", Path: "/things/fixed", Serve: echo},
	{Method: "GET", Path: "/things/{id}/subs/{sub}", Serve: echo},
	{Method: "GET", Path: "/things/fixed/other", Serve: echo},
	{Method: "POST", Path: "/uncounted", Uncounted: true, Serve: echo},
	{Method: "GET", Path: "/broken", Open: true, Serve: func(*web.Call) error { return errors.New("a secret of ours") }},
	{Method: "GET", Path: "/panics", Open: true, Serve: func(*web.Call) error { panic("a secret of ours") }},
	{Method: "GET", Path: "/refuses", Open: true, Serve: func(*web.Call) error {
		return fmt.Errorf("around: %w", &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "no", RetryAfter: 3, Issues: []dialect.Issue{{Path: []string{"a", "0"}, Message: "b"}}})
	}},
}

// exchange writes raw bytes and reads all answers until the server closes; one that
// doesn't is waited for long.
func exchange(t *testing.T, addr, raw string) (statuses []int, closed bool, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	br := bufio.NewReader(io.TeeReader(conn, &all))
	for {
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			var ne net.Error
			return statuses, !(errors.As(err, &ne) && ne.Timeout()), all.String()
		}
		io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
}

func TestRefusedFramingClosesTheConnection(t *testing.T) {
	s := start(t, web.Config{}, routes...) // with time-outs too long to close for us
	for _, raw := range []string{
		"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /open HTTP/1.2\r\nHost: a\r\n\r\n",
		"GET /open HTTP/1.1\r\nHost: a@b\r\n\r\n",
		"GET /open HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
	} {
		if _, closed, text := exchange(t, s.addr, raw); !closed {
			t.Errorf("%q: stays open: %s", raw, text)
		} else if !strings.Contains(text, "Connection: close") {
			t.Errorf("%q: doesn't say that it closes: %s", raw, text)
		}
	}
	const good = "GET /open HTTP/1.1\r\nHost: a\r\n"
	if statuses, _, text := exchange(t, s.addr, good+"\r\n"+good+"Connection: close\r\n\r\n"); fmt.Sprint(statuses) != "[200 200]" {
		t.Errorf("a good request's connection: %v: %s", statuses, text)
	}
}

// A client that sends before it reads must get to see why its body isn't taken.
func TestTooLargeIsSaidToWhoStillSends(t *testing.T) {
	s := start(t, web.Config{}, routes...)
	for range 20 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		const size = 5 << 20
		_, err = io.WriteString(conn, fmt.Sprintf("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
		if err != nil {
			t.Fatalf("sending the rest: %v", err)
		}
		text, err := io.ReadAll(conn)
		if err != nil || strings.Count(string(text), "HTTP/1.1 ") != 1 || !strings.HasPrefix(string(text), "HTTP/1.1 413") || !strings.Contains(string(text), "too_large") {
			t.Fatalf("%v: %s", err, text)
		}
		conn.Close()
	}
}

// Who has no good key gets an answer before a large body is read.
func TestStrangersBodies(t *testing.T) {
	s := start(t, web.Config{}, routes...)
	const size = 100 << 10
	request := func(path, header string, body int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", path, header, size, strings.Repeat("x", body))
	}
	for _, c := range []struct {
		name, raw string
		status    int
	}{
		{"no key", request("/things", "", 0), 401},
		{"a key of nobody's", request("/things", "X-API-Key: "+string(key.New(event.Sandbox))+"\r\n", 0), 401},
		{"two keys", request("/things", "X-API-Key: a\r\nAuthorization: Bearer b\r\n", 0), 400},
		{"no such path", request("/nothing", "X-API-Key: "+full+"\r\n", 0), 404},
		{"a good key", request("/things", "X-API-Key: "+full+"\r\n", size), 200},
	} {
		if statuses, _, text := exchange(t, s.addr, c.raw); len(statuses) != 1 || statuses[0] != c.status {
			t.Errorf("%s: %v, want %d: %s", c.name, statuses, c.status, text)
		}
	}
}

// call makes one request with a good client.
func call(t *testing.T, s *server, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRoutesKeysAndScopes(t *testing.T) {
	s := start(t, web.Config{Metrics: prometheus.NewRegistry()}, routes...)
	bearer := func(tok string) []string { return []string{"Authorization", "Bearer " + tok} }
	for _, c := range []struct {
		name, method, path string
		header             []string
		status             int
		holds              string
	}{
		{"open", "GET", "/open", nil, 200, `"who":"nobody"`},
		{"a known parameter", "GET", "/filtered?types=a.b", nil, 200, `"who"`},
		{"a mistyped parameter", "GET", "/filtered?type=a.b", nil, 400, `"path":["type"]`},
		{"a key where none is needed", "GET", "/open", bearer("x"), 200, `"who":"nobody"`},
		{"bearer", "GET", "/things", bearer(full), 200, `"who":"org_a"`},
		{"bearer in lower case", "GET", "/things", []string{"Authorization", "bearer " + full}, 200, `"who":"org_a"`},
		{"X-API-Key", "GET", "/things", []string{"X-API-Key", full}, 200, `"who":"org_a"`},
		{"the same key twice", "GET", "/things", []string{"X-API-Key", full, "Authorization", "Bearer " + full}, 200, `"who":"org_a"`},
		{"two keys", "GET", "/things", []string{"X-API-Key", poor, "Authorization", "Bearer " + full}, 400, `two different keys`},
		{"two bearers", "GET", "/things", []string{"Authorization", "Bearer " + poor, "Authorization", "Bearer " + full}, 400, `two different keys`},
		{"an empty X-API-Key beside a key", "GET", "/things", []string{"X-API-Key", "", "Authorization", "Bearer " + full}, 200, `"who":"org_a"`},
		{"an empty X-API-Key", "GET", "/things", []string{"X-API-Key", ""}, 401, `"unauthorized"`},
		{"no key", "GET", "/things", nil, 401, `"unauthorized"`},
		{"basic", "GET", "/things", []string{"Authorization", "Basic YTpi"}, 401, `"unauthorized"`},
		{"a key in the URL", "GET", "/things?api_key=" + full + "&token=" + full, nil, 401, `"unauthorized"`},
		{"an unknown key", "GET", "/things", bearer("nope"), 401, `not known`},
		{"an expired key", "GET", "/things", bearer("expired"), 401, `expired`},
		{"a key of a deleted org", "GET", "/things", bearer("deleted-org"), 401, `not known`},
		{"a key that can't be looked up", "GET", "/things", bearer("unavailable"), 503, `"unavailable"`},
		{"the scope", "POST", "/things", bearer(full), 200, `"who":"org_a"`},
		{"without the scope", "POST", "/things", bearer(poor), 403, `\"manage\"`},
		{"a parameter", "GET", "/things/x", bearer(full), 200, `"id":"x"`},
		{"a parameter, escaped", "GET", "/things/a%20%2Fb", bearer(full), 200, `"id":"a /b"`},
		{"written out", "GET", "/things/fixed", bearer(full), 200, `"id":""`},
		{"written out, other method", "GET", "/things/fixed/other", bearer(full), 200, `"id":""`},
		{"a parameter where something is written out", "GET", "/things/fixed/subs/s", bearer(full), 200, `"id":"fixed","sub":"s"`},
		{"two parameters", "GET", "/things/a/subs/b", bearer(full), 200, `"id":"a","sub":"b"`},
		{"no such path", "GET", "/nothing", nil, 404, `"not_found"`},
		{"half a path", "GET", "/things/a/subs", bearer(full), 404, `"not_found"`},
		{"an empty parameter", "GET", "/things//subs/b", bearer(full), 404, `"not_found"`},
		{"the root", "GET", "/", nil, 404, `"not_found"`},
		{"no such method", "PUT", "/things/x", nil, 405, `"method_not_allowed"`},
		{"a broken call", "GET", "/broken", nil, 500, `something went wrong on our side`},
		{"a panic", "GET", "/panics", nil, 500, `something went wrong on our side`},
		{"a refusal", "GET", "/refuses", nil, 409, `{"error":{"code":"conflict","message":"no","issues":[{"path":["a","0"],"message":"b"}]}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := call(t, s, c.method, c.path, c.header...)
			if resp.StatusCode != c.status || !strings.Contains(body, c.holds) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if strings.Contains(body, "a secret of ours") || strings.Contains(body, full) {
				t.Errorf("tells too much: %s", body)
			}
			h := resp.Header
			if h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", h)
			}
			if (resp.StatusCode == 401) != (h.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("headers %v", h)
			}
			if resp.StatusCode == 405 && h.Get("Allow") != "DELETE, GET, HEAD, OPTIONS" {
				t.Errorf("Allow %q", h.Get("Allow"))
			}
			if resp.StatusCode == 409 && h.Get("Retry-After") != "3" {
				t.Errorf("Retry-After %q", h.Get("Retry-After"))
			}
		})
	}
	if resp, body := call(t, s, "HEAD", "/open"); resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	if resp, body := call(t, s, "OPTIONS", "/things"); resp.StatusCode != 204 || body != "" || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS, POST" {
		t.Errorf("OPTIONS: %d %q %v", resp.StatusCode, body, resp.Header)
	}
}

func TestPlanRate(t *testing.T) {
	s := start(t, web.Config{Access: access{control.Free}}, routes...)
	statuses := func(n int, method, path, tok string) (out []int, last *http.Response) {
		for range n {
			resp, _ := call(t, s, method, path, "X-API-Key", tok)
			out, last = append(out, resp.StatusCode), resp
		}
		return out, last
	}
	if got, _ := statuses(10, "GET", "/things", full); fmt.Sprint(got) != fmt.Sprint([]int{200, 200, 200, 200, 200, 200, 200, 200, 200, 200}) {
		t.Errorf("the first ten: %v", got)
	}
	got, last := statuses(2, "GET", "/things", poor)
	if fmt.Sprint(got) != "[429 429]" {
		t.Errorf("the eleventh, with another key of the org: %v", got)
	}
	if after, err := strconv.Atoi(last.Header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
		t.Errorf("Retry-After %q", last.Header.Get("Retry-After"))
	}
	if got, _ := statuses(12, "POST", "/uncounted", full); got[11] != 200 {
		t.Errorf("what doesn't count: %v", got)
	}
	if got, _ := statuses(1, "GET", "/things", "other-org"); got[0] != 200 {
		t.Errorf("another org: %v", got)
	}
}

func TestHijackedConnectionsOutliveTheTimeouts(t *testing.T) {
	upgrader := websocket.FastHTTPUpgrader{}
	t.Parallel() // it waits most of the time
	const timeout = time.Second
	s := start(t, web.Config{ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout},
		web.Route{Method: "GET", Path: "/ws", Open: true, Serve: web.Raw(func(ctx *fasthttp.RequestCtx) {
			upgrader.Upgrade(ctx, func(c *websocket.Conn) {
				for {
					kind, b, err := c.ReadMessage()
					if err != nil || c.WriteMessage(kind, b) != nil {
						return
					}
				}
			})
		})})
	c, _, err := websocket.DefaultDialer.Dial("ws://"+s.addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		time.Sleep(2 * timeout) // real sockets, real time
		if err := c.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.ReadMessage(); err != nil || string(b) != "x" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	// Draining doesn't wait for streams: those are told by who serves them.
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte("y")); err != nil {
		t.Error(err)
	}
}
