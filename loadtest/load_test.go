package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
	"sluice/pkg/event"
)

// load is everything that goes on around a fleet: who publishes, who receives, who
// streams, and what is written down of it.
type load struct {
	fleet  *deployment
	ledger *ledger.Ledger
	orgs   []org
	bursts bool // publishers send many at once now and then

	ctx       context.Context // publishers give up when it ends
	stop      context.CancelFunc
	pubs      sync.WaitGroup
	clients   sync.WaitGroup
	streaming sync.WaitGroup // until every client is subscribed
	streamers []*streamer

	published        published
	attempts, frames atomic.Int64

	mu     sync.Mutex
	failed []string       // what must never happen
	noted  map[string]int // what may, and how often
}

// newLoad makes orgs, each with a key.
func newLoad(t *testing.T, f *deployment, orgs int) *load {
	t.Helper()
	l := &load{fleet: f, ledger: ledger.New(fleet.Rules), noted: make(map[string]int)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(l.end)
	ops := f.with("api")[0].Ops
	for i := range orgs {
		o := org{id: fmt.Sprintf("org_load%d", i)}
		l.call(t, ops, "POST", "/admin/v1/orgs", fleet.AdminToken, map[string]any{"id": o.id, "name": o.id}, nil)
		var made struct{ Key string }
		in := map[string]any{"environment": "sandbox", "scopes": []string{"publish", "broadcast", "subscribe", "manage"}}
		l.call(t, ops, "POST", "/admin/v1/orgs/"+o.id+"/keys", fleet.AdminToken, in, &made)
		o.key = made.Key
		l.orgs = append(l.orgs, o)
	}
	return l
}

// end stops who publishes and who streams, at once.
func (l *load) end() {
	l.stop()
	l.pubs.Wait()
	l.clients.Wait()
}

// follow starts clients; they go on until the end. It returns when all of them are
// subscribed.
func (l *load) follow(streamers ...*streamer) {
	for _, s := range streamers {
		s.load = l
		l.streaming.Add(1)
		l.clients.Go(func() { s.run(l.ctx) })
	}
	l.streamers = append(l.streamers, streamers...)
	l.streaming.Wait()
}

// publish starts so many publishers of each org; quit has them finish what they
// have begun, and waits for it.
func (l *load) publish(each int, seed uint64) (quit func()) {
	ctx, cancel := context.WithCancel(l.ctx)
	for _, o := range l.orgs {
		for i := range each {
			p := &publisher{load: l, org: o, name: fmt.Sprintf("%s-%d", o.id, i), rnd: rand.New(rand.NewPCG(seed, uint64(i))),
				client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}, Timeout: 5 * time.Second}}
			l.pubs.Go(func() { p.run(ctx) })
		}
	}
	return func() {
		cancel()
		l.pubs.Wait()
	}
}

// settle waits until everything that is owed has come, for so long at most. It
// reads the log then, and gives the verdict.
func (l *load) settle(t *testing.T, patience time.Duration) *ledger.Report {
	t.Helper()
	began := time.Now()
	for {
		looked := time.Now()
		r := l.ledger.Check()
		if r.Count[ledger.Lost]+r.Count[ledger.Hole] == 0 {
			break
		}
		if time.Since(began) > patience {
			t.Errorf("%d deliveries are missing, and streams have %d holes, after %v of quiet",
				r.Count[ledger.Lost], r.Count[ledger.Hole], patience)
			break
		}
		time.Sleep(time.Second + 2*time.Since(looked)) // nobody can write anything down while it is checked
	}
	time.Sleep(2 * time.Second) // for what comes and shouldn't
	for _, o := range l.orgs {
		l.readLog(t, o)
	}
	l.ledger.LogRead()
	return l.ledger.Check()
}

// readLog writes down what the log has for an org.
func (l *load) readLog(t *testing.T, o org) {
	t.Helper()
	cursor := ""
	for {
		var page struct {
			Data       []json.RawMessage
			NextCursor string
			HasMore    bool
		}
		l.call(t, l.fleet.with("api")[0].Address, "GET", "/v1/events?limit=500&cursor="+cursor, o.key, nil, &page)
		for _, text := range page.Data {
			e, err := parse(string(text))
			if err != nil {
				t.Fatalf("an event in the list can't be read: %v: %s", err, text)
			}
			next, err := place(e.cursor)
			if err != nil {
				t.Fatalf("an event in the list has a bad cursor: %v: %s", err, text)
			}
			if e.typ == event.EndpointDisabled {
				continue // the deployment says so itself
			}
			l.ledger.Logged(e.id, next-1, e.hash())
		}
		if cursor = page.NextCursor; !page.HasMore {
			return
		}
	}
}

// verdict fails the test for everything that doesn't hold, and tells the history of
// the first event of each kind.
func (l *load) verdict(t *testing.T, r *ledger.Report, out io.Writer) {
	t.Helper()
	p := &l.published
	fmt.Fprintf(out, "publishing  %d requests; %d refused, %d broken off, %d given up after 5 s, %d answered with 503, %d answered again without a second event, %d unprotected and ambiguous\n%s",
		p.requests.Load(), p.refused.Load(), p.broken.Load(), p.impatient.Load(), p.unavailable.Load(), p.replayed.Load(), p.ambiguous.Load(), r)
	told := make(map[ledger.Kind]bool)
	for _, v := range r.Violations {
		if !told[v.Kind] {
			told[v.Kind] = true
			t.Errorf("%d %s", r.Count[v.Kind], v.Kind)
			fmt.Fprint(out, l.ledger.History(v.Event))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.failed {
		t.Error(text)
	}
	for text, n := range l.noted {
		fmt.Fprintf(out, "noted       %d× %s\n", n, text)
	}
}

// fail notes what must never happen; the test fails at its end.
func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) < 20 {
		l.failed = append(l.failed, fmt.Sprintf(format, args...))
	}
}

// note notes what may happen and somebody may want to know.
func (l *load) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(l.noted) < 50 || l.noted[text] > 0 {
		l.noted[text]++
	}
}

// call makes a request that must succeed.
func (l *load) call(t *testing.T, address, method, path, token string, in, out any) {
	t.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %v: %s", method, path, resp.Status, err, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatal(err)
		}
	}
}
