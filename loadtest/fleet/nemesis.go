package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"sluice/loadtest/ledger"
)

// Rules are how long a fault of a fleet may be why something else happens.
var Rules = ledger.Rules{Slack: 5 * time.Second, Settle: 45 * time.Second}

// InFlight is how many deliveries may be under way to one endpoint, as the documents
// say: no fault may repeat more.
const InFlight = 32

// How is a way to break something.
type How string

// The ways.
const (
	Kill    How = "kill -9" // as a power cut would, and start it again after a while
	Restart How = "SIGTERM" // have it drain, and start it again after a while
	Freeze  How = "SIGSTOP" // and SIGCONT after a while
)

// Victim is what can be broken: a Node, or a broker.
type Victim interface {
	String() string // its name
	Signal(syscall.Signal)
	Revive(context.Context) error // starts it, once it has ended, and returns when it is ready
}

// Nemesis breaks things, several at once if need be, and writes down what it broke.
// Its methods may be called concurrently.
type Nemesis struct {
	Broke func(ledger.Fault) // is told of each fault when it is over; it may take its time
	Say   func(text string)  // what happened, for people
	// Binary is what those that are restarted run from then on; empty: what they did.
	Binary string

	mu     sync.Mutex
	broken map[string]bool // whom it has in its hands
	faults []ledger.Fault
	failed []error
}

// Take lays hands on something, so that no two strikes meet on it; false: another did.
// Strike lets go of it.
func (n *Nemesis) Take(whom Victim) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken[whom.String()] {
		return false
	}
	if n.broken == nil {
		n.broken = make(map[string]bool)
	}
	n.broken[whom.String()] = true
	return true
}

func (n *Nemesis) give(whom Victim) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[whom.String()] = false
}

// drainWithin is how long a process may take to end after SIGTERM.
const drainWithin = 30 * time.Second

// Strike breaks what was taken, for so long or until ctx ends, and returns when it is
// whole again, whatever becomes of ctx.
func (n *Nemesis) Strike(ctx context.Context, how How, whom Victim, lasts time.Duration) {
	defer n.give(whom)
	node, _ := whom.(*Node)
	f := ledger.Fault{What: string(how), Whom: whom.String(), From: time.Now(), Repeats: node == nil || node.Has("dispatcher")}
	switch how {
	case Kill:
		whom.Signal(syscall.SIGKILL)
	case Restart:
		if code, took := node.Term(drainWithin + 10*time.Second); code != 0 || took > drainWithin {
			n.fail(fmt.Errorf("%s ended with %d, %v after SIGTERM: its log is %s", whom, code, took.Round(time.Millisecond), node.Log()))
		}
		node.Binary = cmp.Or(n.Binary, node.Binary)
	case Freeze:
		whom.Signal(syscall.SIGSTOP)
	}
	pause(ctx, lasts)
	if how == Freeze {
		whom.Signal(syscall.SIGCONT)
	} else if err := whom.Revive(context.WithoutCancel(ctx)); err != nil {
		n.fail(err)
	}
	f.Until = time.Now()
	n.note(f)
	n.Say(fmt.Sprintf("%-8s %-14s for %.1fs, whole again after %.1fs", how, f.Whom, lasts.Seconds(), f.Until.Sub(f.From).Seconds()))
}

func (n *Nemesis) note(f ledger.Fault) {
	n.Broke(f)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, f)
}

func (n *Nemesis) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = append(n.failed, err)
}

// Failed lists what must not have happened to those that were broken.
func (n *Nemesis) Failed() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.failed)
}
