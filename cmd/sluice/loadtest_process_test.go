package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/loadtest/drive"
)

// loadRun is a load whose first process is one of its own.
type loadRun struct {
	cmd           *exec.Cmd
	out, messages lockedBuffer
	figures       string
}

func startLoad(t *testing.T, scenario string, args ...string) *loadRun {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &loadRun{figures: filepath.Join(dir, "figures.json")}
	file := filepath.Join(dir, "load.yaml")
	if err := os.WriteFile(file, []byte(scenario), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(path, append([]string{"loadtest", file, "--json", r.figures}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.messages
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("it said %s%s", r.out.String(), r.messages.String())
		}
	})
	return r
}

// end waits until the run has ended, and gives its exit code and figures; nil: it has
// none.
func (r *loadRun) end(t *testing.T) (code int, result *drive.Result) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.cmd.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(loadEnds):
		t.Fatalf("it hasn't ended after %v", loadEnds)
	}
	if text, err := os.ReadFile(r.figures); err == nil {
		if err := json.Unmarshal(text, &result); err != nil {
			t.Fatal(err)
		}
	}
	return r.cmd.ProcessState.ExitCode(), result
}

// begun waits until it says what it has published.
func (r *loadRun) begun(t *testing.T) {
	t.Helper()
	eventually(t, loadEnds, func() error {
		if strings.Contains(r.messages.String(), "s  published ") {
			return nil
		}
		return os.ErrNotExist
	})
}

// children lists its other processes.
func (r *loadRun) children(t *testing.T) (pids []int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range threads {
		text, _ := os.ReadFile(of) // a thread may be gone
		for word := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestLoadTestProcesses drives the small load from three processes: all that holds of
// one holds of them together.
func TestLoadTestProcesses(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := startProcess(t, nil)
	other := p.otherKey(t, "publish,broadcast,subscribe,manage")
	wholly(t, func() (missing string) {
		run := startLoad(t, smallLoad, "--url", "http://"+p.address, "--key", p.key, "--other-keys", other, "--seed", "7", "--metrics", p.ops, "--processes", "3")
		code, r := run.end(t)
		if code != 0 || r == nil || !strings.Contains(run.out.String(), "verdict   everything holds") {
			t.Fatalf("exit code %d", code)
		}
		holds(t, r)
		used := 0.0
		for i, c := range r.Clients {
			used += c.CPUSeconds
			if says := fmt.Sprintf("process %d of them: ", i+1); c.CPUSeconds <= 0 || c.TimersLate.Count == 0 || !strings.Contains(run.out.String(), says) {
				t.Errorf("process %d: %+v", i+1, c)
			}
		}
		if len(r.Clients) != 3 || used != r.Client.CPUSeconds {
			t.Errorf("its processes: %+v", r.Clients)
		}
		if n := p.endpoints(t); n > 0 {
			t.Errorf("%d endpoints are left", n)
		}
		return undone(r)
	})
}

// TestLoadTestProcessEnds kills one of the processes, which is named, and what it
// registered is taken away; another run is ended by Ctrl-C, and tells what it saw.
func TestLoadTestProcessEnds(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := startProcess(t, nil)
	args := []string{"--url", "http://" + p.address, "--key", p.key, "--processes", "2"}
	long := strings.Replace(smallLoad, "duration: 2s", "duration: 1h", 1)
	for _, c := range []struct {
		name string
		do   func(t *testing.T, r *loadRun)
		code int
		says string
	}{
		{"one is killed", func(t *testing.T, r *loadRun) {
			pids := r.children(t)
			if len(pids) != 1 {
				t.Fatalf("its other processes: %v", pids)
			}
			syscall.Kill(pids[0], syscall.SIGKILL)
		}, 1, "process 2 of 2 of the load ended: signal: killed"},
		{"Ctrl-C", func(t *testing.T, r *loadRun) { r.cmd.Process.Signal(syscall.SIGINT) }, 0, "interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := startLoad(t, long, args...)
			run.begun(t)
			c.do(t, run)
			code, r := run.end(t)
			if code != c.code || !strings.Contains(run.out.String()+run.messages.String(), c.says) {
				t.Errorf("exit code %d", code)
			}
			if c.code == 0 && (r == nil || !r.Verdict.OK || r.Verdict.Acknowledged == 0 || r.Verdict.Acknowledged != r.Verdict.Sent) {
				t.Errorf("it saw %+v", r)
			}
			if n := p.endpoints(t); n > 0 {
				t.Errorf("%d endpoints are left", n)
			}
		})
	}
}
