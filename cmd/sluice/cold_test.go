package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

// A node that starts without a snapshot isn't ready before it knows all endpoints,
// and nothing that was published before passes them by.
func TestColdStart(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		cfg := nodeConfig{Listen: "127.0.0.1:0", Ops: freeAddress(t), Data: filepath.Join(t.TempDir(), "data"), Logger: slog.New(slog.DiscardHandler)}
		const orgs = 50_000
		longAgo(t, filepath.Join(cfg.Data, logDir), orgs)
		early := make(chan string, 1)
		go func() {
			defer close(early)
			for said := ""; t.Context().Err() == nil; {
				resp, err := http.Get("http://" + cfg.Ops + "/readyz")
				if err != nil {
					continue
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					early <- said
					return
				}
				if !strings.Contains(said, "still starting") { // parts that are slower say so behind it
					said = string(text)
				}
			}
		}()
		n, err := startNode(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Stop(t.Context())
		if at := n.control.Applied(); at < orgs {
			t.Errorf("it is ready, and knows %d of %d orgs", at, orgs)
		}
		if said := <-early; !strings.Contains(said, "still starting") {
			t.Errorf("it was never not ready: %q", said)
		}
	})
	t.Run("kafka", func(t *testing.T) {
		args := kafkaArgs(t)
		api := startProcess(t, append(args[:len(args):len(args)], "--roles", "api"))
		a := member{&client{base: "http://" + api.address, token: api.key}, control.DefaultOrg}
		for range 50 { // for control to have something to read
			in := map[string]any{"url": "http://127.0.0.1:65000/", "events": []string{"other.type"}}
			if _, err := a.call(t.Context(), http.MethodPost, "/v1/webhooks", in, nil); err != nil {
				t.Fatal(err)
			}
		}
		h := a.hook(t, nil, "rfq.*")
		ids := make(map[string]bool)
		for range 20 {
			ids[a.publish(t, "rfq.created", nil)] = true
		}
		startProcess(t, append(args[:len(args):len(args)], "--roles", "dispatcher")) // nothing is in its directory
		for len(ids) > 0 {
			select {
			case r := <-h.requests:
				delete(ids, r.id)
			case <-time.After(patience):
				t.Fatalf("%d of 20 events passed their endpoint by", len(ids))
			}
		}
	})
}

// longAgo makes a log in which orgs were created, and no snapshot of them.
func longAgo(t *testing.T, dir string, orgs int) {
	t.Helper()
	log, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Topics: topics(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	records := make([]eventlog.Record, orgs)
	for i := range records {
		records[i] = eventlog.Record{Partition: eventlog.Partition{Topic: control.Topic.Name}, Value: fmt.Appendf(nil,
			`{"v":1,"op":"org.create","id":"cmd_%d","at":"2026-01-01T00:00:00Z","do":{"id":"org_%d","plan":"free"}}`, i, i)}
	}
	if _, err := log.Append(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}
