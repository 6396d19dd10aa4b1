package control_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/eventlog/eventlogtest"
)

// A node whose state isn't that of another stops, and heals by a restart: its
// snapshot isn't trusted any more.
func TestNodesThatDiffer(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "control.snapshot")
	a := open(t, log)
	b, _ := openAt(t, log, path)
	do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Spoil()
	do(t, a, newEndpoint("org_a"))
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Save()
	do(t, a, newEndpoint("org_a")) // for which it would leave another, when it stops
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(t); err != nil {
		t.Fatal(err)
	}
	if err := b.Fresh(t.Context()); err == nil {
		t.Error("the node with another state goes on")
	}
	if err := b.Healthy(); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("it says %v", err)
	}
	if err := a.Healthy(); err != nil {
		t.Errorf("the node that checked: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("its snapshot is still there: %v", err)
	}
	b.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it left a snapshot: %v", err)
	}
	again, said := openAt(t, log, path)
	sameState(t, a, again)
	if said != "" {
		t.Errorf("after a restart: %s", said)
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
		bad := 0
		for _, c := range nodes {
			if c.Healthy() != nil {
				bad++
			}
			c.Close()
		}
		if bad == 0 {
			t.Error("nobody noticed")
		}
	})
}
