package control_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/eventlogtest"
)

// openAt opens with a snapshot, and gives what it had to say.
func openAt(t testing.TB, log eventlog.Log, path string) (*control.Control, string) {
	t.Helper()
	var said bytes.Buffer
	c, err := control.Open(t.Context(), control.Config{Log: log, Sealer: sealer(t), Lanes: 16, Snapshot: path, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, said.String()
}

// counted is a log that knows from where it is followed.
type counted struct {
	eventlog.Log
	from atomic.Int64 // where the newest tail began
}

func (l *counted) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	l.from.Store(from)
	return l.Log.Tail(ctx, p, from)
}

func TestStartFromSnapshot(t *testing.T) {
	for name, open := range map[string]func(*testing.T) eventlog.Log{
		"embedded": func(t *testing.T) eventlog.Log { return eventlogtest.Mem(t, topics...) },
		"kafka":    func(t *testing.T) eventlog.Log { return eventlogtest.Kafka(t, topics...) },
	} {
		t.Run(name, func(t *testing.T) {
			log := &counted{Log: open(t)}
			path := filepath.Join(t.TempDir(), "control.snapshot")
			a, said := openAt(t, log, path)
			if said != "" {
				t.Errorf("without a snapshot: %s", said)
			}
			ep := history(t, a)
			put(t, log, "poison")
			if err := a.Fresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.Save()
			upTo := a.Applied()
			do(t, a, &control.AddMissed{Endpoint: ep.ID, Count: 4}) // behind the snapshot
			b, said := openAt(t, log, path)
			if said != "" || log.from.Load() != upTo+1 {
				t.Fatalf("began at %d, not %d: %s", log.from.Load(), upTo+1, said)
			}
			sameState(t, a, b)
			if got := b.Endpoint(ep.ID); got.Missed != 7 || string(got.Secret) != secret {
				t.Errorf("the endpoint is %+v", got)
			}
			refused(t, b, &control.CreateOrg{ID: "org_b", Plan: control.Free}, control.ErrExists) // deleted before
			do(t, b, newEndpoint("org_c"))
			b.Close() // leaves a snapshot of its own
			c, said := openAt(t, log, path)
			do(t, c, &control.CreateOrg{Plan: control.Free}) // then it follows the log
			if said != "" || log.from.Load() != upTo+4 {
				t.Errorf("began at %d, not %d: %s", log.from.Load(), upTo+4, said)
			}
			replayed, _ := openAt(t, log, "")
			sameState(t, c, replayed)
		})
	}
}

// sameState compares by the hash, and by what can be asked.
func sameState(t *testing.T, a, b *control.Control) {
	t.Helper()
	if err := a.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.StateHash() != b.StateHash() || a.Skipped() != b.Skipped() || a.Incarnation() != b.Incarnation() {
		t.Error("the states differ")
	}
	show := func(c *control.Control) (out []string) {
		for _, o := range c.Orgs() {
			out = append(out, fmt.Sprintf("%+v", *o))
			for _, k := range c.Keys(o.ID) {
				out = append(out, fmt.Sprintf("%+v", *k))
			}
			for _, env := range event.Environments {
				page, _ := c.Endpoints(o.ID, env, 0, 100)
				for _, ep := range page {
					out = append(out, fmt.Sprintf("%+v %s", *ep, string(ep.Secret)))
					for _, r := range c.Replays(ep.ID) {
						out = append(out, fmt.Sprintf("%+v", *r))
					}
				}
				ev := &event.Event{Type: "rfq.created", Environment: env, Audience: event.Audience{All: true}, Offset: 1}
				out = append(out, slices.Sorted(slices.Values(c.Matching(ev)))...)
			}
		}
		return out
	}
	if x, y := show(a), show(b); !slices.Equal(x, y) {
		t.Errorf("one shows\n%s\nthe other\n%s", strings.Join(x, "\n"), strings.Join(y, "\n"))
	}
}

// A snapshot that isn't whole, or isn't of this log, costs a line and the time
// that it would have saved.
func TestSnapshotsThatAreNoGood(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "control.snapshot")
	a, _ := openAt(t, log, path)
	history(t, a)
	a.Save()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v", info.Mode())
	}
	if bytes.Contains(good, []byte(secret[6:])) {
		t.Error("a secret is in it as it is")
	}
	other := eventlogtest.Mem(t, topics...)
	history(t, open(t, other))
	head := strings.Index(string(good), "\n") + 1
	for _, tc := range []struct {
		name, says string
		log        eventlog.Log
		change     func([]byte) []byte
	}{
		{"empty", "damaged", log, func([]byte) []byte { return nil }},
		{"cut", "damaged", log, func(b []byte) []byte { return b[:len(b)/2] }},
		{"cut before the end", "damaged", log, func(b []byte) []byte { return b[:len(b)-1] }},
		{"longer", "damaged", log, func(b []byte) []byte { return append(b, 0) }},
		{"a byte flipped", "damaged", log, func(b []byte) []byte { b[len(b)*2/3] ^= 4; return b }},
		{"a newer release's", "it has format 9", log, func(b []byte) []byte { b[head+1] = 9; return b }},
		{"another log's", "another log", other, func(b []byte) []byte { return b }},
		{"of a log that lost its end", "hasn't come to yet", eventlogtest.Mem(t, topics...), func(b []byte) []byte { return b }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile(path, tc.change(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			c, said := openAt(t, tc.log, path)
			if !strings.Contains(said, tc.says) || !strings.Contains(said, "snapshot of control ignored") || strings.Count(said, "\n") != 1 {
				t.Errorf("it said %q", said)
			}
			sameState(t, c, open(t, tc.log))
		})
	}
	t.Run("a directory that can't be written", func(t *testing.T) {
		c, _ := openAt(t, log, filepath.Join(t.TempDir(), "none", "snapshot"))
		do(t, c, &control.CreateOrg{Plan: control.Free})
		c.Close()
	})
}

// Snapshots are made some minutes after a change, and never without one.
func TestSnapshotsAreMadeInTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.snapshot")
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		c, _ := openAt(t, log, path)
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		first, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		end := c.Applied()
		time.Sleep(24 * time.Hour)
		if again, err := os.Stat(path); err != nil || !os.SameFile(first, again) {
			t.Errorf("nothing changed, and it was written again: %v", err)
		}
		if c.Applied() != end {
			t.Errorf("nothing changed, and %d commands were written", c.Applied()-end)
		}
		batch := make([]eventlog.Record, 11_000)
		for i := range batch {
			value := fmt.Sprintf(`{"v":1,"op":"org.create","id":"x","at":"2026-01-01T00:00:00Z","do":{"id":"org_%d","plan":"free"}}`, i)
			batch[i] = eventlog.Record{Partition: eventlog.Partition{Topic: "control"}, Value: []byte(value)}
		}
		if _, err := log.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if again, err := os.Stat(path); err != nil || os.SameFile(first, again) {
			t.Errorf("many commands, and it wasn't written: %v", err)
		}
		c.Close()
	})
}

// A process that is killed between a snapshot's last byte and its rename leaves
// the one before, and a file that is nobody's.
func TestKilledBeforeTheRename(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if string(line[:n]) != "in front of rename\n" {
		t.Fatalf("the child said %q", line[:n])
	}
	path := filepath.Join(dir, "control.snapshot")
	if _, err := os.Stat(path + ".new"); err != nil {
		t.Errorf("nothing was left behind: %v", err)
	}
	log := onDisk(t, dir)
	c, said := openAt(t, log, path)
	if said != "" {
		t.Errorf("the snapshot of before: %s", said)
	}
	sameState(t, c, open(t, log))
	if len(c.Orgs()) != 2 {
		t.Errorf("%d orgs", len(c.Orgs()))
	}
	c.Close()
	if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
		// The second org wasn't in the snapshot, so Close wrote one, over what was left.
		t.Errorf("what was left behind is still there: %v", err)
	}
}

const childVar = "SLUICE_TEST_CONTROL_DIR"

func onDisk(t testing.TB, dir string) eventlog.Log {
	t.Helper()
	log, err := embedded.Open(t.Context(), embedded.Config{Dir: filepath.Join(dir, "log"), Topics: topics, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

// child leaves a snapshot, and waits to be killed in front of the next.
func child(dir string) {
	must := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	log, err := embedded.Open(ctx, embedded.Config{Dir: filepath.Join(dir, "log"), Topics: topics, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	s, err := control.NewSealer([]byte("0123456789abcdef0123456789abcdef"))
	must(err)
	c, err := control.Open(ctx, control.Config{Log: log, Sealer: s, Lanes: 16, Snapshot: filepath.Join(dir, "control.snapshot")})
	must(err)
	_, err = c.Do(ctx, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	must(err)
	c.Save()
	_, err = c.Do(ctx, &control.CreateOrg{ID: "org_b", Plan: control.Free})
	must(err)
	control.BeforeRename(func() {
		fmt.Println("in front of rename")
		select {}
	})
	c.Save()
}

// What is in the state while a snapshot is written doesn't get into it: each one
// is of one moment.
func TestSnapshotsUnderLoad(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "control.snapshot")
	a, _ := openAt(t, log, path)
	do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	ep := do(t, a, newEndpoint("org_a")).Endpoint
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			text := fmt.Sprint(i)
			do(t, a, &control.UpdateEndpoint{Endpoint: ep.ID, Description: &text})
			other := do(t, a, newEndpoint("org_a")).Endpoint
			if i%2 == 0 {
				do(t, a, &control.DeleteEndpoint{Endpoint: other.ID})
			}
		}
	}()
	for i := 0; ; i++ {
		a.Save()
		b, said := openAt(t, log, path)
		if said != "" {
			t.Fatalf("snapshot %d: %s", i, said)
		}
		b.Close()
		select {
		case <-done:
			sameState(t, a, open(t, log))
			return
		default:
		}
	}
}
