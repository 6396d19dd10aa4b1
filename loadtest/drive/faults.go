package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
)

// Fault is a way in which processes are broken that the run has started itself, and
// when.
type Fault struct {
	Do    string `yaml:"do" json:"do"`       // kill, restart or freeze
	Role  string `yaml:"role" json:"role"`   // of the process, any that has it
	Every Time   `yaml:"every" json:"every"` // so often, half of it to one and a half apart
	At    []Time `yaml:"at" json:"at"`       // or then, since publishing began, of one after the other
	Lasts Time   `yaml:"lasts" json:"lasts"` // until it is started again, or goes on [1s]
}

// ways are what a fault can do.
var ways = map[string]fleet.How{"kill": fleet.Kill, "restart": fleet.Restart, "freeze": fleet.Freeze}

// mostLasts is how long a process may be away at once.
const mostLasts = 10 * time.Minute

func (f *Fault) check(processes []string) error {
	switch {
	case ways[f.Do] == "":
		return errors.New("do must be kill, restart or freeze")
	case !slices.ContainsFunc(processes, func(roles string) bool { return roles == "all" || slices.Contains(strings.Split(roles, ","), f.Role) }):
		return fmt.Errorf("no process has the role %q", f.Role)
	case (f.Every > 0) == (len(f.At) > 0):
		return errors.New("say how often, with every, or when, with at")
	case f.Every > 0 && f.Every < Time(time.Second):
		return errors.New("every must be 1s or more")
	case f.Lasts > Time(mostLasts):
		return fmt.Errorf("lasts must be %v at most", mostLasts)
	}
	return nil
}

// strike is a fault that is due.
type strike struct {
	at    time.Duration // since publishing began
	how   fleet.How
	role  string
	which uint64 // of those that have it
	lasts time.Duration
}

// strikes are all faults of a run, by time: they follow from the seed alone. Each is
// over while publishing goes on.
func (s *Scenario) strikes(seed uint64) (all []strike) {
	for i, f := range s.Faults {
		rnd := rand.New(rand.NewPCG(seed, uint64(1_000_000+i)))
		add := func(at time.Duration, which uint64) {
			if at+time.Duration(f.Lasts) < time.Duration(s.Duration) {
				all = append(all, strike{at, ways[f.Do], f.Role, which, time.Duration(f.Lasts)})
			}
		}
		for which, at := range f.At {
			add(time.Duration(at), uint64(which))
		}
		if f.Every > 0 {
			for at := around(rnd, f.Every); at < time.Duration(s.Duration); at += around(rnd, f.Every) {
				add(at, rnd.Uint64())
			}
		}
	}
	slices.SortStableFunc(all, func(a, b strike) int { return cmp.Compare(a.at, b.at) })
	return all
}

// rage breaks what the scenario says, when it says so, until ctx ends; it returns when
// all is whole again.
func (r *run) rage(ctx context.Context) {
	var striking sync.WaitGroup
	defer striking.Wait()
	began := time.Now()
	for _, s := range r.scenario.strikes(r.Seed) {
		if pause(ctx, time.Until(began.Add(s.at))) != nil {
			return
		}
		whom := r.victim(s)
		if whom == nil {
			r.note(fmt.Sprintf("%s of a process with the role %s was due, and none was whole", s.how, s.role))
			continue
		}
		striking.Go(func() { r.nemesis.Strike(ctx, s.how, whom, s.lasts) })
	}
}

// victim takes a process that a strike can be of; nil: none is whole.
func (r *run) victim(s strike) *fleet.Node {
	nodes := r.Fleet.With(s.role)
	for i := range nodes {
		if n := nodes[(s.which+uint64(i))%uint64(len(nodes))]; r.nemesis.Take(n) {
			return n
		}
	}
	return nil
}

// broke writes down a fault that is over.
func (r *run) broke(f ledger.Fault) {
	r.book.Broke(f)
	r.team.broke(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, f)
}
