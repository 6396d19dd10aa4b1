package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pkg/event"
	"sluice/pkg/freeport"
	"sluice/pkg/key"
)

// process is a child whose CPU time is being measured.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	dir    string // removed by stop; empty: none
	last   func() // what stop does first; nil: nothing
}

func start(ctx context.Context, binary string, env []string, args ...string) (*process, error) {
	return startHeard(ctx, binary, env, nil, args...)
}

// startHeard starts one and has somebody else hear what it says, too.
func startHeard(ctx context.Context, binary string, env []string, hear io.Writer, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, binary, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	if hear != nil {
		p.cmd.Stderr = io.MultiWriter(&p.stderr, hear)
	}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	if p.last != nil {
		p.last()
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Wait()
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// cpu gives the CPU time that the process has used so far, in seconds.
func (p *process) cpu() (float64, error) {
	// The number of another process's clock, as clock_getcpuclockid(3) makes it: /proc
	// tells hundredths of a second, which are much of what a row at a pace takes.
	const ofProcess = 2
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid)<<3|ofProcess, &used); err != nil {
		return 0, fmt.Errorf("read CPU time of process %d: %w", p.cmd.Process.Pid, err)
	}
	return float64(used.Nano()) / 1e9, nil
}

func (p *process) rssMB() float64 {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/statm")
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// readMB tells what the process has read from files and sockets so far; caches of
// the kernel count as well.
func (p *process) readMB() float64 {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/io")
	var chars float64
	fmt.Sscanf(string(text), "rchar: %f", &chars)
	return chars / (1 << 20)
}

// ended reports whether the process runs no more.
func (p *process) ended() bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	return err != nil || bytes.Contains(text, []byte(") Z "))
}

// awaitReady waits until the process says on that address that it is ready. One
// that isn't by then is stopped.
func (p *process) awaitReady(ctx context.Context, ops string, within time.Duration) error {
	for end := time.Now().Add(within); time.Now().Before(end); {
		if r, err := http.Get("http://" + ops + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		if p.ended() {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.stop()
	return fmt.Errorf("it ended or isn't ready after %s; it said: %s", within, p.stderr.String())
}

// product is a running sluice.
type product struct {
	*process
	url, ws, ops, key string
}

// startProduct starts one with an empty log of its own, and with these arguments.
func startProduct(ctx context.Context, cfg *Config, args ...string) (*product, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	p, err := serveWith(ctx, cfg, string(key.New(event.Sandbox)), 10*time.Second, nil, append([]string{"--data", filepath.Join(dir, "data")}, args...)...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	p.dir = dir
	return p, nil
}

// serve starts one over a data directory, and returns when it is ready.
func serve(ctx context.Context, cfg *Config, data, token string, within time.Duration) (*product, error) {
	return serveWith(ctx, cfg, token, within, nil, "--data", data)
}

// serveWith starts one with these arguments.
func serveWith(ctx context.Context, cfg *Config, token string, within time.Duration, hear io.Writer, args ...string) (*product, error) {
	listen, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	ops, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p, err := startHeard(ctx, cfg.Binary, []string{"SLUICE_BOOTSTRAP_KEY=" + token}, hear,
		append([]string{"serve", "--listen", listen, "--ops", ops, "--allow-private-endpoints"}, args...)...)
	if err != nil {
		return nil, err
	}
	if err := p.awaitReady(ctx, ops, within); err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	if cfg.profiles != nil {
		p.last = cfg.profiles.watch(ops)
	}
	return &product{process: p, url: "http://" + listen, ws: listen, ops: ops, key: token}, nil
}

// metric gives the value of a metric without labels; 0 where there is none.
func (p *product) metric(name string) float64 {
	r, err := http.Get("http://" + p.ops + "/metrics")
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, _ := strconv.ParseFloat(text, 64)
			return value
		}
	}
	return 0
}
