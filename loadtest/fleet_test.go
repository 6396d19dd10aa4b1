package loadtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/loadtest/fleet"
)

// deployment is a fleet that a test has.
type deployment struct {
	*fleet.Fleet
	t      *testing.T
	broker *broker
	nodes  []*node
}

// node is one of its processes.
type node struct {
	*fleet.Node
	t      *testing.T
	spared bool // nobody ends it
}

// binary builds sluice once, in a directory that goes when all tests are over.
var (
	binaryDir string
	binary    = sync.OnceValues(buildBinary)
)

func buildBinary() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-soak-binary-")
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
func startFleet(t *testing.T, b *broker, dir string, roles ...string) *deployment {
	t.Helper()
	f := newFleet(t, b, dir, roles...)
	f.start()
	return f
}

// newFleet is startFleet without the start.
func newFleet(t *testing.T, b *broker, dir string, roles ...string) *deployment {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cfg := fleet.Config{Binary: path, Dir: dir, Prefix: fmt.Sprintf("load%d.", time.Now().UnixNano()), Roles: roles}
	if b != nil {
		cfg.Brokers = b.brokers
	}
	f := &deployment{t: t, broker: b}
	if f.Fleet, err = fleet.New(cfg); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		f.nodes = append(f.nodes, &node{Node: n, t: t})
	}
	t.Cleanup(f.stop)
	return f
}

func (f *deployment) start() {
	f.t.Helper()
	if err := f.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// stop ends all processes, and shows what they said last when the test failed.
func (f *deployment) stop() {
	if err := f.Stop(); err != nil {
		f.t.Error(err)
	}
	for _, n := range f.nodes {
		if f.t.Failed() {
			text, _ := os.ReadFile(n.Log())
			f.t.Logf("the last of what %s said:\n%s", n, text[max(0, len(text)-1500):])
		}
	}
}

// with lists the nodes that have a role.
func (f *deployment) with(role string) (found []*node) {
	for _, n := range f.nodes {
		if n.Has(role) {
			found = append(found, n)
		}
	}
	return found
}

// revive starts the process again.
func (n *node) revive() {
	if err := n.Revive(context.Background()); err != nil {
		n.t.Error(err)
	}
}

func (n *node) readyz() (status int, text string) { return n.Readyz(context.Background()) }

// term has the process drain; it gives its exit code and how long it took.
func (n *node) term(patience time.Duration) (code int, took time.Duration) {
	code, took = n.Term(patience)
	if took >= patience {
		n.t.Errorf("%s still ran %v after SIGTERM", n, patience)
	}
	return code, took
}
