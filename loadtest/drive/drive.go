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
// Reading order: scenario.go drive.go; publish.go; stream.go websocket.go events.go;
// receive.go owed.go; faults.go; mark.go meter.go headroom.go servers.go; seconds.go settle.go result.go. What is
// held against what is in sluice/loadtest/book.
package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
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
	Call    func(ctx context.Context, org int, method, path string, in, out any) error
	Metrics []string // where processes of the deployment show their metrics, MostServers at most; empty: none is looked at
	Seed    uint64   // decides who fails, stalls and leaves when

	ReceiveOn string // where to listen for webhooks: host:port
	ReceiveAt string // how the deployment reaches that; empty: by that address

	Say  func(text string) // is told how far it is
	Each func(Second)      // is told what came in each second
}

// run is one run.
type run struct {
	Config
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

	cancel     context.CancelCauseFunc // ends it as failed
	wanted     context.Context         // ends when the run is interrupted
	patience   context.Context         // until then what was begun is tried again
	settled    chan struct{}           // closed when nobody stalls or leaves any more
	calm       time.Time               // when settled was
	over       chan struct{}           // closed when all is seen
	peace      chan struct{}           // closed when nothing is published or broken any more
	dialing    chan struct{}
	background sync.WaitGroup // all that goes on beside publishing

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
func Run(ctx context.Context, cfg Config) (*Result, error) {
	r := &run{Config: cfg, scenario: cfg.Scenario, byPath: make(map[string]*endpoint), settled: make(chan struct{}), over: make(chan struct{}), peace: make(chan struct{}),
		dialing: make(chan struct{}, mostDials), notes: make(map[string]int)}
	b := cfg.Scenario.book(len(cfg.Keys), func(n int) string { return r.marks.id(n) })
	r.book, r.marks = b, newMarks(newRun(), cfg.Scenario, len(cfg.Keys), b)
	r.Stream = cmp.Or(r.Stream, r.URL)
	if r.Fleet != nil {
		b.Judge(fleet.Rules, fleet.InFlight)
		r.nemesis.Broke, r.nemesis.Say, r.nemesis.Binary = r.broke, r.Say, r.Binary
	}
	most := 0
	for i := range cfg.Scenario.Publishers {
		p := &cfg.Scenario.Publishers[i]
		most += p.InFlight
		r.publishers = append(r.publishers, &publishing{Publisher: p, run: r, index: i, meter: newMeter()})
	}
	r.http = fasthttp.Client{MaxConnsPerHost: most, NoDefaultUserAgentHeader: true}
	defer r.http.CloseIdleConnections()

	// Ctrl-C ends publishing; who listens goes on until everything is there.
	listening, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	r.cancel = cancel
	r.wanted = ctx
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

	result, err := r.do(publishing, listening, forgo)
	close(r.over)
	cancel(nil)
	removing, enough := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer enough()
	err = errors.Join(err, r.remove(removing))
	if r.server != nil {
		r.server.ShutdownWithContext(removing)
		r.port.Close() // of which the server doesn't know if it hasn't begun: then it begins now, and ends
	}
	r.background.Wait()
	return result, err
}

// hurry is how long an interrupted run waits for what is still on its way.
const hurry = 10 * time.Second

// removeWithin is how long it may take to take endpoints away.
const removeWithin = 30 * time.Second

// do prepares, publishes, waits, and sums up.
func (r *run) do(publishing, listening context.Context, forgo context.CancelFunc) (*Result, error) {
	if err := r.prepare(publishing, listening); err != nil {
		return nil, cmp.Or(context.Cause(listening), err)
	}
	r.Say(fmt.Sprintf("run %s: everybody is in place; publishing for %v", r.marks.run, time.Duration(r.scenario.Duration)))
	r.headroom = newHeadroom()
	timing, stop := context.WithCancel(listening)
	r.background.Go(func() { r.headroom.run(timing) })
	w := &seconds{run: r, began: time.Now()}
	var watched sync.WaitGroup
	watched.Go(func() { w.watch(timing) })
	watched.Go(func() { watchServers(timing, r.servers, w.began) })
	breaking, calm := context.WithTimeout(publishing, time.Duration(r.scenario.Duration))
	defer calm()
	r.background.Go(func() {
		r.rage(breaking)
		<-breaking.Done()
		close(r.peace)
		time.AfterFunc(time.Duration(r.scenario.Settle), forgo)
	})
	published := r.publish(publishing)
	calm()
	<-r.peace
	report := r.settle(listening, forgo)
	stop()
	watched.Wait()
	client := r.headroom.client()
	if err := context.Cause(listening); err != nil {
		return nil, err
	}
	return r.result(w, published, publishing.Err() != nil, client, report), nil
}

// prepare has everybody in place who is to see what is published.
func (r *run) prepare(ctx, listening context.Context) error {
	var err error
	if r.servers, err = servers(ctx, r.Metrics); err != nil {
		return err
	}
	if err := r.strangers(ctx); err != nil {
		return err
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
				return fmt.Errorf("streams %s: %d of %d had begun after %v: %v", s.Name, i, s.Connections, connectWithin, s.reasons())
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// probeWithin is how long it may take until what was acknowledged can be read.
const probeWithin = 30 * time.Second

// strangers makes sure that no key sees what is for the org of another: that is held
// against who receives it, later.
func (r *run) strangers(ctx context.Context) error {
	if len(r.Keys) == 1 {
		return nil
	}
	for org := range r.Keys {
		id := fmt.Sprintf("load_%s_probe%d", r.marks.run, org)
		in := map[string]any{"type": r.marks.typ("probe"), "id": id, "data": map[string]any{}}
		if err := r.Call(ctx, org, http.MethodPost, "/v1/events", in, nil); err != nil {
			return err
		}
		// That others don't see it says nothing as long as nobody can.
		for until := time.Now().Add(probeWithin); ; {
			if seen, err := r.sees(ctx, org, id); err != nil {
				return err
			} else if seen {
				break
			}
			if time.Now().After(until) {
				return fmt.Errorf("event %s was acknowledged and couldn't be read %v later with key %d", id, probeWithin, org+1)
			}
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
		for other := range org {
			if seen, err := r.sees(ctx, other, id); err != nil {
				return err
			} else if seen {
				return fmt.Errorf("keys %d and %d see one another's events: give keys of different orgs", other+1, org+1)
			}
		}
	}
	return nil
}

// sees says whether an org's key can read a probe.
func (r *run) sees(ctx context.Context, org int, id string) (bool, error) {
	var list struct{ Data []struct{ ID string } }
	err := r.Call(ctx, org, http.MethodGet, "/v1/events?types="+r.marks.typ("probe"), nil, &list)
	return slices.ContainsFunc(list.Data, func(e struct{ ID string }) bool { return e.ID == id }), err
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
	return rand.New(rand.NewPCG(r.Seed, r.seeds))
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
