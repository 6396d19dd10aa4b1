package loadtest

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/loadtest/ledger"
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
	w := survivor.watch(t)
	n.rage(length)
	w.tell(out, length)
	fmt.Fprintf(out, "%8.1fs  peace\n", time.Since(began).Seconds())
	quit()
	n.stalls()
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
	load  *load
	rnd   *rand.Rand
	out   io.Writer
	began time.Time

	mu     sync.Mutex
	broken map[string]bool // whom it has in its hands
	faults []ledger.Fault
}

// strike is one way to break something.
type strike struct {
	what string
	role string // of the process; empty: the broker
	do   func(n *nemesis, whom *node, length time.Duration)
	// It lasts for at least so long, and at most for twice that.
	lasts time.Duration
}

// session is how long an owner of lanes may be silent.
const session = 10 * time.Second

var strikes = []strike{
	{"kill -9", "dispatcher", (*nemesis).kill, 500 * time.Millisecond},
	{"kill -9", "gateway", (*nemesis).kill, 500 * time.Millisecond},
	{"kill -9", "api", (*nemesis).kill, 500 * time.Millisecond},
	{"SIGTERM", "dispatcher", (*nemesis).term, 200 * time.Millisecond},
	{"SIGTERM", "gateway", (*nemesis).term, 200 * time.Millisecond},
	{"SIGTERM", "api", (*nemesis).term, 200 * time.Millisecond},
	{"SIGSTOP", "dispatcher", (*nemesis).freeze, session + 2*time.Second}, // a zombie wakes up
	{"SIGSTOP", "dispatcher", (*nemesis).freeze, 2 * time.Second},
	{"SIGSTOP", "gateway", (*nemesis).freeze, 3 * time.Second},
	{"kill -9", "", (*nemesis).kill, time.Second},
	{"SIGSTOP", "", (*nemesis).freeze, 4 * time.Second},
}

// rage strikes in every way, in any order, again and again until length has passed,
// at two at once at times.
func (n *nemesis) rage(length time.Duration) {
	n.broken = make(map[string]bool)
	var striking sync.WaitGroup
	defer striking.Wait()
	began, told := time.Now(), time.Now()
	for round := 0; round == 0 || time.Since(began) < length; round++ {
		for _, i := range n.rnd.Perm(len(strikes)) {
			s := strikes[i]
			whom := n.choose(s)
			lasts := s.lasts + time.Duration(n.rnd.Int64N(int64(s.lasts)))
			alone, rest := n.rnd.IntN(3) > 0, time.Duration(500+n.rnd.IntN(2500))*time.Millisecond
			if s.role == "" && !n.load.fleet.broker.mayBreak() || !n.take(whom) {
				continue
			}
			striking.Go(func() {
				defer n.give(whom)
				n.strike(s, whom, lasts)
			})
			if alone {
				striking.Wait()
			}
			time.Sleep(rest)
			if length > 0 && time.Since(told) > 30*time.Second {
				told = time.Now()
				n.say("so far %d requests published, %d attempts came, %d frames", n.load.published.requests.Load(), n.load.attempts.Load(), n.load.frames.Load())
			}
			if round > 0 && time.Since(began) > length {
				break
			}
		}
	}
}

// choose finds a process with the role; nil: the broker.
func (n *nemesis) choose(s strike) *node {
	if s.role == "" {
		return nil
	}
	nodes := n.load.fleet.with(s.role)
	nodes = slices.DeleteFunc(nodes, func(of *node) bool { return of.spared && s.what != "SIGSTOP" })
	return nodes[n.rnd.IntN(len(nodes))]
}

func name(whom *node) string {
	if whom == nil {
		return "broker"
	}
	return whom.name
}

// take and give hold what is being broken, so that no two strikes meet on it.
func (n *nemesis) take(whom *node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken[name(whom)] {
		return false
	}
	n.broken[name(whom)] = true
	return true
}

func (n *nemesis) give(whom *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[name(whom)] = false
}

func (n *nemesis) strike(s strike, whom *node, lasts time.Duration) {
	f := ledger.Fault{What: s.what, Whom: name(whom), From: time.Now(), Repeats: s.role == "" || s.role == "dispatcher"}
	s.do(n, whom, lasts)
	f.Until = time.Now()
	n.note(f)
	n.say("%-8s %-14s for %.1fs, whole again after %.1fs", s.what, f.Whom, lasts.Seconds(), f.Until.Sub(f.From).Seconds())
}

func (n *nemesis) note(f ledger.Fault) {
	n.load.ledger.Broke(f)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, f)
}

// stalls notes the faults that nobody made: on a machine that has more to do than
// it can, brokers don't answer in time, and a lane whose append they don't answer
// begins again. Its dispatcher says so. A lane that stops for another reason, when
// nothing was broken, is one.
func (n *nemesis) stalls() {
	const (
		patience = 10 * time.Second // for an append, and for the one before it
		after    = 20 * time.Second // a fault may still be why
	)
	for _, of := range n.load.fleet.nodes {
		text, err := os.ReadFile(of.log.Name())
		if err != nil {
			n.load.fail("%v", err)
			continue
		}
		for line := range strings.Lines(string(text)) {
			var said struct {
				Time  time.Time
				Error string
			}
			if !strings.Contains(line, `"msg":"lane stopped"`) || json.Unmarshal([]byte(line), &said) != nil {
				continue
			}
			if slices.ContainsFunc(n.faults, func(f ledger.Fault) bool {
				return f.Repeats && said.Time.After(f.From) && said.Time.Before(f.Until.Add(after))
			}) {
				continue
			}
			if !unanswered.MatchString(said.Error) {
				n.load.fail("%s had a lane stop at %.1fs, and nobody had broken anything: %s", of.name, said.Time.Sub(n.began).Seconds(), said.Error)
				continue
			}
			n.note(ledger.Fault{What: "stall", Whom: of.name, From: said.Time.Add(-patience), Until: said.Time, Repeats: true})
			n.say("%-8s %-14s at %.1fs: a lane stopped, and nobody had broken anything", "stall", of.name, said.Time.Sub(n.began).Seconds())
		}
	}
}

// unanswered is what a lane says that stopped because brokers were too slow.
var unanswered = regexp.MustCompile("didn't answer in time|timed out|i/o timeout|hasn't been heard for too long")

func (n *nemesis) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "%8.1fs  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

func (n *nemesis) kill(whom *node, length time.Duration) {
	if whom == nil {
		n.load.fleet.broker.signal(syscall.SIGKILL)
		time.Sleep(length)
		if err := n.load.fleet.broker.restart(); err != nil {
			n.load.fail("%v", err)
		}
		return
	}
	whom.kill()
	time.Sleep(length)
	whom.revive()
}

func (n *nemesis) term(whom *node, length time.Duration) {
	if code, took := whom.term(40 * time.Second); code != 0 || took > 30*time.Second {
		n.load.fail("%s ended with %d, %v after SIGTERM", whom.name, code, took)
	}
	time.Sleep(length)
	whom.revive()
}

func (n *nemesis) freeze(whom *node, length time.Duration) {
	signal := n.load.fleet.broker.signal
	if whom != nil {
		signal = whom.signal
	}
	signal(syscall.SIGSTOP)
	time.Sleep(length)
	signal(syscall.SIGCONT)
}
