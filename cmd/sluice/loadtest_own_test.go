package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sluice/loadtest/drive"
)

// ownLoad starts a process, and breaks it in each way.
const ownLoad = `
duration: 6s
settle: 2m
processes: [all]
orgs: 2
faults:
  - {do: kill, role: dispatcher, at: [1s], lasts: 200ms}
  - {do: freeze, role: gateway, at: [3s], lasts: 500ms}
  - {do: restart, role: api, at: [4500ms], lasts: 200ms}
publishers:
  - {name: singles, rate: 40}
  - {name: news, rate: 2, broadcast: true}
streams:
  - {name: screens, kind: websocket, connections: 4, resuming: 50%, stay: 1s}
  - {name: pages, kind: sse, connections: 4}
receivers:
  - {name: fast, endpoints: 2}
  - {name: careful, endpoints: 2, ordered: true, takes: 20ms}
`

// ownRun is a run that has started its own deployment, as a process.
type ownRun struct {
	*loadRun
	logs string
}

func runOwn(t *testing.T, scenario string) *ownRun {
	t.Helper()
	r := &ownRun{logs: filepath.Join(t.TempDir(), "logs")}
	r.loadRun = startLoad(t, scenario, "--seed", "7", "--logs", r.logs)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(r.logs, "all-1.log"))
			t.Logf("its process said %s", log[max(0, len(log)-2000):])
		}
	})
	return r
}

// end waits until the run has ended, and gives its exit code and figures. Nobody of its
// deployment may be left.
func (r *ownRun) end(t *testing.T) (code int, result *drive.Result) {
	t.Helper()
	if code, result = r.loadRun.end(t); result == nil {
		t.Fatal("it has no figures")
	}
	log, err := os.ReadFile(filepath.Join(r.logs, "all-1.log"))
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	if last := lines[len(lines)-1]; err != nil || !strings.Contains(last, `"msg":"stopped"`) {
		t.Errorf("its process hasn't stopped in the end: %v, %s", err, last)
	}
	return code, result
}

// TestLoadTestOwn breaks a process that the run has started itself, in each way. All
// holds, and what is left are logs.
func TestLoadTestOwn(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := runOwn(t, ownLoad)
	code, result := r.end(t)
	if code != 0 || !result.Verdict.OK || result.Orgs != 2 || result.Verdict.Acknowledged != result.Verdict.Sent {
		t.Errorf("exit code %d: %+v", code, result.Verdict)
	}
	var broke []string
	for _, f := range result.Faults {
		if f.What != "stall" {
			broke = append(broke, f.What+" "+f.Whom)
		}
	}
	if got := strings.Join(broke, ", "); got != "kill -9 all-1, SIGSTOP all-1, SIGTERM all-1" {
		t.Errorf("it broke %s", got)
	}
	for _, s := range []string{"seed 7", "kill -9", "logs are in " + r.logs} {
		if !strings.Contains(r.messages.String(), s) {
			t.Errorf("it doesn't say %q", s)
		}
	}
}

// TestLoadTestOwnInterrupted ends it early, by a signal: what was seen is held to
// account all the same.
func TestLoadTestOwnInterrupted(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := runOwn(t, strings.Replace(ownLoad, "duration: 6s", "duration: 1h", 1))
	eventually(t, loadEnds, func() error {
		if regexp.MustCompile(`whole again`).MatchString(r.messages.String()) {
			return nil
		}
		return os.ErrNotExist
	})
	r.cmd.Process.Signal(syscall.SIGINT)
	code, result := r.end(t)
	if code != 0 || !result.Interrupted || !result.Verdict.OK || result.Verdict.Acknowledged == 0 || len(result.Faults) == 0 {
		t.Errorf("exit code %d: %+v", code, result)
	}
}
