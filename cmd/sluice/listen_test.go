package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// received is what came to somebody's server, by event.
type received struct {
	mu     sync.Mutex
	header map[string]http.Header
	body   map[string]string
	count  map[string]int
}

func (r *received) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	id := req.Header.Get("webhook-id")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.header == nil {
		r.header, r.body, r.count = map[string]http.Header{}, map[string]string{}, map[string]int{}
	}
	r.header[id], r.body[id] = req.Header, string(body)
	r.count[id]++
	if status := (struct{ Status int }{200}); json.Unmarshal(body, &status) == nil {
		w.WriteHeader(status.Status)
	}
}

func (r *received) of(id string) (http.Header, string, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.header[id], r.body[id], r.count[id]
}

// listening is a sluice listen in this process.
type listening struct {
	out, err lockedBuffer
	stop     func() int
}

func startListening(t *testing.T, args ...string) *listening {
	t.Helper()
	l := new(listening)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"listen"}, args...), std{Out: &l.out, Err: &l.err}) }()
	l.stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { l.stop() })
	l.await(t, &l.err, "Ctrl-C ends")
	return l
}

func (l *listening) await(t *testing.T, b *lockedBuffer, pattern string) {
	t.Helper()
	eventually(t, patience, func() error {
		if !regexp.MustCompile(pattern).MatchString(b.String()) {
			return fmt.Errorf("it didn't say %q, but\n%s%s", pattern, &l.out, &l.err)
		}
		return nil
	})
}

// TestListen: what comes to a developer's machine is what comes to an endpoint, to
// the byte, but for ids, times and what follows from them.
func TestListen(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a := n.member(t)
	secret := a.printedSecret(t)
	endpoint, local := new(received), new(received)
	in := map[string]any{"url": "http://" + serveOn(t, "127.0.0.1:0", endpoint.ServeHTTP), "events": []string{"settlement.*"}, "secret": secret}
	if _, err := a.call(t.Context(), "POST", "/v1/webhooks", in, nil); err != nil {
		t.Fatal(err)
	}
	address := serveOn(t, "127.0.0.1:0", local.ServeHTTP)
	l := startListening(t, "--url", a.base, "--key", a.token, "--forward-to", address+"/hook?a=b", "--channels", "settlement.*", "--retry")
	if !strings.Contains(l.err.String(), secret) {
		t.Errorf("the secret isn't said:\n%s", &l.err)
	}

	publish := func(typ, data string) string {
		t.Helper()
		var answer struct{ ID string }
		if _, err := a.call(t.Context(), "POST", "/v1/events", map[string]any{"type": typ, "data": json.RawMessage(data)}, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.ID
	}
	unwanted := publish("rfq.created", `{}`)
	ids := []string{
		publish("settlement.pending", `{}`),
		publish("settlement.pending", `{"b":1,"10":[1e21,1e-7,45000.0],"2":{"x":"naïve \u2028 <b>&\"\\/"},"":null}`),
		publish("settlement.complete", `{"type":"mine","id":7,"timestamp":{},"a":"\u0000\ud83d\ude00"}`),
		publish("settlement.complete", `{"large":"`+strings.Repeat("é", 100<<10)+`"}`),
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`(?i)signature|timestamp|webhookid|delivery-?id`)
	for _, id := range ids {
		eventually(t, patience, func() error {
			if _, _, n := endpoint.of(id); n == 0 {
				return fmt.Errorf("the endpoint didn't get %s", id)
			}
			if _, _, n := local.of(id); n == 0 {
				return fmt.Errorf("%s wasn't forwarded: %s", id, &l.err)
			}
			return nil
		})
		wantHeader, want, _ := endpoint.of(id)
		header, body, _ := local.of(id)
		if body != want {
			t.Errorf("forwarded\n%.300s, delivered\n%.300s", body, want)
		}
		for _, h := range []http.Header{header, wantHeader} {
			if err := verifier.Verify([]byte(body), h); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			maps.DeleteFunc(h, func(name string, _ []string) bool { return own.MatchString(name) })
		}
		if !maps.EqualFunc(header, wantHeader, func(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }) {
			t.Errorf("forwarded with %v, delivered with %v", header, wantHeader)
		}
	}

	// A line for each attempt.
	l.await(t, &l.out, ids[3]+` +\S+s  200 OK\n`)
	failed := publish("settlement.failed", `{"status":503}`)
	l.await(t, &l.out, "settlement.failed         "+failed+` +\S+s  503 Service Unavailable · again in 5s\n`)
	gone := publish("settlement.failed", `{"status":410}`)
	l.await(t, &l.out, gone+` +\S+s  410 Gone · this would disable an endpoint\n`)
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, &l.err)
	}
	if text := l.out.String(); strings.Contains(text, unwanted) {
		t.Errorf("printed\n%s", text)
	}
	end := regexp.MustCompile(`\n4 delivered, 1 failed, 1 won't be tried again now\. To go on from here: --cursor (\S+)\n$`).FindStringSubmatch(l.err.String())
	if end == nil {
		t.Fatalf("at the end it said\n%s", &l.err)
	}

	// From there on, with nothing lost and nothing twice; and nobody there.
	missed := publish("settlement.complete", `{}`)
	l = startListening(t, "--url", a.base, "--key", a.token, "--forward-to", freeAddress(t), "--cursor", end[1])
	l.await(t, &l.out, missed+` +\S+s  connection: connection refused\n`)
	if text := l.out.String(); strings.Contains(text, ids[3]) || strings.Contains(text, gone) {
		t.Errorf("after the cursor came\n%s", text)
	}
}

// TestListenReconnects: a connection that breaks costs no event.
func TestListenReconnects(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a := n.member(t)
	local := new(received)
	address := serveOn(t, "127.0.0.1:0", local.ServeHTTP)
	wire := newWire(t, strings.TrimPrefix(a.base, "http://"))
	l := startListening(t, "--url", "http://"+wire.address, "--key", a.token, "--forward-to", address)
	first := a.publish(t, "rfq.created", nil)
	l.await(t, &l.out, first)
	wire.cut()
	missed := a.publish(t, "rfq.created", nil)
	l.await(t, &l.err, "connecting again")
	l.await(t, &l.out, missed)
	last := a.publish(t, "rfq.created", nil)
	l.await(t, &l.out, last)
	for _, id := range []string{first, missed, last} {
		if _, _, n := local.of(id); n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}

	// A key that is refused ends it, with what to do.
	if code := run(t.Context(), []string{"listen", "--url", a.base, "--key", a.token + "x", "--forward-to", address}, std{Out: io.Discard, Err: &l.err}); code != 1 {
		t.Errorf("with a bad key: exit code %d", code)
	}
}

// printedSecret asks for the secret, as a script would.
func (m member) printedSecret(t *testing.T) string {
	t.Helper()
	var out, errs lockedBuffer
	if code := run(t.Context(), []string{"listen", "--key", m.token, "--print-secret"}, std{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	return strings.TrimSpace(out.String())
}

// wire is a connection that can be cut, between a client and a server.
type wire struct {
	address string
	mu      sync.Mutex
	conns   []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: ln.Addr().String()}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			go io.Copy(near, far)
			go io.Copy(far, near)
		}
	}()
	t.Cleanup(func() { ln.Close(); w.cut() })
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}
