package loadtest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/loadtest/fleet"
)

// TestNemesis breaks a fleet under load, by seed: processes are killed, frozen for
// longer than their session lasts, and restarted; so is the broker. Then it is left
// in peace, and what came out must be what was acknowledged. One gateway is frozen
// only, so that what it keeps of all that came and went is seen.
//
//	SLUICE_SOAK   how long it is broken (default: each fault once)
//	SLUICE_SEED   which faults, in which order (default: any; it is printed)
func TestNemesis(t *testing.T) {
	t.Parallel() // it waits most of the time
	seed, length := settings(t)
	dir, out := diary(t, seed)
	began := time.Now()
	fmt.Fprintf(out, "seed        %d\n", seed)

	b := ownBroker(t)
	f := startFleet(t, b, dir, "api,gateway", "api,gateway", "api", "dispatcher", "dispatcher", "gateway")
	survivor := f.nodes[5]
	survivor.spared = true
	l := newLoad(t, f, 3)
	l.bursts = true
	for _, o := range l.orgs {
		l.receive(t, o, manners{name: "fast", patterns: []string{"*.created", "*.received", "*.done", "*.pending"}, late: 30 * time.Second})
		l.receive(t, o, manners{name: "flaky", patterns: []string{"rfq.*"}, answer: refusesSome(20, 1000), takes: 20 * time.Millisecond, late: 30 * time.Second})
		// It can take about a hundred a second, so that a burst waits for its room.
		l.receive(t, o, manners{name: "slow", patterns: []string{burst}, takes: 300 * time.Millisecond})
	}
	l.follow(everybody(l, seed, length > 0)...)
	quit := l.publish(2, seed)

	n := &nemesis{load: l, rnd: rand.New(rand.NewPCG(seed, 99)), out: out, began: began}
	n.Broke, n.Say = l.ledger.Broke, n.say
	w := survivor.watch(t)
	n.rage(length)
	w.tell(out, length)
	fmt.Fprintf(out, "%8.1fs  peace\n", time.Since(began).Seconds())
	quit()
	n.Stalls(f.Nodes)
	for _, err := range n.Failed() {
		l.fail("%v", err)
	}
	r := l.settle(t, 4*time.Minute)
	l.verdict(t, r, out)
	fmt.Fprintf(out, "took        %v\n", time.Since(began).Round(time.Second))
}

// settings reads the environment.
func settings(t *testing.T) (seed uint64, length time.Duration) {
	t.Helper()
	seed = rand.Uint64N(1e6)
	var err error
	if text := os.Getenv("SLUICE_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SLUICE_SEED: %v", err)
		}
	}
	if text := os.Getenv("SLUICE_SOAK"); text != "" {
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SLUICE_SOAK: %v", err)
		}
	}
	return seed, length
}

// diary is where the run is told: dist/ for one that somebody asked for, else the
// test's own log.
func diary(t *testing.T, seed uint64) (dir string, out io.Writer) {
	t.Helper()
	if os.Getenv("SLUICE_SOAK") == "" {
		return t.TempDir(), testLog{t}
	}
	dir = filepath.Join("..", "dist", fmt.Sprintf("soak-%d-%s", seed, time.Now().Format("150405")))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "soak.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return dir, io.MultiWriter(file, os.Stdout)
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Helper()
	l.t.Logf("%s", p)
	return len(p), nil
}

// everybody gives each org three clients: a steady one, a restless one, and one
// that dreams; in a soak also some that hardly stay, and one that stops reading for
// so long that it is cut off.
func everybody(l *load, seed uint64, soak bool) (all []*streamer) {
	for _, o := range l.orgs {
		clients := []*streamer{
			{name: "steady", patterns: []string{"*"}},
			{name: "restless", patterns: []string{"rfq.*", "settlement.*"}, restless: true},
			{name: "dreamy", patterns: []string{"*"}, dreamy: true, restless: true},
		}
		if soak {
			clients = append(clients,
				&streamer{name: "fleeting", patterns: []string{"*"}, restless: true},
				&streamer{name: "passing", patterns: []string{"quote.*", "burst.*"}, restless: true},
				&streamer{name: "stuck", patterns: []string{"*"}, stuck: true})
		}
		for i, s := range clients {
			s.org, s.name, s.rnd = o, o.id+" "+s.name, rand.New(rand.NewPCG(seed, uint64(1000+len(all)+i)))
			all = append(all, s)
		}
	}
	return all
}

// nemesis breaks things, by chance.
type nemesis struct {
	fleet.Nemesis
	load  *load
	rnd   *rand.Rand
	out   io.Writer
	began time.Time

	saying sync.Mutex
}

// strike is one way to break something.
type strike struct {
	how  fleet.How
	role string // of the process; empty: the broker
	// It lasts for at least so long, and at most for twice that.
	lasts time.Duration
}

// session is how long an owner of lanes may be silent.
const session = 10 * time.Second

var strikes = []strike{
	{fleet.Kill, "dispatcher", 500 * time.Millisecond},
	{fleet.Kill, "gateway", 500 * time.Millisecond},
	{fleet.Kill, "api", 500 * time.Millisecond},
	{fleet.Restart, "dispatcher", 200 * time.Millisecond},
	{fleet.Restart, "gateway", 200 * time.Millisecond},
	{fleet.Restart, "api", 200 * time.Millisecond},
	{fleet.Freeze, "dispatcher", session + 2*time.Second}, // a zombie wakes up
	{fleet.Freeze, "dispatcher", 2 * time.Second},
	{fleet.Freeze, "gateway", 3 * time.Second},
	{fleet.Kill, "", time.Second},
	{fleet.Freeze, "", 4 * time.Second},
}

// rage strikes in every way, in any order, again and again until length has passed,
// at two at once at times.
func (n *nemesis) rage(length time.Duration) {
	var striking sync.WaitGroup
	defer striking.Wait()
	began, told := time.Now(), time.Now()
	for round := 0; round == 0 || time.Since(began) < length; round++ {
		for _, i := range n.rnd.Perm(len(strikes)) {
			s := strikes[i]
			whom := n.choose(s)
			lasts := s.lasts + time.Duration(n.rnd.Int64N(int64(s.lasts)))
			alone, rest := n.rnd.IntN(3) > 0, time.Duration(500+n.rnd.IntN(2500))*time.Millisecond
			if s.role == "" && !n.load.fleet.broker.mayBreak() || !n.Take(whom) {
				continue
			}
			striking.Go(func() { n.Strike(context.Background(), s.how, whom, lasts) })
			if alone {
				striking.Wait()
			}
			time.Sleep(rest)
			if length > 0 && time.Since(told) > 30*time.Second {
				told = time.Now()
				n.say(fmt.Sprintf("so far %d requests published, %d attempts came, %d frames", n.load.published.requests.Load(), n.load.attempts.Load(), n.load.frames.Load()))
			}
			if round > 0 && time.Since(began) > length {
				break
			}
		}
	}
}

// choose finds a process with the role, or the broker.
func (n *nemesis) choose(s strike) fleet.Victim {
	if s.role == "" {
		return n.load.fleet.broker
	}
	nodes := n.load.fleet.with(s.role)
	nodes = slices.DeleteFunc(nodes, func(of *node) bool { return of.spared && s.how != fleet.Freeze })
	return nodes[n.rnd.IntN(len(nodes))].Node
}

func (n *nemesis) say(text string) {
	n.saying.Lock()
	defer n.saying.Unlock()
	fmt.Fprintf(n.out, "%8.1fs  %s\n", time.Since(n.began).Seconds(), text)
}
