package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestNothingInside: an endpoint inside is refused when it is registered, in
// whatever form its address is written, with a word on what to do; and one that
// redirects inside is asked, and not followed. Only one address is open here.
func TestNothingInside(t *testing.T) {
	var inside, asked atomic.Int64
	canary := serveOn(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { inside.Add(1) })
	_, port, _ := net.SplitHostPort(canary)
	redirect := serveOn(t, "127.0.0.2:0", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "http://"+canary+"/", http.StatusTemporaryRedirect)
	})
	n, err := startNode(t.Context(), nodeConfig{
		Listen: "127.0.0.1:0", Ops: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"), Logger: slog.New(slog.DiscardHandler),
		HTTP: true, Private: prefixes{Set: true, Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	api := &client{base: n.URL(), token: n.PrintedKey}
	register := func(url string) error {
		_, err := api.call(t.Context(), "POST", "/v1/webhooks", map[string]any{"url": url, "events": []string{"*"}}, nil)
		return err
	}
	for _, host := range []string{
		"127.0.0.1:%s", "[::1]:%s", "0.0.0.0:%s", "[::ffff:127.0.0.1]:%s", "2130706433:%s", "127.1:%s", "0x7f000001:%s", "169.254.169.254",
		"[64:ff9b::7f00:1]:%s", "10.0.0.1",
	} {
		url := "http://" + strings.Replace(host, "%s", port, 1) + "/"
		err := register(url)
		var refused *refusedError
		if !errors.As(err, &refused) || refused.status != 400 || len(refused.issues) != 1 || fmt.Sprint(refused.issues[0].path) != "[url]" ||
			!strings.Contains(refused.issues[0].message, "give") && !strings.Contains(refused.issues[0].message, "write") {
			t.Errorf("%s: %v", url, err)
		}
	}
	// A name may be anything where private addresses are allowed: it is looked at
	// when it is dialled.
	for _, url := range []string{"http://localhost:" + port + "/", "http://" + redirect + "/"} {
		if err := register(url); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := api.call(t.Context(), "POST", "/v1/events", map[string]any{"type": "rfq.created", "data": map[string]any{}}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		_, text := get(t, n.OpsURL()+"/metrics")
		if asked.Load() == 0 || strings.Contains(text, `sluice_attempts_total{class="blocked_address"} 0`) ||
			strings.Contains(text, `sluice_attempts_total{class="http_error"} 0`) {
			return fmt.Errorf("asked %d times", asked.Load())
		}
		return nil
	})
	if n := inside.Load(); n != 0 {
		t.Errorf("%d requests came in", n)
	}
}

// serveOn serves HTTP until the test ends, and gives the address.
func serveOn(t *testing.T, address string, handle http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return ln.Addr().String()
}
