package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/freeport"
	"sluice/pkg/key"
)

const (
	trickle     = 25 * time.Millisecond // between events, each for one endpoint in every lane
	steadyFor   = 7 * time.Second       // more than a session and a snapshot
	movedWithin = time.Minute
)

// handoverRow: one process takes events in, two send. In each round a second one
// joins, the first is asked to stop; one joins again, and the other is killed. What
// counts is when the last of the lanes that moved makes its first attempt at its
// new owner.
var handoverRow = row{
	name:    "handover",
	what:    "lanes go from one dispatcher to another, on brokers; seconds until all that move send again",
	unasked: "it needs --brokers",
	figures: handover,
}

// errNoBrokers says what the row needs.
var errNoBrokers = errors.New("it needs a Kafka: give --brokers")

// relay is two dispatchers and what they send: an event every trickle, in every
// lane.
type relay struct {
	ctx    context.Context
	cfg    *Config
	args   []string
	dir    string // for the processes' data
	token  string
	front  *product
	server fasthttp.Server

	mu    sync.Mutex
	came  [delivery.Lanes][]time.Time
	error error // of the publisher
}

func handover(ctx context.Context, cfg *Config) ([]figure, error) {
	if cfg.Brokers == "" {
		return nil, errNoBrokers
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	secrets := filepath.Join(dir, "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &relay{ctx: ctx, cfg: cfg, token: string(key.New(event.Sandbox)), args: []string{"--brokers", cfg.Brokers,
		"--prefix", fmt.Sprintf("bench%d.", time.Now().UnixNano()), "--secrets-key-file", secrets}, dir: dir}
	end, err := r.begin()
	defer end()
	if err != nil {
		return nil, err
	}
	return r.round()
}

// begin starts the process that takes events in, with an endpoint in every lane.
func (r *relay) begin() (end func(), err error) {
	var ends []func()
	end = func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
	address, err := freeport.Address()
	if err != nil {
		return end, err
	}
	r.server.Handler = r.receive
	go r.server.ListenAndServe(address)
	ends = append(ends, func() { r.server.Shutdown() })
	sender, err := r.start("api")
	if err != nil {
		return end, err
	}
	r.front = sender.product
	ends = append(ends, r.front.stop)
	for lanes := make(map[int32]bool); len(lanes) < delivery.Lanes; {
		answer, err := r.front.call("POST", "/v1/webhooks", []byte(`{"url":"http://`+address+`/","events":["bench.*"]}`), "application/json", 201)
		if err != nil {
			return end, err
		}
		var made struct{ ID string }
		if err := json.Unmarshal(answer, &made); err != nil {
			return end, err
		}
		lane := delivery.Lane(made.ID)
		how, want, body := "PATCH", 200, fmt.Sprintf(`{"url":"http://%s/%d"}`, address, lane)
		if lanes[lane] {
			how, want, body = "DELETE", 204, ""
		}
		if _, err := r.front.call(how, "/v1/webhooks/"+made.ID, []byte(body), "application/json", want); err != nil {
			return end, err
		}
		lanes[lane] = true
	}
	var publisher sync.WaitGroup
	stop := make(chan struct{})
	publisher.Go(func() { r.publish(stop) })
	ends = append(ends, func() { close(stop); publisher.Wait() })
	return end, nil
}

func (r *relay) publish(stop chan struct{}) {
	pace := time.NewTicker(trickle)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-stop:
			return
		}
		if err := r.front.publish([]byte(`{"type":"bench.tick","data":{}}`), "application/json"); err != nil {
			r.mu.Lock()
			r.error = err
			r.mu.Unlock()
			return
		}
	}
}

func (r *relay) receive(c *fasthttp.RequestCtx) {
	lane, err := strconv.Atoi(strings.TrimPrefix(string(c.Path()), "/"))
	if err != nil || lane < 0 || lane >= delivery.Lanes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came[lane] = append(r.came[lane], time.Now())
}

// runner is a process that tells when it took lanes over.
type runner struct {
	*product
	mu    sync.Mutex
	taken map[int]time.Time
	rest  []byte
}

// Write takes what the process says, and its diary from that.
func (p *runner) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		line, rest, whole := bytes.Cut(p.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		var said struct {
			Time time.Time
			Msg  string
			Lane int
		}
		if json.Unmarshal(line, &said) == nil && said.Msg == "lane taken over" {
			p.taken[said.Lane] = said.Time
		}
		p.rest = rest
	}
}

// since gives the lanes that it took over since then.
func (p *runner) since(t time.Time) map[int]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	lanes := make(map[int]time.Time)
	for lane, at := range p.taken {
		if at.After(t) {
			lanes[lane] = at
		}
	}
	return lanes
}

func (r *relay) start(role string) (*runner, error) {
	p := &runner{taken: make(map[int]time.Time)}
	data, err := os.MkdirTemp(r.dir, "data-")
	if err != nil {
		return nil, err
	}
	served, err := serveWith(r.ctx, r.cfg, r.token, 30*time.Second, p, append([]string{"--roles", role, "--log-format", "json", "--data", data}, r.args...)...)
	p.product = served
	return p, err
}

// round moves lanes in every way that there is.
func (r *relay) round() ([]figure, error) {
	first, err := r.start("dispatcher")
	if err != nil {
		return nil, err
	}
	defer func() { first.stop() }()
	if err := r.awaitAll(); err != nil {
		return nil, err
	}
	var figures []figure
	for _, way := range []struct {
		name   string
		signal syscall.Signal
	}{{"SIGTERM", syscall.SIGTERM}, {"kill -9", syscall.SIGKILL}} {
		begun := time.Now()
		second, err := r.start("dispatcher")
		if err != nil {
			return nil, err
		}
		defer func() { second.stop() }()
		joined, err := r.moved(begun, second, delivery.Lanes/2, false)
		if err != nil {
			return nil, fmt.Errorf("a second process joins: %w", err)
		}
		begun = time.Now()
		first.cmd.Process.Signal(way.signal)
		took, err := r.moved(begun, second, delivery.Lanes/2, true)
		if err != nil {
			return nil, fmt.Errorf("after %s: %w", way.name, err)
		}
		first.stop()
		first = second
		figures = append(figures, figure{"s, " + way.name + " to the last first attempt", took.Seconds()},
			figure{"s, the longest silence of a lane when one joined", joined.Seconds()})
	}
	return figures, nil
}

// awaitAll waits until there were attempts in every lane, and a while.
func (r *relay) awaitAll() error {
	for end := time.Now().Add(movedWithin); r.still() > 0; {
		if time.Now().After(end) {
			return fmt.Errorf("%d lanes make no attempts", r.still())
		}
		if err := r.sleep(50 * time.Millisecond); err != nil {
			return err
		}
	}
	return r.sleep(steadyFor)
}

// still counts the lanes that made no attempt yet.
func (r *relay) still() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, came := range r.came {
		if len(came) == 0 {
			n++
		}
	}
	return n
}

// moved waits until so many lanes have moved to a process and everything is
// steady. It gives the time until the last of them made its first attempt there:
// from then, or, for lanes whose owner went on, from that owner's last attempt.
func (r *relay) moved(begun time.Time, to *runner, n int, gone bool) (time.Duration, error) {
	for end := time.Now().Add(movedWithin); len(to.since(begun)) < n; {
		if time.Now().After(end) {
			return 0, fmt.Errorf("%d lanes moved within %s, not %d", len(to.since(begun)), movedWithin, n)
		}
		if err := r.sleep(20 * time.Millisecond); err != nil {
			return 0, err
		}
	}
	if err := r.sleep(steadyFor); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.error != nil {
		return 0, fmt.Errorf("publish: %w", r.error)
	}
	var longest time.Duration
	for lane, at := range to.since(begun) {
		from, first := begun, time.Time{}
		for _, t := range r.came[lane] {
			if t.After(at) {
				first = t
				break
			}
			if !gone {
				from = t
			}
		}
		if first.IsZero() {
			return 0, fmt.Errorf("lane %d makes no attempt", lane)
		}
		longest = max(longest, first.Sub(from))
	}
	for lane := range r.came {
		r.came[lane] = nil
	}
	return longest, nil
}

func (r *relay) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}
