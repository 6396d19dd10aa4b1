package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fleet is a deployment: processes with a role or two each, on one broker.
type fleet struct {
	t      *testing.T
	broker *broker
	nodes  []*node
}

// node is one process. It may be killed and started again, by one goroutine at a
// time; its address stays.
type node struct {
	fleet        *fleet
	name, roles  string
	address, ops string
	args         []string
	spared       bool     // nobody ends it
	log          *os.File // what all its lives said

	cmd   *exec.Cmd
	ended chan struct{} // the process has
}

// adminToken lets in to the admin API of every fleet.
const adminToken = "loadtest-admin-token-of-32-bytes"

// binary builds sluice once, in a directory that goes when all tests are over.
var (
	binaryDir string
	binary    = sync.OnceValues(buildBinary)
)

func buildBinary() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-loadtest-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/sluice").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sluice: %w: %s", err, out)
	}
	return path, nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// startFleet starts a process for each of roles; they stop when the test ends.
// Their logs lie in dir. Without a broker there is one process, which has the log.
func startFleet(t *testing.T, b *broker, dir string, roles ...string) *fleet {
	t.Helper()
	f := newFleet(t, b, dir, roles...)
	f.start()
	return f
}

// newFleet is startFleet without the start.
func newFleet(t *testing.T, b *broker, dir string, roles ...string) *fleet {
	t.Helper()
	secrets := filepath.Join(dir, "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, broker: b}
	prefix := fmt.Sprintf("load%d.", time.Now().UnixNano())
	for i, r := range roles {
		n := &node{fleet: f, name: fmt.Sprintf("%s-%d", strings.ReplaceAll(r, ",", "+"), i+1), roles: r, address: freeAddress(t), ops: freeAddress(t)}
		n.args = []string{"serve", "--listen", n.address, "--ops", n.ops, "--roles", r, "--data", filepath.Join(dir, n.name),
			"--secrets-key-file", secrets, "--admin-token", adminToken, "--allow-private-endpoints"}
		if b != nil {
			n.args = append(n.args, "--brokers", b.brokers, "--prefix", prefix)
		}
		var err error
		if n.log, err = os.Create(filepath.Join(dir, n.name+".log")); err != nil {
			t.Fatal(err)
		}
		f.nodes = append(f.nodes, n)
	}
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) start() {
	f.t.Helper()
	if _, err := binary(); err != nil { // which may take its time
		f.t.Fatal(err)
	}
	var starting sync.WaitGroup
	for i, n := range f.nodes {
		if i == 0 {
			n.revive() // alone: the first makes the topics
			continue
		}
		starting.Go(n.revive)
	}
	starting.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// stop ends all processes, and shows what they said last when the test failed.
func (f *fleet) stop() {
	for _, n := range f.nodes {
		if n.cmd != nil {
			n.signal(syscall.SIGCONT)
			n.signal(syscall.SIGTERM)
		}
	}
	for _, n := range f.nodes {
		if n.cmd == nil {
			continue
		}
		select {
		case <-n.ended:
		case <-time.After(30 * time.Second):
			f.t.Errorf("%s doesn't stop", n.name)
			n.kill()
		}
		n.log.Close()
		if f.t.Failed() {
			text, _ := os.ReadFile(n.log.Name())
			f.t.Logf("the last of what %s said:\n%s", n.name, text[max(0, len(text)-1500):])
		}
	}
}

// with lists the nodes that have a role.
func (f *fleet) with(role string) (found []*node) {
	for _, n := range f.nodes {
		if strings.Contains(n.roles, role) || n.roles == "all" {
			found = append(found, n)
		}
	}
	return found
}

// start begins a life of the process.
func (n *node) start() error {
	path, err := binary()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, n.args...)
	cmd.Stderr, cmd.Stdout = n.log, n.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	n.cmd, n.ended = cmd, ended
	return nil
}

// revive starts the process until it is ready, as whatever supervises it would: a
// start may fail as long as the broker is away.
func (n *node) revive() {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if err := n.start(); err != nil {
			n.fleet.t.Errorf("start %s: %v", n.name, err)
			return
		}
		for {
			status, text := n.readyz()
			if status == http.StatusOK {
				return
			}
			if time.Now().After(deadline) {
				n.fleet.t.Errorf("%s isn't ready after two minutes: %s", n.name, text)
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-n.ended:
			}
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// readyz asks the process whether it is ready; 0: it didn't answer.
func (n *node) readyz() (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+n.ops+"/readyz", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all)
}

// kill ends the process as a power cut would.
func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	<-n.ended
}

func (n *node) signal(s syscall.Signal) { n.cmd.Process.Signal(s) }

// term has the process drain; it gives its exit code and how long it took.
func (n *node) term(patience time.Duration) (code int, took time.Duration) {
	began := time.Now()
	n.signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.fleet.t.Errorf("%s still runs %v after SIGTERM", n.name, patience)
		n.kill()
	}
	return n.cmd.ProcessState.ExitCode(), time.Since(began)
}

var (
	firstPort = rand.Uint32N(9_000)
	given     atomic.Uint32 // addresses
)

// freeAddress is of a port that no system gives away by itself: one that it would
// may be a connection's of another test before the process has it, or has it again.
// From anywhere on one is given after the other, so that no two tests have one at once.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+(firstPort+given.Add(1))%9_000))
		if err == nil {
			ln.Close()
			return ln.Addr().String()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}
