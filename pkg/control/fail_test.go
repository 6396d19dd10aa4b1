package control_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// flaky is a log that fails for a while.
type flaky struct {
	eventlog.Log
	mu   sync.Mutex
	fail bool
}

func (f *flaky) set(fail bool) {
	f.mu.Lock()
	f.fail = fail
	f.mu.Unlock()
}

func (f *flaky) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return errors.New("broken")
	}
	return nil
}

func (f *flaky) Append(ctx context.Context, r []eventlog.Record) ([]int64, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Log.Append(ctx, r)
}

func (f *flaky) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	if err := f.err(); err != nil {
		return 0, 0, err
	}
	return f.Log.Bounds(ctx, p)
}

func (f *flaky) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	tail, err := f.Log.Tail(ctx, p, from)
	return &flakyTail{tail, f}, err
}

type flakyTail struct {
	eventlog.Tail
	f *flaky
}

func (t *flakyTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	if e := t.f.err(); e != nil {
		return nil, e
	}
	return records, err
}

func TestALogThatFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := eventlogtest.Mem(t, topics...)
		log := &flaky{Log: mem}
		c := open(t, log)
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})

		log.set(true)
		refused(t, c, &control.CreateOrg{ID: "org_b", Plan: control.Free}, control.ErrUnavailable)
		if err := c.Fresh(t.Context()); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("fresh: %v", err)
		}
		if _, err := c.Authenticate(t.Context(), string(key.New(event.Live))); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("an unknown key while the log can't be asked: %v", err)
		}
		put(t, mem, `{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"org_c","plan":"free"}}`)
		time.Sleep(time.Second)
		if err := c.Healthy(); err != nil {
			t.Errorf("after a second: %v", err)
		}
		time.Sleep(10 * time.Second)
		if err := c.Healthy(); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("after 11 seconds: %v", err)
		}
		log.set(false)
		time.Sleep(3 * time.Second)
		if err := c.Healthy(); err != nil {
			t.Errorf("healed: %v", err)
		}
		if c.Org("org_c") == nil {
			t.Error("what was appended meanwhile isn't there")
		}
		c.Close()
	})
}

func TestCloseEndsWhoWaits(t *testing.T) {
	c := open(t, eventlogtest.Mem(t, topics...))
	waits := make(chan error)
	go func() { waits <- c.WaitFor(context.Background(), 1000) }()
	c.Close()
	if err := <-waits; !errors.Is(err, control.ErrClosed) {
		t.Errorf("got %v", err)
	}
	c.Close()
}

func put(t *testing.T, log eventlog.Log, value string) {
	t.Helper()
	if _, err := log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: "control"}, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

func TestPoisonedRecordsAreSkippedByAllAlike(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	a := open(t, log)
	ep := history(t, a)
	poison := []string{
		"", "x", "{}", "[]", "null", "\xff\xfe", `{"v":1}`, `{"v":0,"op":"org.create","do":{}}`, `{"v":-1,"op":"org.create","do":{}}`,
		`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"org_x","plan":"huge"}}`,
		`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"","plan":"free"}}`,
		`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"org_x","plan":"free","more":1}}`,
		`{"v":1,"op":"org.create","id":"x","at":"soon","do":{"id":"org_x","plan":"free"}}`,
		`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z"}`,
		`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":[]}`,
		`{"v":1,"op":"key.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"key_x","org":"org_a","environment":3,"scopes":[],"hash":"` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `"}}`,
		`{"v":1,"op":"key.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"key_x","org":"org_a","environment":1,"scopes":[],"hash":"AAAA"}}`,
		`{"v":1,"op":"endpoint.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"wh_x","org":"org_a","environment":1,"dialect":"d","url":"u","patterns":["rfq.*"],"sealed":"AAAA","from":0}}`,
		`{"v":1,"op":"endpoint.update","id":"x","at":"2026-01-01T00:00:00Z","do":{"endpoint":"` + ep.ID + `","status":"disabled"}}`,
		`{"v":1,"op":"endpoint.update","id":"x","at":"2026-01-01T00:00:00Z","do":{"endpoint":"` + ep.ID + `","patterns":["**"]}}`,
		`{"v":1,"op":"endpoint.missed","id":"x","at":"2026-01-01T00:00:00Z","do":{"endpoint":"` + ep.ID + `","count":-1}}`,
		strings.Repeat("[", 100_000),
	}
	for _, p := range poison {
		put(t, log, p)
	}
	before := a.StateHash()
	b := open(t, log)
	if err := a.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*control.Control{a, b} {
		if got := c.Skipped(); got != int64(len(poison)) {
			t.Errorf("skipped %d of %d", got, len(poison))
		}
		if c.StateHash() != before {
			t.Error("a poisoned record changed the state")
		}
		if err := c.Healthy(); err != nil {
			t.Error(err)
		}
	}
	do(t, b, newEndpoint("org_a"))
}

func TestUnknownCommandStopsTheNode(t *testing.T) {
	for name, value := range map[string]string{
		"version": `{"v":2,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"org_x","plan":"free"},"new":1}`,
		"name":    `{"v":1,"op":"org.rename","id":"x","at":"2026-01-01T00:00:00Z","do":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			log := eventlogtest.Mem(t, topics...)
			a := open(t, log)
			do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
			applied := a.Applied()
			put(t, log, value)
			if err := a.Fresh(t.Context()); err == nil {
				t.Error("it is as new as the log")
			}
			if err := a.Healthy(); err == nil || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("healthy: %v", err)
			}
			_, err := a.Do(t.Context(), &control.CreateOrg{ID: "org_b", Plan: control.Free})
			if !errors.Is(err, control.ErrUnavailable) {
				t.Errorf("a command behind it: %v", err)
			}
			if a.Applied() != applied || a.Org("org_b") != nil || a.Org("org_a") == nil {
				t.Error("something was applied behind it")
			}
			if _, err := control.Open(t.Context(), control.Config{Log: log, Sealer: sealer(t)}); err == nil || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("another node opened it: %v", err)
			}
		})
	}
}

func TestSecretsAreSealedInTheLog(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	c := open(t, log)
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	do(t, c, newEndpoint("org_a"))
	tok := string(key.New(event.Sandbox))
	do(t, c, &control.CreateKey{Org: "org_a", Environment: event.Sandbox, Scopes: key.Scopes, Hash: key.Hash(tok)})
	records, err := log.Read(t.Context(), eventlog.Partition{Topic: "control"}, 0, 1<<20)
	if err != nil || len(records) != 4 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	bare := strings.TrimPrefix(secret, "whsec_")
	decoded, _ := base64.StdEncoding.DecodeString(bare)
	for _, r := range records {
		for _, s := range []string{
			secret, bare, string(decoded), base64.StdEncoding.EncodeToString([]byte(secret)), tok, tok[8:40],
		} {
			if strings.Contains(string(r.Value), s) {
				t.Errorf("record %d holds %q: %s", r.Offset, s, r.Value)
			}
		}
	}

	other, err := control.NewSealer([]byte("another-key-another-key-another-"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = control.Open(t.Context(), control.Config{Log: log, Sealer: other})
	if err == nil || !strings.Contains(err.Error(), "--secrets-key-file") {
		t.Errorf("opened with another key: %v", err)
	}
}
