// Package fleet is a deployment that whoever loads it has started itself: processes
// of sluice with a role or two each, on one log, which may be killed, frozen and
// restarted.
//
//	Fleet ──starts──► Node  Node  Node ──► brokers
//	  │                ▲     ▲     ▲
//	  │   Balancer ────┴─────┴─────┤ connections: one address for several
//	  │   Nemesis ─────────────────┤ kill -9, SIGTERM, SIGSTOP; writes down each fault
//	  └── keeper ──────────────────┘ ends them all when their parent is no more
//
// Reading order: fleet.go node.go keeper.go; nemesis.go stalls.go; balancer.go.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/pkg/freeport"
)

// AdminToken lets in to the admin API of every fleet.
const AdminToken = "loadtest-admin-token-of-32-bytes"

// Config says what a fleet is made of.
type Config struct {
	Binary  string   // of sluice
	Dir     string   // is there; gets what processes keep and say, and has nothing of others'
	Brokers string   // with commas between; empty: there is one process, which has the log
	Prefix  string   // of topics
	Roles   []string // of each process, with commas between
}

// Fleet is the processes. Its methods are for one goroutine.
type Fleet struct {
	Config
	Nodes  []*Node
	keeper *keeper
}

// New prepares the processes; Stop is to be called also when none has been started.
func New(cfg Config) (*Fleet, error) {
	if cfg.Brokers == "" && len(cfg.Roles) > 1 {
		return nil, errors.New("several processes share a log on brokers, and none were given")
	}
	secrets := filepath.Join(cfg.Dir, "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		return nil, err
	}
	f := &Fleet{Config: cfg}
	for i, roles := range cfg.Roles {
		n, err := f.node(i+1, roles, secrets)
		if err != nil {
			return nil, errors.Join(err, f.Stop())
		}
		f.Nodes = append(f.Nodes, n)
	}
	return f, nil
}

func (f *Fleet) node(number int, roles, secrets string) (*Node, error) {
	n := &Node{fleet: f, Name: fmt.Sprintf("%s-%d", strings.ReplaceAll(roles, ",", "+"), number), Roles: roles, Binary: f.Binary}
	for _, address := range []*string{&n.Address, &n.Ops} {
		var err error
		if *address, err = freeport.Address(); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(f.Dir, n.Name) // which on brokers must be there for anything to be kept in it
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, fmt.Errorf("%w: a directory is for one fleet", err) // with what another has kept it wouldn't be a new one
	}
	n.Args = []string{"serve", "--listen", n.Address, "--ops", n.Ops, "--roles", roles, "--data", data,
		"--secrets-key-file", secrets, "--admin-token", AdminToken, "--allow-private-endpoints"}
	if f.Brokers != "" {
		n.Args = append(n.Args, "--brokers", f.Brokers, "--prefix", f.Prefix)
	}
	var err error
	n.log, err = os.Create(filepath.Join(f.Dir, n.Name+".log"))
	return n, err
}

// Start starts all processes and returns when they are ready.
func (f *Fleet) Start(ctx context.Context) (err error) {
	if f.keeper, err = keep(); err != nil {
		return err
	}
	errs := make([]error, len(f.Nodes))
	var starting sync.WaitGroup
	for i, n := range f.Nodes {
		if i == 0 { // alone: it makes the topics
			if err := n.Revive(ctx); err != nil {
				return err
			}
			continue
		}
		starting.Go(func() { errs[i] = n.Revive(ctx) })
	}
	starting.Wait()
	return errors.Join(errs...)
}

// stopWithin is how long a process may take to end, once those before it have.
const stopWithin = 30 * time.Second

// Stop ends all processes. An error names those that had to be killed.
func (f *Fleet) Stop() (err error) {
	for _, n := range f.Nodes {
		n.Signal(syscall.SIGCONT)
		n.Signal(syscall.SIGTERM)
	}
	for _, n := range f.Nodes {
		if n.ended != nil {
			select {
			case <-n.ended:
			case <-time.After(stopWithin):
				err = errors.Join(err, fmt.Errorf("%s doesn't stop: its log is %s", n, n.Log()))
				n.Kill()
			}
		}
		n.log.Close()
	}
	if f.keeper != nil {
		f.keeper.end()
	}
	return err
}

// With lists the nodes that have a role.
func (f *Fleet) With(role string) (found []*Node) {
	for _, n := range f.Nodes {
		if n.Has(role) {
			found = append(found, n)
		}
	}
	return found
}
