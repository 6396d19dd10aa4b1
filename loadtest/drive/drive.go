// Package drive loads a running deployment over the APIs that it publishes, times
// what comes back, and holds it against what was acknowledged.
//
//	               ┌─ publishers ─ POST /v1/events ──►┌────────────┐
//	scenario ──►   │                                  │ deployment │
//	 (a file)      ├─ streams ◄── WebSocket, SSE ─────│            │
//	               └─ receivers ◄──── webhooks ───────└────────────┘
//	                     │                │
//	                  meters ──► figures, second by second
//	                  book ────► verdict: nothing lost, foreign, misordered, or missing unsaid
//	                  headroom ► was it the client that was the limit?
//
// What is sent is decided by the clock and never waits for an answer, and times count
// from when it was due. Every event has the run's name in its type, its id and its
// data, and a number, so that it is known wherever it comes out, and others' events,
// and other runs', don't count.
//
// Where the deployment is a fleet that it has started itself, processes are broken
// meanwhile, by the seed, and the book is told.
//
// Where one process isn't enough, others of the same program have each a share of all
// that (team.go): what events are, all have in one piece of memory, and what else the
// first must know they tell it when nothing waits for that.
//
// Reading order: scenario.go drive.go strangers.go; publish.go; stream.go websocket.go events.go;
// receive.go owed.go; faults.go; mark.go meter.go headroom.go servers.go; seconds.go settle.go result.go;
// share.go team.go member.go seat.go. What is held against what is in sluice/loadtest/book.
package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/loadtest/book"
	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
)

// Config says what to load, and how.
type Config struct {
	Scenario *Scenario
	Name     string       // of the scenario
	URL      string       // of the deployment, without a slash at its end
	Stream   string       // the same, of its streams; empty: there
	Fleet    *fleet.Fleet // its processes, which the scenario's faults are of; nil: they are somebody else's
	Binary   string       // what those that are restarted run from then on; empty: what they did
	Keys     []string     // one of each org
	// Call makes a request of the API with the key of an org.
	Call    Call
	Metrics []string // where processes of the deployment show their metrics, MostServers at most; empty: none is looked at
	Seed    uint64   // decides who fails, stalls and leaves when

	ReceiveOn string // where to listen for webhooks: host:port
	ReceiveAt string // how the deployment reaches that; empty: by that address

	Processes int              // that share the load, this one among them; 0: 1
	Command   func() *exec.Cmd // of another, which calls Join with its standard input and output, and its file 3

	Say  func(text string) // is told how far it is
	Each func(Second)      // is told what came in each second
}

// Call makes a request of the API with the key of an org.
type Call func(ctx context.Context, org int, method, path string, in, out any) error

// run is one run, or this process's share of it.
type run struct {
	Config
	share
	peers    peers
	team     *team // the other processes, if this is the first of several
	scenario *Scenario
	marks    *marks
	book     *book.Book
	headroom *headroom
	nemesis  fleet.Nemesis
	faults   []ledger.Fault
	http     fasthttp.Client

	publishers []*publishing
	streams    []*streams
	receivers  []*receivers
	servers    []*server
	classes    []*class
	server     *fasthttp.Server
	port       net.Listener // the server's

	listening  context.Context         // ends when all is over, or it has failed
	cancel     context.CancelCauseFunc // ends it as failed
	wanted     context.Context         // ends when the run is interrupted
	patience   context.Context         // until then what was begun is tried again
	settled    chan struct{}           // closed when nobody stalls or leaves any more
	calm       time.Time               // when settled was
	over       chan struct{}           // closed when all is seen
	peace      chan struct{}           // closed when nothing is published or broken any more
	dialing    chan struct{}
	background sync.WaitGroup // all that goes on beside publishing
	watch      func(context.Context, *seconds)

	mu     sync.Mutex
	byPath map[string]*endpoint
	seeds  uint64
	notes  map[string]int
}

// class is a class of the book, and who is in it.
type class struct {
	*book.Class
	org   int
	wants []bool
}

// mostDials is how many clients connect at once.
const mostDials = 64

// Run does what the scenario says, until it is done or ctx ends; then it waits for
// what is still on its way, takes its endpoints away and gives what it saw. An error
// says that there was no run, or that it couldn't go on.
func Run(ctx context.Context, cfg Config) (result *Result, err error) {
	r := newRun(ctx, cfg, newName(), share{0, max(1, cfg.Processes)})
	if r.Fleet != nil {
		r.book.Judge(fleet.Rules, fleet.InFlight)
		r.nemesis.Broke, r.nemesis.Say, r.nemesis.Binary = r.broke, r.Say, r.Binary
	}
	if r.of > 1 {
		r.team = &team{run: r}
		r.peers = r.team
		defer context.AfterFunc(ctx, r.team.stop)()
	}
	err = r.perform(ctx, func(ctx context.Context, s *seen) (err error) {
		result, err = r.conclude(ctx, s)
		return err
	})
	return result, err
}

// newRun makes a process's share of the run of a name.
func newRun(ctx context.Context, cfg Config, name string, of share) *run {
	r := &run{Config: cfg, share: of, peers: alone{}, scenario: cfg.Scenario, byPath: make(map[string]*endpoint), settled: make(chan struct{}), over: make(chan struct{}),
		peace: make(chan struct{}), dialing: make(chan struct{}, mostDials), notes: make(map[string]int)}
	r.book = cfg.Scenario.book(len(cfg.Keys), func(n int) string { return r.marks.id(n) })
	r.marks = newMarks(name, cfg.Scenario, len(cfg.Keys), r.book)
	r.Stream = cmp.Or(r.Stream, r.URL)
	r.watch = func(ctx context.Context, w *seconds) { w.watch(ctx) }
	most := 0
	for i := range cfg.Scenario.Publishers {
		p := &publishing{Publisher: &cfg.Scenario.Publishers[i], run: r, index: i, meter: newMeter()}
		p.slots = r.part(p.InFlight)
		most += p.slots
		r.publishers = append(r.publishers, p)
	}
	r.http = fasthttp.Client{MaxConnsPerHost: most, NoDefaultUserAgentHeader: true}
	// Ctrl-C ends publishing; who listens goes on until everything is there.
	r.listening, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	r.wanted = ctx
	return r
}

// perform does this process's share, and has conclude make of it what it wants. Then the
// first process takes all endpoints away; another does that only if it can't go on, since
// the first may be no more.
func (r *run) perform(ctx context.Context, conclude func(context.Context, *seen) error) error {
	defer r.http.CloseIdleConnections()
	listening := r.listening
	defer r.cancel(nil)
	var forgo context.CancelFunc
	r.patience, forgo = context.WithCancel(listening)
	defer forgo()
	publishing, stop := context.WithCancel(listening)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop()
		select {
		case <-r.peace: // who is broken can't hurry
			time.AfterFunc(hurry, forgo)
		case <-r.over:
		}
	})()

	s, err := r.do(publishing, listening, forgo)
	if err == nil {
		err = conclude(listening, s)
	}
	close(r.over)
	r.team.dismiss()
	r.cancel(nil)
	r.team.end()
	removing, enough := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer enough()
	if r.number == 0 || err != nil {
		err = errors.Join(err, r.remove(removing))
	}
	if r.server != nil {
		r.server.ShutdownWithContext(removing)
		r.port.Close() // of which the server doesn't know if it hasn't begun: then it begins now, and ends
	}
	r.background.Wait()
	return err
}

// hurry is how long an interrupted run waits for what is still on its way.
const hurry = 10 * time.Second

// removeWithin is how long it may take to take endpoints away.
const removeWithin = 30 * time.Second

// seen is what a process has of a run when all is over.
type seen struct {
	*seconds
	published   time.Duration
	interrupted bool
	client      Client
	report      *ledger.Report
}

// do prepares, publishes, and waits.
func (r *run) do(publishing, listening context.Context, forgo context.CancelFunc) (*seen, error) {
	err := r.prepare(publishing, listening)
	if err == nil {
		err = r.meet(publishing, inPlace)
	}
	if err != nil {
		return nil, cmp.Or(context.Cause(listening), err)
	}
	r.Say(fmt.Sprintf("run %s: everybody is in place; publishing for %v", r.marks.run, time.Duration(r.scenario.Duration)))
	r.headroom = newHeadroom()
	timing, stop := context.WithCancel(listening)
	r.background.Go(func() { r.headroom.run(timing) })
	w := &seconds{run: r, began: time.Now()}
	var watched sync.WaitGroup
	watched.Go(func() { r.watch(timing, w) })
	watched.Go(func() { watchServers(timing, r.servers, w.began) })
	breaking, calm := context.WithTimeout(publishing, time.Duration(r.scenario.Duration))
	defer calm()
	r.background.Go(func() {
		if r.Fleet != nil {
			r.rage(breaking)
		}
		<-breaking.Done()
		r.meet(listening, peaceful) // who fails is told below
		close(r.peace)
		time.AfterFunc(time.Duration(r.scenario.Settle), forgo)
	})
	took := r.publish(publishing)
	calm()
	<-r.peace
	r.meet(listening, published)
	report := r.settle(listening, forgo)
	stop()
	watched.Wait()
	s := &seen{w, took, publishing.Err() != nil, r.headroom.client(), report}
	return s, context.Cause(listening)
}

// conclude sums up what all processes saw.
func (r *run) conclude(ctx context.Context, s *seen) (*Result, error) {
	parts, err := r.team.collect(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		s.report.Join(p.Report)
		s.published = max(s.published, p.Took)
	}
	result := r.result(s)
	for _, p := range parts {
		result.join(p.Result)
	}
	if len(parts) > 0 {
		result.Clients = []Client{s.client}
		for _, p := range parts {
			result.Clients = append(result.Clients, p.Result.Client)
		}
		result.Client = together(result.Clients, r.headroom.together)
	}
	return result, nil
}

// prepare has everybody in place who is to see what is published.
func (r *run) prepare(ctx, listening context.Context) error {
	var err error
	if r.number == 0 {
		if r.servers, err = servers(ctx, r.Metrics); err != nil {
			return err
		}
		if err := errors.Join(r.strangers(ctx), ctx.Err()); err != nil {
			return err
		}
		if err := r.team.start(); err != nil {
			return err
		}
	}
	if err := r.serve(); err != nil {
		return err
	}
	for i := range r.scenario.Receivers {
		s := &receivers{Receivers: &r.scenario.Receivers[i], run: r, meter: newMeter()}
		r.receivers = append(r.receivers, s)
		if err := r.register(ctx, s); err != nil {
			return err
		}
	}
	for i := range r.scenario.Streams {
		r.streams = append(r.streams, r.gather(&r.scenario.Streams[i]))
	}
	return r.connect(ctx, listening)
}

// connectWithin is how long it may take until all clients are subscribed.
const connectWithin = 2 * time.Minute

// connect starts the clients, and waits until each has its stream.
func (r *run) connect(ctx, listening context.Context) error {
	following, stop := context.WithCancel(listening)
	r.background.Go(func() {
		<-r.over
		stop()
	})
	late := time.After(connectWithin)
	for _, s := range r.streams {
		for _, f := range s.followers {
			r.background.Go(func() { f.follow(following) })
		}
	}
	for _, s := range r.streams {
		for i, f := range s.followers {
			select {
			case <-f.began:
			case <-late:
				return fmt.Errorf("streams %s: %d of %d had begun after %v: %v", s.Name, i, len(s.followers), connectWithin, s.reasons())
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// class gives the class of streams of an org that want these publishers' events.
func (r *run) class(org int, publishers []string) *book.Class {
	wants := r.scenario.wants(publishers)
	for _, c := range r.classes {
		if c.org == org && slices.Equal(c.wants, wants) {
			return c.Class
		}
	}
	c := &class{r.book.Class(fmt.Sprintf("org %d", org+1), org, wants), org, wants}
	r.classes = append(r.classes, c)
	return c.Class
}

// lag is how far behind its time a publisher may be in the end; what is due by then
// and couldn't be sent isn't.
const lag = time.Second

// publish has all publishers publish, and gives how long they took.
func (r *run) publish(ctx context.Context) time.Duration {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.scenario.Duration)+lag)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range r.publishers {
		all.Go(func() { p.publish(ctx) })
	}
	all.Wait()
	return time.Since(began)
}

// random gives a source that follows from the seed and from how many were given.
func (r *run) random() *rand.Rand {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeds++
	return rand.New(rand.NewPCG(r.Seed, uint64(r.number)<<32|r.seeds))
}

// fail ends the run.
func (r *run) fail(err error) { r.cancel(err) }

// note keeps what may happen, and somebody may want to know.
func (r *run) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) < 20 || r.notes[text] > 0 {
		r.notes[text]++
	}
}

func (r *run) noted() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.notes)
}

func (r *run) settling() bool {
	select {
	case <-r.settled:
		return true
	default:
		return false
	}
}

// pause waits; an error says that ctx ended first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
