package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
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
	r := newLoad(t, scenario, args...)
	r.cmd.Stderr = &r.messages
	r.start(t)
	return r
}

// newLoad is for who reads its messages otherwise.
func newLoad(t *testing.T, scenario string, args ...string) *loadRun {
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
	r.cmd.Stdout = &r.out
	return r
}

func (r *loadRun) start(t *testing.T) {
	t.Helper()
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("it said %s%s", r.out.String(), r.messages.String())
		}
	})
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

// TestLoadTestEndsInRegistering ends a load while its processes wait for the answers to
// what they register: nobody knows of those endpoints but the deployment, and none is left.
func TestLoadTestEndsInRegistering(t *testing.T) {
	p := startProcess(t, nil)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		first  bool // gets it, and not the other
	}{
		{"Ctrl-C", syscall.SIGINT, true},
		{"the first is killed", syscall.SIGKILL, true},
		{"the other is killed", syscall.SIGKILL, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.address})
			pass.ErrorLog = log.New(io.Discard, "", 0) // who is killed hears no answer
			var made, kept atomic.Int32
			between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || made.Add(1) <= 3 {
					pass.ServeHTTP(w, r)
					return
				}
				pass.ServeHTTP(httptest.NewRecorder(), r)
				kept.Add(1)
				<-r.Context().Done()
			}))
			t.Cleanup(between.Close)
			run := startLoad(t, smallLoad, "--url", between.URL, "--key", p.key, "--processes", "2")
			eventually(t, loadEnds, func() error {
				if n := kept.Load(); n < 2 {
					return fmt.Errorf("%d processes wait for an answer", n)
				}
				return nil
			})
			if n := p.endpoints(t); n != 5 {
				t.Fatalf("%d endpoints are there", n)
			}
			pid := run.cmd.Process.Pid
			if !c.first {
				pid = run.children(t)[0]
			}
			syscall.Kill(pid, c.signal)
			if code, _ := run.end(t); code == 0 {
				t.Error("it ended as if there had been a load")
			}
			eventually(t, loadEnds, func() error { // of a first one that was killed, the other may still be at it
				if n := p.endpoints(t); n > 0 {
					return fmt.Errorf("%d endpoints are left", n)
				}
				return nil
			})
		})
	}
}

// TestLoadTestUnread has whoever reads what a load says go away: it ends as by Ctrl-C.
func TestLoadTestUnread(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := startProcess(t, nil)
	run := newLoad(t, strings.Replace(smallLoad, "duration: 2s", "duration: 1h", 1), "--url", "http://"+p.address, "--key", p.key)
	messages, err := run.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	run.start(t)
	if _, err := bufio.NewReader(messages).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	messages.Close()
	code, r := run.end(t)
	if code != 0 || r == nil || !r.Interrupted {
		t.Errorf("exit code %d, and it saw %+v", code, r)
	}
	if n := p.endpoints(t); n > 0 {
		t.Errorf("%d endpoints are left", n)
	}
}
