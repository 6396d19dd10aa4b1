package fleet

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/loadtest/ledger"
)

// TestMain is the test, a process of a fleet, or somebody who has one and is killed.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		os.Exit(stand())
	case len(os.Args) > 1 && os.Args[1] == "parent":
		os.Exit(parent(os.Args[2]))
	}
	os.Exit(m.Run())
}

// stand stands for a process of sluice: it is ready, until SIGTERM. Where its data
// directory says so, it ends with another code than 0.
func stand() int {
	signal.Ignore(syscall.SIGHUP) // which a group gets that has lost its parent, if one of it is stopped
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	after := func(flag string) string { return os.Args[slices.Index(os.Args, flag)+1] }
	ln, err := net.Listen("tcp", after("--ops"))
	if err != nil {
		return 1
	}
	go http.Serve(ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	<-term
	if _, err := os.Stat(after("--data") + ".bad"); err == nil {
		return 3
	}
	return 0
}

// aFleet has processes that stand for sluice's.
func aFleet(dir string) (*Fleet, error) {
	return New(Config{Binary: os.Args[0], Dir: dir, Brokers: "127.0.0.1:1", Roles: []string{"api,gateway", "dispatcher"}})
}

// parent has a fleet, one of which is frozen, until it is killed.
func parent(dir string) int {
	f, err := aFleet(dir)
	if err == nil {
		err = f.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	f.Nodes[1].Signal(syscall.SIGSTOP)
	fmt.Println(f.Nodes[0].Ops, f.Nodes[1].Ops)
	select {}
}

// within is how long anything here may take.
const within = time.Minute

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// listens says whether anybody does, be it frozen.
func listens(address string) bool {
	c, err := net.Dial("tcp", address)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// TestNobodyOutlivesTheParent kills who has started a fleet.
func TestNobodyOutlivesTheParent(t *testing.T) {
	cmd := exec.Command(os.Args[0], "parent", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	addresses := strings.Fields(line)
	if err != nil || len(addresses) != 2 || !listens(addresses[0]) || !listens(addresses[1]) {
		cmd.Process.Kill()
		t.Fatalf("%v: it said %q", err, line)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, address := range addresses {
		eventually(t, "a process ends with its parent", func() bool { return !listens(address) })
	}
}

// begun starts a fleet that ends with the test.
func begun(t *testing.T) *Fleet {
	t.Helper()
	f, err := aFleet(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
		for _, n := range f.Nodes {
			if listens(n.Ops) {
				t.Errorf("%s is still there", n)
			}
		}
	})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStrikes breaks a process in each way: it is whole again, and the ledger is told
// what may be why of what.
func TestStrikes(t *testing.T) {
	f := begun(t)
	var broke []ledger.Fault
	var said atomic.Int64
	n := &Nemesis{Broke: func(f ledger.Fault) { broke = append(broke, f) }, Say: func(string) { said.Add(1) }}
	for _, c := range []struct {
		how     How
		whom    *Node
		repeats bool
		anew    bool // it is another process then
	}{
		{Kill, f.Nodes[1], true, true},
		{Restart, f.Nodes[1], true, true},
		{Freeze, f.Nodes[1], true, false},
		{Kill, f.Nodes[0], false, true},
		{Freeze, f.Nodes[0], false, false},
	} {
		broke = nil
		before := c.whom.PID()
		if !n.Take(c.whom) || n.Take(c.whom) {
			t.Fatal("it isn't taken once")
		}
		began := time.Now()
		n.Strike(t.Context(), c.how, c.whom, 50*time.Millisecond)
		if len(broke) != 1 || broke[0].What != string(c.how) || broke[0].Whom != c.whom.Name || broke[0].Repeats != c.repeats ||
			broke[0].From.Before(began) || broke[0].Until.Sub(broke[0].From) < 50*time.Millisecond {
			t.Errorf("%s of %s: %+v", c.how, c.whom, broke)
		}
		if status, text := c.whom.Readyz(t.Context()); status != http.StatusOK || (c.whom.PID() != before) != c.anew {
			t.Errorf("after %s of %s, process %d: %d %s, process %d", c.how, c.whom, before, status, text, c.whom.PID())
		}
	}
	if err := n.Failed(); len(err) > 0 || said.Load() != 5 {
		t.Errorf("%d things were said, and %v", said.Load(), err)
	}
	if with := f.With("api"); len(with) != 1 || with[0] != f.Nodes[0] {
		t.Errorf("%v have the role api", with)
	}
}

// TestInterrupted ends a strike early: what was broken is whole again all the same.
func TestInterrupted(t *testing.T) {
	f := begun(t)
	n := &Nemesis{Broke: func(ledger.Fault) {}, Say: func(string) {}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, how := range []How{Kill, Restart, Freeze} {
		n.Take(f.Nodes[0])
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.Strike(ctx, how, f.Nodes[0], time.Hour)
		}()
		select {
		case <-done:
		case <-time.After(within):
			t.Fatalf("%s goes on", how)
		}
		if status, text := f.Nodes[0].Readyz(t.Context()); status != http.StatusOK {
			t.Errorf("after %s: %d %s", how, status, text)
		}
	}
}

// TestUpgrade: who is restarted runs another build from then on, and who is killed the
// one it ran.
func TestUpgrade(t *testing.T) {
	f := begun(t)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.Symlink(os.Args[0], other); err != nil {
		t.Fatal(err)
	}
	n := &Nemesis{Broke: func(ledger.Fault) {}, Say: func(string) {}, Binary: other}
	for i, how := range []How{Kill, Restart, Kill} {
		n.Take(f.Nodes[0])
		n.Strike(t.Context(), how, f.Nodes[0], 0)
		if upgraded := f.Nodes[0].cmd.Path == other; upgraded != (i > 0) {
			t.Errorf("after %d strikes it runs %s", i+1, f.Nodes[0].cmd.Path)
		}
	}
}

// TestFailed names who didn't end as it should.
func TestFailed(t *testing.T) {
	f := begun(t)
	n := &Nemesis{Broke: func(ledger.Fault) {}, Say: func(string) {}}
	if err := os.WriteFile(filepath.Join(f.Dir, f.Nodes[1].Name+".bad"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Take(f.Nodes[1])
	n.Strike(t.Context(), Restart, f.Nodes[1], 0)
	if failed := n.Failed(); len(failed) != 1 || !strings.Contains(failed[0].Error(), "dispatcher-2 ended with 3") {
		t.Errorf("%v", failed)
	}
}

// TestStalls reads from logs what nobody made.
func TestStalls(t *testing.T) {
	f, err := aFleet(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	at := time.Date(2026, 11, 22, 21, 0, 0, 0, time.UTC)
	var log strings.Builder
	for _, l := range []struct {
		after time.Duration
		error string
	}{{5 * time.Second, "the broker died"}, {time.Minute, "the append timed out"}, {2 * time.Minute, "a record can't be read"}} {
		fmt.Fprintf(&log, "{\"time\":%q,\"level\":\"ERROR\",\"msg\":\"lane stopped\",\"error\":%q}\n", at.Add(l.after).Format(time.RFC3339Nano), l.error)
	}
	log.WriteString("{\"msg\":\"lane stopped\"} and no JSON\n{\"msg\":\"something else\"}\n")
	if err := os.WriteFile(f.Nodes[1].Log(), []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var broke []ledger.Fault
	n := &Nemesis{Broke: func(f ledger.Fault) { broke = append(broke, f) }, Say: func(string) {}}
	n.note(ledger.Fault{What: "kill -9", From: at, Until: at.Add(time.Second), Repeats: true})
	n.Stalls(f.Nodes)
	want := ledger.Fault{What: "stall", Whom: "dispatcher-2", From: at.Add(time.Minute - patience), Until: at.Add(time.Minute), Repeats: true}
	if len(broke) != 2 || broke[1] != want {
		t.Errorf("%+v", broke)
	}
	if failed := n.Failed(); len(failed) != 1 || !strings.Contains(failed[0].Error(), "a record can't be read") {
		t.Errorf("%v", failed)
	}
}
