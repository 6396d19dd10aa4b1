package drive

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"sluice/loadtest/ledger"
)

// team is the other processes of a run, as the first sees them.
//
//	first ──order──► member ─ its share of publishers, streams, receivers
//	  ▲ ◄────told────┘   │
//	  └─ events' times and places: a piece of memory that all have ─┘
//
// Nothing that is timed waits for them: what a member has counted it tells when it is
// asked, once a second, and so there is never more than one such answer on its way.
type team struct {
	run   *run
	looks int

	mu      sync.Mutex
	members []*member
}

// order is what the first process says to another. One of its fields is set.
type order struct {
	Setup *setup
	Go    stage         // all have come to it
	Look  int           // tell what was counted: the so-manieth time
	Fault *ledger.Fault // one is over
	Stop  bool          // Ctrl-C
}

// setup is what a process must know of a run.
type setup struct {
	Number, Of           int
	Name                 string // of the run
	Scenario             Scenario
	URL, Stream          string
	Keys                 []string
	Seed                 uint64
	ReceiveOn, ReceiveAt string
	Began                time.Time // the book
	Judge                bool      // all faults are known
}

// told is what a process says to the first. One of its fields is set.
type told struct {
	At     stage
	Looked *looked
	Part   *part
	Failed string // why there is nothing more to come
	Done   bool   // all is told
}

// looked is what a process has counted since it was asked last.
type looked struct {
	Look                           int
	CPU                            float64 // share of the machine's processors
	Retries                        []int64 // of publishers
	Publishers, Streams, Receivers []Lapse
}

// part is what a process saw in all.
type part struct {
	Result *Result
	Report *ledger.Report
	Took   time.Duration // publishing
}

// start starts the other processes.
func (t *team) start() error {
	if t == nil {
		return nil
	}
	r := t.run
	table, err := os.CreateTemp("", "sluice-load-account-")
	if err != nil {
		return fmt.Errorf("share the account: %w", err)
	}
	defer table.Close()
	defer os.Remove(table.Name()) // who has it open keeps it
	began := time.Now()
	if err := r.book.Share(table, began, true); err != nil {
		return err
	}
	scenario := *r.scenario
	scenario.Processes, scenario.Faults = nil, nil // which are the first's
	for number := 1; number < r.of; number++ {
		m, err := t.enlist(number, table)
		if err != nil {
			return err
		}
		m.say(order{Setup: &setup{Number: number, Of: r.of, Name: r.marks.run, Scenario: scenario, URL: r.URL, Stream: r.Stream, Keys: r.Keys, Seed: r.Seed,
			ReceiveOn: r.ReceiveOn, ReceiveAt: r.ReceiveAt, Began: began, Judge: r.Fleet != nil}})
	}
	return nil
}

// arrive returns when all others have come to a stage.
func (t *team) arrive(ctx context.Context, at stage) error {
	for _, m := range t.all() {
		select {
		case <-m.reached[at]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// leave has all others go on.
func (t *team) leave(_ context.Context, at stage) error {
	t.tell(order{Go: at})
	return nil
}

// all lists the members that were started.
func (t *team) all() []*member {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.members[:len(t.members):len(t.members)]
}

// tell says something to all members; who doesn't hear it has ended, which fails the run.
func (t *team) tell(o order) {
	for _, m := range t.all() {
		m.say(o)
	}
}

func (t *team) stop() { t.tell(order{Stop: true}) }

// broke tells that a fault is over.
func (t *team) broke(f ledger.Fault) {
	if t != nil {
		t.tell(order{Fault: &f})
	}
}

// lookWithin is how long a member may take to tell what it has counted: what comes later
// counts as of the next second, if there is one.
const lookWithin = 300 * time.Millisecond

// look has the meters have what others counted until now, and gives what share of the
// processors they used. last: there is no next one. It is for one goroutine.
func (t *team) look(last bool) (cpu float64) {
	if t == nil {
		return 0
	}
	t.looks++
	t.tell(order{Look: t.looks})
	patience := lookWithin
	if last {
		patience = answerWithin
	}
	late := time.After(patience)
	for _, m := range t.all() {
		for waiting := true; waiting; {
			select {
			case l := <-m.looked:
				t.add(l)
				cpu += l.CPU
				waiting = l.Look != t.looks
			case <-m.ended:
				waiting = false
			case <-late:
				late, waiting = closed, false
			}
		}
	}
	return cpu
}

func (t *team) add(l *looked) {
	for i, p := range t.run.publishers {
		p.meter.add(l.Publishers[i])
		p.others.Add(l.Retries[i])
	}
	for i, s := range t.run.streams {
		s.meter.add(l.Streams[i])
	}
	for i, s := range t.run.receivers {
		s.meter.add(l.Receivers[i])
	}
}

// collect gives what the others saw, once they have told it.
func (t *team) collect(ctx context.Context) (parts []*part, err error) {
	if t == nil {
		return nil, nil
	}
	for _, m := range t.all() {
		select {
		case p := <-m.part:
			parts = append(parts, p)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return parts, nil
}

// dismiss has all members end.
func (t *team) dismiss() {
	if t != nil {
		for _, m := range t.all() {
			m.in.Close()
		}
	}
}

// end waits until all members that were dismissed have ended.
func (t *team) end() {
	if t == nil {
		return
	}
	late := time.After(removeWithin + answerWithin)
	for _, m := range t.all() {
		select {
		case <-m.ended:
		case <-late:
			late = closed
			m.cmd.Process.Kill()
			<-m.ended
		}
	}
}

// closed is a time that has come.
var closed = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()
