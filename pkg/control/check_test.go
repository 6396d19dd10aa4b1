package control_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// judged is a node, with what it says and counts.
type judged struct {
	*control.Control
	path    string // of its snapshot
	said    *spoken
	metrics *prometheus.Registry
}

type spoken struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func openJudged(t *testing.T, log eventlog.Log, name, path string) *judged {
	t.Helper()
	n := &judged{path: path, said: new(spoken), metrics: prometheus.NewRegistry()}
	c, err := control.Open(t.Context(), control.Config{Log: log, Sealer: sealer(t), Lanes: 16, Snapshot: path, Node: name,
		Logger: slog.New(slog.NewTextHandler(n.said, nil)), Registerer: n.metrics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	n.Control = c
	return n
}

// counts gives what the node counted: differences by whose state was wrong.
func (n *judged) counts(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]float64)
	for _, m := range families[0].Metric {
		if v := m.Counter.GetValue(); v > 0 {
			counts[m.Label[0].GetValue()] = v
		}
	}
	return counts
}

// wrong is a node with a state of its own, and its snapshot.
func (n *judged) wrong(t *testing.T, other *judged) {
	t.Helper()
	n.Spoil()
	do(t, other.Control, newEndpoint("org_a"))
	n.fresh(t)
}

func (n *judged) fresh(t *testing.T) {
	t.Helper()
	if err := n.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stopped wants the node to have found itself wrong, and to leave no snapshot.
func (n *judged) stopped(t *testing.T) {
	t.Helper()
	if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("the node that is wrong: %v", err)
	}
	if got := n.counts(t); !maps.Equal(got, map[string]float64{"this": 1}) {
		t.Errorf("it counts %v", got)
	}
	if _, err := n.Do(t.Context(), newEndpoint("org_a")); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("it takes commands: %v", err)
	}
	for _, when := range []string{"stopped", "closed"} {
		if _, err := os.Stat(n.path); !os.IsNotExist(err) {
			t.Errorf("%s, it has a snapshot: %v", when, err)
		}
		n.Close()
	}
}

// healthy wants the node to go on, and to have counted this.
func (n *judged) healthy(t *testing.T, counts map[string]float64) {
	t.Helper()
	if err := n.Healthy(); err != nil {
		t.Errorf("a node that is right: %v", err)
	}
	if got := n.counts(t); !maps.Equal(got, counts) {
		t.Errorf("it counts %v, not %v: %s", got, counts, n.said)
	}
}

// three nodes of one log, of which the last is wrong and has a snapshot of it.
func three(t *testing.T, log eventlog.Log) (a, b, bad *judged) {
	t.Helper()
	dir := t.TempDir()
	a = openJudged(t, log, "node a", filepath.Join(dir, "a"))
	b = openJudged(t, log, "node b", filepath.Join(dir, "b"))
	bad = openJudged(t, log, "the bad node", filepath.Join(dir, "bad"))
	do(t, a.Control, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	bad.fresh(t)
	bad.wrong(t, a)
	bad.Save()
	do(t, a.Control, newEndpoint("org_a")) // for which it would leave another, when it stops
	b.fresh(t)
	bad.fresh(t)
	return a, b, bad
}

// A node whose state isn't that of another finds out that it is wrong, stops, and
// heals by a restart: its snapshot isn't trusted any more.
func TestNodesThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		a, b, bad := three(t, log)
		if err := a.Check(t); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		bad.stopped(t)
		a.healthy(t, map[string]float64{})
		b.healthy(t, map[string]float64{})
		again := openJudged(t, log, "the bad node", bad.path)
		sameState(t, a.Control, again.Control)
		again.healthy(t, map[string]float64{})
		if again.said.String() != "" {
			t.Errorf("after a restart: %s", again.said)
		}
	})
}

// The node that is wrong is the first to say what its state is: those that are right
// go on, name it, and have it find out by their own check, minutes later.
func TestTheWrongNodeIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		a, b, bad := three(t, log)
		if err := bad.Check(t); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, n := range []*judged{a, b} {
			n.healthy(t, map[string]float64{"other": 1})
			if said := n.said.String(); !strings.Contains(said, "another node's state is wrong") || !strings.Contains(said, `node="the bad node"`) {
				t.Errorf("it says %s", said)
			}
		}
		bad.healthy(t, map[string]float64{})
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		bad.stopped(t)
		a.Close()
		b.Close()
		for _, n := range []*judged{a, b, bad} { // with snapshots, and without
			n = openJudged(t, log, "again", n.path)
			synctest.Wait()
			if err := n.Healthy(); err != nil {
				t.Errorf("a start behind a wrong check: %v", err)
			}
			do(t, n.Control, newEndpoint("org_a"))
			n.Close()
		}
	})
}

// The same by the clock, on both logs.
func TestNodesThatDifferInTime(t *testing.T) {
	for name, open := range map[string]func(*testing.T) eventlog.Log{
		"embedded": func(t *testing.T) eventlog.Log { return eventlogtest.Mem(t, topics...) },
		"kafka":    func(t *testing.T) eventlog.Log { return eventlogtest.Kafka(t, topics...) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b, bad := three(t, open(t))
			await := func(what string, ok func() bool) {
				for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal(what)
					}
				}
			}
			if err := bad.Check(t); err != nil {
				t.Fatal(err)
			}
			await("nobody noticed", func() bool { return a.counts(t)["other"] == 1 && b.counts(t)["other"] == 1 })
			if err := b.Check(t); err != nil {
				t.Fatal(err)
			}
			await("the wrong node goes on", func() bool { return bad.Healthy() != nil })
			bad.stopped(t)
			a.healthy(t, map[string]float64{"other": 1})
			if !strings.Contains(a.said.String(), `node="the bad node"`) {
				t.Errorf("it says %s", a.said)
			}
		})
	}
}

// A node that was killed before it had found out is no wiser with its snapshot, and
// finds out at its next start.
func TestAWrongSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		a, _, bad := three(t, log)
		bad.Save()
		left, err := os.ReadFile(bad.path)
		if err != nil {
			t.Fatal(err)
		}
		bad.Close()
		if err := a.Check(t); err != nil { // of the command that the snapshot ends with
			t.Fatal(err)
		}
		if err := os.WriteFile(bad.path, left, 0o600); err != nil {
			t.Fatal(err)
		}
		bad = openJudged(t, log, "the bad node", bad.path)
		synctest.Wait()
		bad.stopped(t)
		again := openJudged(t, log, "the bad node", bad.path)
		sameState(t, a.Control, again.Control)
	})
}

// unread is a log whose records can be followed, and not read again.
type unread struct {
	eventlog.Log
	reads atomic.Bool
}

func (l *unread) Read(ctx context.Context, p eventlog.Partition, from int64, most int) ([]eventlog.Record, error) {
	if !l.reads.Load() {
		return nil, errors.New("broken")
	}
	return l.Log.Read(ctx, p, from, most)
}

// While a node can't find out who is wrong it goes on and leaves no snapshot, and in
// the end gives up until the next check.
func TestDoubt(t *testing.T) {
	for name, back := range map[string]time.Duration{"for a minute": time.Minute, "for good": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &unread{Log: eventlogtest.Mem(t, topics...)}
				a, _, bad := three(t, log)
				saved, _ := os.ReadFile(bad.path)
				if err := a.Check(t); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				bad.Save()
				if now, _ := os.ReadFile(bad.path); len(saved) == 0 || !bytes.Equal(saved, now) {
					t.Error("it has another snapshot")
				}
				bad.healthy(t, map[string]float64{})
				time.Sleep(min(back, 6*time.Minute))
				log.reads.Store(true)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if back > 5*time.Minute {
					bad.healthy(t, map[string]float64{"unknown": 1})
					do(t, a.Control, newEndpoint("org_a"))
					if err := a.Check(t); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if bad.Healthy() == nil {
						t.Error("it goes on behind the next check")
					}
					return
				}
				bad.stopped(t)
			})
		})
	}
}

// A check that was wrong when it was written doesn't keep a node from starting.
func TestAWrongCheckOfThePast(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	a := open(t, log)
	do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	a.Spoil()
	do(t, a, &control.CreateOrg{ID: "org_b", Plan: control.Free})
	if err := a.Check(t); err != nil {
		t.Fatal(err)
	}
	a.Close()
	b, said := openAt(t, log, "")
	if !strings.Contains(said, "another node had another state") {
		t.Errorf("it said %q", said)
	}
	if err := b.Check(t); err != nil || b.Healthy() != nil {
		t.Errorf("%v, %v", err, b.Healthy())
	}
}

// Nodes compare themselves without being asked, and few of many write about it.
func TestNodesCompareNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		nodes := []*control.Control{open(t, log), open(t, log), open(t, log)}
		do(t, nodes[0], &control.CreateOrg{ID: "org_a", Plan: control.Free})
		time.Sleep(time.Second)
		before := nodes[0].Applied()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := nodes[0].Applied() - before; n < 1 || n > 2 {
			t.Errorf("%d checks of one change", n)
		}
		nodes[1].Spoil()
		do(t, nodes[0], &control.CreateOrg{ID: "org_b", Plan: control.Free})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for i, c := range nodes {
			if err := c.Healthy(); (err != nil) != (i == 1) {
				t.Errorf("node %d: %v", i, err)
			}
			c.Close()
		}
	})
}
