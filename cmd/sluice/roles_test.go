package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/pkg/control"
)

// TestRoles: three processes with a role each are one sluice.
func TestRoles(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		args := kafkaArgs(t)
		with := func(one role) *process {
			return startProcess(t, slices.Concat(args, []string{"--roles", string(one)}))
		}
		api, gateway, dispatcher := with(roleAPI), with(roleGateway), with(roleDispatcher)
		on := func(p *process) member {
			return member{&client{base: "http://" + p.address, token: api.key}, control.DefaultOrg}
		}
		a, there := on(api), on(gateway)
		h, l := a.hook(t, []int{500}, "*"), there.listen(t, "", "*")
		id := a.publish(t, "rfq.created", nil)
		cursor, _ := l.next(t, id)["cursor"].(string)
		if first, second := h.next(t, id), h.next(t, id); first.attempt != "1" || second.attempt != "2" {
			t.Errorf("attempts %s and %s", first.attempt, second.attempt)
		}
		second := a.publish(t, "rfq.created", nil)
		l.next(t, second)
		h.next(t, second)
		there.listen(t, cursor, "*").next(t, second)
		var page struct{ Data []struct{ ID string } }
		if _, err := a.call(t.Context(), "GET", "/v1/events", nil, &page); err != nil || len(page.Data) != 2 {
			t.Errorf("listed %v, %v", page, err)
		}

		if conn, err := net.Dial("tcp", dispatcher.address); err == nil {
			conn.Close()
			t.Error("the dispatcher listens")
		}
		for _, c := range []struct {
			url  string
			want int
			says string
		}{
			{"http://" + api.address + "/v1/ws", 404, ""},
			{"http://" + gateway.address + "/v1/events", 404, ""},
			{"http://" + gateway.ops + "/admin/v1/orgs", 404, "role api"},
			{"http://" + api.ops + "/readyz", 200, "log: ready\ncontrol: ready\n"},
			{"http://" + gateway.ops + "/readyz", 200, "streams: ready\n"},
			{"http://" + dispatcher.ops + "/readyz", 200, "dispatcher: ready\n"},
		} {
			resp, err := http.Get(c.url)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != c.want || !strings.Contains(string(text), c.says) {
				t.Errorf("%s: %s %s", c.url, resp.Status, text)
			}
		}
	})
}

// TestReadyNamesParts: what isn't ready is told with the rest.
func TestReadyNamesParts(t *testing.T) {
	n := startStory(t, nodeConfig{})
	n.ops.require("extra", func(context.Context) error { return io.ErrUnexpectedEOF })
	resp, err := http.Get(n.OpsURL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || !strings.HasPrefix(string(text), "extra: unexpected EOF\n") || !strings.Contains(string(text), "streams: ready\n") {
		t.Errorf("%s: %s", resp.Status, text)
	}
}

// TestStartIsQuiet: a new log has nothing to tell.
func TestStartIsQuiet(t *testing.T) {
	said := new(lockedBuffer)
	n, err := startNode(t.Context(), nodeConfig{Listen: "127.0.0.1:0", Ops: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"),
		Logger: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
	if lines := strings.Count(said.String(), "\n"); lines > 5 {
		t.Errorf("%d lines: %s", lines, said)
	}
}
