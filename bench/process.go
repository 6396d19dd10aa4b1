package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// process is a child whose CPU time is being measured.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	dir    string // removed by stop; empty: none
}

func start(ctx context.Context, binary string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, binary, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Wait()
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for /proc.
const ticksPerSecond = 100

// cpu gives the CPU time that the process has used so far, in seconds, with a
// resolution of 10 ms.
func (p *process) cpu() (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The command's name may hold blanks; the fields after its bracket don't.
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticksPerSecond, err
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

// product is a running sluice with an empty log of its own.
type product struct {
	*process
	url, ws, key string
}

func startProduct(ctx context.Context, binary string) (*product, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	ops, err := freeAddress()
	if err != nil {
		return nil, err
	}
	token := string(key.New(event.Sandbox))
	p, err := start(ctx, binary, []string{"SLUICE_BOOTSTRAP_KEY=" + token},
		"serve", "--listen", listen, "--ops", ops, "--data", filepath.Join(dir, "data"), "--allow-private-endpoints")
	if err != nil {
		return nil, err
	}
	p.dir = dir
	for range 200 {
		if r, err := http.Get("http://" + ops + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return &product{process: p, url: "http://" + listen, ws: listen, key: token}, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("sluice isn't ready after 10 s; it said: %s", p.stderr.String())
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
