package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What became of a killed process's directory decides whether the next may start
// on it: damage refuses it and is named, a torn end is cut off, and a backup is
// gone on from. What was acknowledged is there, and the first new event reaches
// every endpoint.
func TestDamageAndRestore(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := startProcess(t, []string{"--data", data})
	m := member{&client{base: "http://" + p.address, token: p.key}, "org_default"}
	one, two := m.hook(t, nil, "first.*"), m.hook(t, nil, "first.*")
	publish := func(batches int) (ids []string) {
		for range batches {
			var lines strings.Builder
			for range 100 {
				fmt.Fprintf(&lines, `{"type":"rfq.created","data":{"x":"%x"}}`+"\n", noiseBytes(15_000))
			}
			var answer struct{ IDs []string }
			if err := p.call(t.Context(), "POST", "/v1/events", "application/x-ndjson", []byte(lines.String()), 202, &answer); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, answer.IDs...)
		}
		return ids
	}
	var ids []string // each synced by itself: what is damaged before the end is no torn end then
	for range 100 {
		var answer struct{ ID string }
		body := fmt.Sprintf(`{"type":"rfq.created","data":{"x":"%x"}}`, noiseBytes(15_000))
		if err := p.call(t.Context(), "POST", "/v1/events", "application/json", []byte(body), 202, &answer); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, answer.ID)
	}
	p.kill()
	small := filepath.Join(t.TempDir(), "small") // all of it in one write-ahead log
	if err := os.CopyFS(small, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	p.start()
	more := append(slices.Clone(ids), publish(10)...) // enough for tables
	backedUp := filepath.Join(t.TempDir(), "backup")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"backup", backedUp, "--ops", p.ops, "--data", data}, std{Out: &out, Err: &out}); code != 0 {
		t.Fatal(out.String())
	}
	publish(1)
	p.kill()

	for name, c := range map[string]struct {
		data, files string
		harm        func(text []byte) []byte // nil: the file is removed
		says        []string                 // why it is refused; none: it isn't
	}{
		"a byte in a table":             {data, "*.sst", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, []string{"topic"}},
		"a table is missing":            {data, "*.sst", nil, []string{"file"}},
		"a byte in the write-ahead log": {small, "*.log", func(b []byte) []byte { b[used(b)/3] ^= 1; return b }, []string{"write-ahead log"}},
		"a torn end":                    {small, "*.log", func(b []byte) []byte { return b[:used(b)-20] }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(c.data)); err != nil {
				t.Fatal(err)
			}
			names := harm(t, filepath.Join(dir, logDir, c.files), c.harm)
			if c.says != nil {
				last := refusedProcess(t, dir, append(c.says, dir, "backup", "--data")...)
				if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(last, name) }) {
					t.Errorf("none of %v is named", names)
				}
				return
			}
			q := *p
			q.t, q.args = t, replaceArg(p.args, "--data", dir)
			goOn(t, &q, m, ids, one, two)
		})
	}
	t.Run("restored", func(t *testing.T) {
		q := *p
		q.t, q.args = t, replaceArg(p.args, "--data", backedUp)
		goOn(t, &q, m, more, one, two)
	})
}

// used tells how long a write-ahead log is without the room that was kept for it.
func used(text []byte) int { return len(bytes.TrimRight(text, "\x00")) }

// harm changes the newest of write-ahead logs, or all tables, and gives their
// numbers.
func harm(t *testing.T, pattern string, change func([]byte) []byte) (names []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	if filepath.Ext(pattern) == ".log" {
		files = []string{slices.Max(files)}
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			continue
		}
		names = append(names, strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
		text, err := os.ReadFile(file)
		switch {
		case err != nil:
		case change == nil:
			err = os.Remove(file)
		default:
			err = os.WriteFile(file, change(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// goOn starts a process, wants the events to be there, and a new one to reach the
// endpoints.
func goOn(t *testing.T, p *process, m member, ids []string, hooks ...*hook) {
	t.Helper()
	p.start()
	defer p.kill()
	for _, id := range []string{ids[0], ids[len(ids)/2], ids[len(ids)-2]} {
		if _, err := m.call(t.Context(), "GET", "/v1/events/"+id, nil, nil); err != nil {
			t.Error(err)
		}
	}
	first := m.publish(t, "first.one", nil)
	for _, h := range hooks {
		h.next(t, first)
	}
}

// refusedProcess wants a process not to start, with an exit code of 1, and to say
// all this in its last line, which it gives.
func refusedProcess(t *testing.T, data string, says ...string) (last string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "serve", "--data", data, "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(45*time.Second, func() { cmd.Process.Kill() })
	defer stop.Stop()
	err = cmd.Wait()
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	last = lines[len(lines)-1]
	t.Logf("%v after %v: %s", err, time.Since(began).Round(time.Millisecond), last)
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	for _, s := range says {
		if !strings.Contains(last, s) {
			t.Errorf("%q doesn't say %q", last, s)
		}
	}
	return last
}

// noiseBytes gives bytes that no block of a table makes shorter.
func noiseBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func replaceArg(args []string, flag, value string) []string {
	args = slices.Clone(args)
	args[slices.Index(args, flag)+1] = value
	return args
}
