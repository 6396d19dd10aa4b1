package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/freeport"
	"sluice/pkg/key"
)

// binary builds sluice once for all tests that run it as a process.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sluice")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sluice: %w: %s", err, out)
	}
	return path, nil
})

// onBothLogs runs the test on the embedded log and on a real broker.
func onBothLogs(t *testing.T, test func(t *testing.T, args []string)) {
	t.Run("embedded", func(t *testing.T) { test(t, []string{"--data", filepath.Join(t.TempDir(), "data")}) })
	t.Run("kafka", func(t *testing.T) { test(t, kafkaArgs(t)) })
}

// kafkaArgs has processes share a new log on a real broker.
func kafkaArgs(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--secrets-key-file", secrets, "--brokers", strings.Join(eventlogtest.Brokers(t), ","), "--prefix", fmt.Sprintf("test%d.", time.Now().UnixNano())}
}

// process is a running sluice; its addresses and key outlive a kill and a new start.
type process struct {
	t        *testing.T
	bin      string // empty: binary
	args     []string
	within   []string
	env      []string // all that it has; nil: ours, and the key
	address  string
	ops      string
	key      string
	cmd      *exec.Cmd
	messages *lockedBuffer
}

// startProcess runs `sluice serve` until the test ends, within another command
// where one is given.
func startProcess(t *testing.T, args []string, within ...string) *process {
	t.Helper()
	return startBinary(t, "", args, within...)
}

// startBinary is startProcess for another build; empty: this one.
func startBinary(t *testing.T, bin string, args []string, within ...string) *process {
	t.Helper()
	p := &process{t: t, bin: bin, within: within, address: freeAddress(t), ops: freeAddress(t), key: string(key.New(event.Sandbox))}
	p.args = append([]string{"serve", "--listen", p.address, "--ops", p.ops, "--allow-private-endpoints"}, args...)
	if !slices.Contains(args, "--data") { // one of its own
		p.args = append(p.args, "--data", filepath.Join(t.TempDir(), "data"))
	}
	p.start()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
		if t.Failed() {
			text := p.messages.String()
			t.Logf("the last of what the process said:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	path := p.bin
	if path == "" {
		var err error
		if path, err = binary(); err != nil {
			p.t.Fatal(err)
		}
	}
	line := slices.Concat(p.within, []string{path}, p.args)
	begin := func() {
		p.messages = new(lockedBuffer)
		p.cmd = exec.Command(line[0], line[1:]...)
		if p.cmd.Env = p.env; p.env == nil {
			p.cmd.Env = append(os.Environ(), "SLUICE_BOOTSTRAP_KEY="+p.key)
		}
		p.cmd.Stderr = p.messages
		if err := p.cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
	}
	begin()
	eventually(p.t, patience, func() error {
		if strings.Contains(p.messages.String(), "sluice: --brokers: ") { // which took too long: whoever runs it starts it again
			p.t.Log(p.messages.String())
			p.cmd.Wait()
			begin()
		}
		r, err := http.Get("http://" + p.ops + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %s", text)
		}
		return nil
	})
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// call sends a request of the public API and decodes the answer into result,
// unless that is nil. It returns an error for any status but the wanted one.
func (p *process) call(ctx context.Context, method, path, contentType string, body []byte, want int, result any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != want {
		return fmt.Errorf("%s %s: %s, not %d: %s", method, path, r.Status, want, answer)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer, result)
}

// eventually tries until there is no error.
func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", patience, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
