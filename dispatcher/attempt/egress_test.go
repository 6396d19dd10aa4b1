package attempt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/pkg/delivery"
)

// connectProxy is a proxy as operators run them: net/http's server, which makes
// the connections that it is asked for.
type connectProxy struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request) bool // false: it was answered already

	mu    sync.Mutex
	asked []string // hosts and ports of CONNECT
}

func newConnectProxy(t testing.TB, answer func(http.ResponseWriter, *http.Request) bool) *connectProxy {
	t.Helper()
	p := &connectProxy{answer: answer}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if p.answer != nil && !p.answer(w, r) {
		return
	}
	to, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer to.Close()
	w.WriteHeader(http.StatusOK)
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	go func() {
		io.Copy(to, buffered)
		to.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(from, to)
}

// heard lists what the proxy was asked, and forgets it.
func (p *connectProxy) heard() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.asked = nil }()
	return strings.Join(p.asked, ", ")
}

// through gives a configuration for a proxy.
func through(t testing.TB, address string) Config {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg := patient()
	cfg.Proxy = u
	return cfg
}

func TestProxy(t *testing.T) {
	var told atomic.Value
	p := newConnectProxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
		told.Store(r.Header.Clone())
		return true
	})
	ca := newAuthority(t)
	hosts := make(chan string, 2)
	note := func(r *receiver, c net.Conn, br *bufio.Reader) {
		for {
			req, _, whole := r.request(br)
			if !whole {
				return
			}
			hosts <- req.Host
			io.WriteString(c, ok)
		}
	}
	plain := receive(t, note)
	secure := receiveOn(t, "127.0.0.1:0", ca.issue(t, "good.example", time.Now().Add(time.Hour)), note)

	cfg := through(t, strings.Replace(p.URL, "http://", "http://me:s%3Acret@", 1))
	cfg.RootCAs, cfg.Resolver = ca.pool, resolver(t, map[string]string{"good.example.": "127.0.0.1"})
	s := newSender(t, cfg)
	for scheme, r := range map[string]*receiver{"http": plain, "https": secure} {
		_, port, _ := net.SplitHostPort(r.addr)
		for range 2 {
			o, err := s.Send(t.Context(), &Request{URL: scheme + "://good.example:" + port + "/", Body: []byte(`{}`)})
			if err != nil || !o.OK() {
				t.Fatalf("%s: %+v, %v", scheme, o, err)
			}
			if got := <-hosts; got != "good.example:"+port {
				t.Errorf("%s: the receiver was asked as %s", scheme, got)
			}
		}
		// The proxy hears no name, and once for both requests.
		if got := p.heard(); got != "CONNECT "+r.addr {
			t.Errorf("%s: the proxy heard %q", scheme, got)
		}
	}
	h := told.Load().(http.Header)
	if user, password, _ := (&http.Request{Header: http.Header{"Authorization": h["Proxy-Authorization"]}}).BasicAuth(); user != "me" || password != "s:cret" {
		t.Errorf("the proxy was told %q", h)
	}
}

// TestProxyGuard holds that the guard comes first: what may not be dialled is
// never told to the proxy, however its name resolves.
func TestProxyGuard(t *testing.T) {
	p := newConnectProxy(t, nil)
	_, port, _ := net.SplitHostPort(p.Listener.Addr().String())
	t.Setenv("HTTP_PROXY", p.URL)
	t.Setenv("HTTPS_PROXY", p.URL)
	cfg := through(t, p.URL)
	cfg.AllowPrivate = nil
	cfg.Resolver = resolver(t, map[string]string{
		"rebound.example.": "127.0.0.1", "six.example.": "::1", "mapped.example.": "64:ff9b::7f00:1", "metadata.example.": "169.254.169.254",
		"localhost.": "127.0.0.1",
	})
	s := newSender(t, cfg)
	for _, host := range append([]string{"rebound.example:%s", "six.example", "mapped.example", "metadata.example"}, insiders...) {
		host = strings.ReplaceAll(strings.ReplaceAll(host, "%%", "%"), "%s", port)
		for _, scheme := range []string{"http", "https"} {
			o, err := s.Send(t.Context(), &Request{URL: scheme + "://" + host + "/"})
			if err != nil || o.Class != delivery.BlockedAddress && o.Class != delivery.DNS {
				t.Errorf("%s://%s: %s %q, %v", scheme, host, o.Class, o.Detail, err)
			}
		}
	}
	if got := p.heard(); got != "" {
		t.Errorf("the proxy heard %s", got)
	}

	// Of several addresses, only those that may be dialled are told.
	cfg.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	cfg.Resolver = resolver(t, map[string]string{"both.example.": "127.0.0.1,127.0.0.2,10.0.0.1"})
	s = newSender(t, cfg)
	r := receiveOn(t, "127.0.0.2:0", nil, answer(ok))
	_, port, _ = net.SplitHostPort(r.addr)
	if o, err := s.Send(t.Context(), &Request{URL: "http://both.example:" + port + "/"}); err != nil || !o.OK() {
		t.Errorf("%+v, %v", o, err)
	}
	if got := p.heard(); got != "CONNECT "+r.addr {
		t.Errorf("the proxy heard %s", got)
	}
}

// TestProxyRefuses: what a proxy says of a receiver is an outcome.
func TestProxyRefuses(t *testing.T) {
	hijacked := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				io.WriteString(c, text)
				c.Close()
			}
			return false
		}
	}
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) bool
		class  delivery.Class
		detail string
	}{
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return false }, delivery.Proxy, "403 Forbidden"},
		{"receiver away", nil, delivery.Proxy, "502 Bad Gateway"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://127.0.0.1/", http.StatusFound)
			return false
		}, delivery.Proxy, "302 Found"},
		{"closes", hijacked(""), delivery.Proxy, "didn't answer"},
		{"garbage", hijacked("\x05\x00\r\n\r\n"), delivery.Proxy, "didn't answer"},
		{"endless header", hijacked("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 20<<10)), delivery.Proxy, "didn't answer"},
		{"a receiver that speaks first", hijacked("HTTP/1.1 200 OK\r\n\r\n220 mail.example ESMTP\r\n"), delivery.Protocol, "isn't HTTP"},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return false }, delivery.Timeout, "no connection"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := through(t, newConnectProxy(t, tc.answer).URL)
			if tc.class == delivery.Timeout {
				cfg.Dial = local().Dial
			}
			s := newSender(t, cfg)
			o, err := s.Send(t.Context(), &Request{URL: "http://127.0.0.1:1024/", Body: []byte(`{}`)})
			if err != nil || o.Class != tc.class || !strings.Contains(o.Detail, tc.detail) {
				t.Errorf("outcome %s %q, %v", o.Class, o.Detail, err)
			}
			checkOutcome(t, &o)
		})
	}
}

// TestProxyAway: that there is no proxy is nobody's failure. Attempts wait for it,
// and the operator is told, but not the password.
func TestProxyAway(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := receive(t, answer(ok))
	held, err := net.Listen("tcp", "127.83.1.1:0") // where nobody else gets its port
	if err != nil {
		t.Fatal(err)
	}
	address := held.Addr().String()
	held.Close()
	var mu sync.Mutex
	var said bytes.Buffer
	cfg := through(t, "http://me:hunter2@"+address)
	cfg.Total = 2 * time.Second
	cfg.Logger = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return said.Write(b)
	}), nil))
	s := newSender(t, cfg)
	_, err = s.Send(t.Context(), &Request{URL: "http://" + r.addr})
	if !errors.Is(err, ErrNotMade) || !strings.Contains(err.Error(), "--egress-proxy") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without a proxy: %v", err)
	}

	refuse := atomic.Bool{}
	refuse.Store(true)
	p := &connectProxy{answer: func(w http.ResponseWriter, _ *http.Request) bool {
		if refuse.Load() {
			w.WriteHeader(http.StatusProxyAuthRequired)
		}
		return !refuse.Load()
	}}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	if _, err = s.Send(t.Context(), &Request{URL: "http://" + r.addr}); !errors.Is(err, ErrNotMade) || !strings.Contains(err.Error(), "password") {
		t.Errorf("not let in: %v", err)
	}
	s.cfg.Total = time.Minute // now it may be waited for
	time.AfterFunc(200*time.Millisecond, func() { refuse.Store(false) })
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr}); err != nil || !o.OK() {
		t.Errorf("once the proxy is there: %+v, %v", o, err)
	}
	mu.Lock()
	defer mu.Unlock()
	text := said.String()
	if strings.Count(text, "webhooks wait") != 1 || strings.Count(text, "webhooks go out again") != 1 || strings.Contains(text, "hunter2") {
		t.Errorf("the operator was told\n%s", text)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestFrom(t *testing.T) {
	from := make(chan string, 1)
	r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		from <- host
		answer(ok)(r, c, br)
	})
	p := newConnectProxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		from <- host
		w.WriteHeader(http.StatusForbidden)
		return false
	})
	cfg := patient()
	cfg.From = []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	s := newSender(t, cfg)
	if o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr}); err != nil || !o.OK() {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := <-from; got != "127.0.0.9" {
		t.Errorf("the receiver saw %s", got)
	}
	if o, err := s.Send(t.Context(), &Request{URL: "http://[::1]:1024"}); err != nil || o.Class != delivery.Connection || !strings.Contains(o.Detail, "from here") {
		t.Errorf("to the other family: %s %q, %v", o.Class, o.Detail, err)
	}

	proxied := through(t, p.URL)
	proxied.From = cfg.From
	if o, err := newSender(t, proxied).Send(t.Context(), &Request{URL: "http://" + r.addr}); err != nil || o.Class != delivery.Proxy {
		t.Errorf("%+v, %v", o, err)
	}
	if got := <-from; got != "127.0.0.9" {
		t.Errorf("the proxy saw %s", got)
	}

	cfg.From, cfg.Total = []netip.Addr{netip.MustParseAddr("192.0.2.1")}, local().Total
	if _, err := newSender(t, cfg).Send(t.Context(), &Request{URL: "http://" + r.addr}); !errors.Is(err, ErrNotMade) || !strings.Contains(err.Error(), "--egress-bind") {
		t.Errorf("from an address that isn't ours: %v", err)
	}
}
