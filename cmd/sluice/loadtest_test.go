package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/loadtest/drive"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// smallLoad has some of everything.
const smallLoad = `
duration: 2s
settle: 60s
publishers:
  - {name: singles, rate: 100, random: true}
  - {name: batches, rate: 200, batch: 20, keys: 4}
  - {name: news, rate: 10, broadcast: true}
streams:
  - {name: screens, kind: websocket, connections: 8, resuming: 25%, reconnecting: 25%, stay: 400ms}
  - {name: robots, kind: websocket, connections: 4, onSlow: resume, stalled: 50%, stall: 300ms, publishers: [singles]}
  - {name: pages, kind: sse, connections: 8, resuming: 25%, reconnecting: 25%, stalled: 25%, stay: 400ms, stall: 300ms}
receivers:
  - {name: fast, endpoints: 2}
  - {name: careful, endpoints: 2, ordered: true, publishers: [singles]}
  - {name: slow, endpoints: 1, takes: 50ms, publishers: [news]}
  - {name: failing, endpoints: 2, fails: 5%, publishers: [batches]}
  - {name: hanging, endpoints: 1, hangs: 100%, publishers: [news]}
`

// loadEnds is how long a run may take that publishes for seconds.
const loadEnds = 4 * time.Minute

// loadtest runs a scenario against a process, with more arguments, and gives the exit
// code, what was printed, and the figures; nil: there are none.
func (p *process) loadtest(ctx context.Context, scenario string, args ...string) (code int, out, messages string, r *drive.Result) {
	p.t.Helper()
	dir := p.t.TempDir()
	file, figures := filepath.Join(dir, "small.yaml"), filepath.Join(dir, "figures.json")
	if err := os.WriteFile(file, []byte(scenario), 0o600); err != nil {
		p.t.Fatal(err)
	}
	var stdout, stderr lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"loadtest", file, "--url", "http://" + p.address, "--key", p.key, "--json", figures}, args...), std{new(bytes.Buffer), &stdout, &stderr})
	}()
	select {
	case code = <-ended:
	case <-time.After(loadEnds):
		var stacks strings.Builder
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		p.t.Fatalf("loadtest %q hasn't ended after %v; it said %s%s\n%s", args, loadEnds, stdout.String(), stderr.String(), stacks.String())
	}
	if text, err := os.ReadFile(figures); err == nil {
		if err := json.Unmarshal(text, &r); err != nil {
			p.t.Fatal(err)
		}
	}
	return code, stdout.String(), stderr.String(), r
}

// otherKey makes another org, and gives a key of it.
func (p *process) otherKey(t *testing.T, scopes string) string {
	t.Helper()
	id := fmt.Sprintf("org_load%d", time.Now().UnixNano())
	var out, messages bytes.Buffer
	data := p.args[slices.Index(p.args, "--data")+1]
	for _, args := range [][]string{{"org", "create", id, "--id", id}, {"key", "create", id, "--scopes", scopes}} {
		out.Reset()
		if code := run(t.Context(), append(args, "--ops", p.ops, "--data", data), std{new(bytes.Buffer), &out, &messages}); code != 0 {
			t.Fatal(messages.String())
		}
	}
	return strings.TrimSpace(out.String())
}

// endpoints lists what is registered.
func (p *process) endpoints(t *testing.T) (n int) {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	if err := p.call(t.Context(), "GET", webhooksPath, "", nil, 200, &list); err != nil {
		t.Fatal(err)
	}
	return len(list.Data)
}

// loadTries is how often a run is made again for whose deeds the machine left no time.
const loadTries = 5

// TestLoadTest loads a deployment that does all as it should, of two orgs, with others'
// events beside. All must hold of every run; one in which something of the scenario
// didn't happen, since this process was asleep, isn't enough.
func TestLoadTest(t *testing.T) {
	p := startProcess(t, nil)
	other := p.otherKey(t, "publish,broadcast,subscribe,manage")
	beside, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; beside.Err() == nil; i++ {
			p.call(beside, "POST", "/v1/events", "application/json", fmt.Appendf(nil, `{"type":"others.tick","data":{"n":%d}}`, i), 202, nil)
			pause(beside, 10*time.Millisecond, 20*time.Millisecond)
		}
	})
	defer others.Wait()
	defer stop()
	page := filepath.Join(t.TempDir(), "page.html")
	wholly(t, func() (missing string) {
		code, out, messages, r := p.loadtest(t.Context(), smallLoad, "--other-keys", other, "--seed", "7", "--report", page, "--metrics", p.ops)
		if code != 0 || r == nil {
			t.Fatalf("exit code %d: %s%s", code, out, messages)
		}
		if !strings.Contains(out, "seed 7") || !strings.Contains(out, "verdict   everything holds") || !strings.Contains(messages, "publishing for 2s") {
			t.Errorf("it says %s%s", out, messages)
		}
		if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("everything holds")) || !bytes.Contains(text, []byte(r.Run)) {
			t.Errorf("its page: %v, %s", err, text)
		}
		holds(t, r)
		if n := p.endpoints(t); n > 0 {
			t.Errorf("%d endpoints are left", n)
		}
		return undone(r)
	})
}

// wholly makes a run again until nothing of its scenario is missing.
func wholly(t *testing.T, run func() (missing string)) {
	t.Helper()
	for try := 1; ; try++ {
		missing := run()
		if missing == "" {
			return
		}
		if t.Logf("run %d: %s", try, missing); try == loadTries {
			t.Fatalf("in %d runs the scenario was never done whole", try)
		}
	}
}

// holds checks what is so of a run whatever the machine left it time for.
func holds(t *testing.T, r *drive.Result) {
	t.Helper()
	v := r.Verdict
	if v.Acknowledged != v.Sent || v.Deliveries != v.Delivered+v.StillOwed || v.Streamed < v.Sent {
		t.Errorf("its account: %+v", v)
	}
	for i, want := range []string{"fast", "careful", "slow", "failing", "hanging"} {
		if e := r.Receivers[i]; e.Name != want || e.Refused > 0 && want != "failing" && want != "hanging" {
			t.Errorf("receivers: %+v", e)
		}
	}
	for _, s := range r.Streams {
		if s.Connects < int64(s.Connections) || s.Times.P50 > s.Times.P99 || s.Times.P99 > s.Times.Max || len(s.Endings) > 0 {
			t.Errorf("streams: %+v", s)
		}
	}
	if r.Client.CPUSeconds <= 0 || r.Client.TimersLate.Count == 0 {
		t.Errorf("client: %+v", r.Client)
	}
	for _, s := range r.Servers[0].Samples {
		if s.CPU < 0 || s.RSS < 1 || s.Webhooks < 0 || s.Streams < 0 {
			t.Errorf("%s at %v: %+v", r.Servers[0].Name(), s.At, s)
		}
	}
	// Second by second it is what it is in all.
	published, streamed, before := 0.0, 0.0, 0.0
	for _, s := range r.Seconds {
		published, streamed = published+s.Published.Rate*(s.At-before), streamed+s.Streamed.Rate*(s.At-before)
		before = s.At
	}
	if before < r.Published || math.Abs(published-float64(v.Acknowledged)) > 1 || math.Abs(streamed-float64(v.Streamed)) > 1+float64(v.Streamed)/100 {
		t.Errorf("%d seconds, until %v: %v published, %v streamed: %+v", len(r.Seconds), before, published, streamed, v)
	}
}

// undone says what of the small load didn't happen; empty: all did.
func undone(r *drive.Result) string {
	for _, p := range r.Publishers {
		if p.Sent < int64(p.Due) {
			return fmt.Sprintf("of %s %d of %d were sent", p.Name, p.Sent, p.Due)
		}
	}
	if len(r.Servers[0].Samples) == 0 {
		return "its process showed nothing of itself"
	}
	for _, e := range r.Receivers {
		if e.Requests == 0 || e.Refused == 0 && (e.Name == "failing" || e.Name == "hanging") {
			return fmt.Sprintf("%s had %d requests and refused %d", e.Name, e.Requests, e.Refused)
		}
	}
	for _, s := range r.Streams {
		if s.Times.Count == 0 || s.Name != "robots" && s.Connects == int64(s.Connections) {
			return fmt.Sprintf("%s connected %d times and timed %d", s.Name, s.Connects, s.Times.Count)
		}
	}
	if r.Verdict.StillOwed < 10 {
		return fmt.Sprintf("only %d are owed", r.Verdict.StillOwed)
	}
	return ""
}

// TestLoadTestInterrupted ends a run early.
func TestLoadTestInterrupted(t *testing.T) {
	p := startProcess(t, nil)
	ctx, interrupt := context.WithTimeout(t.Context(), loadEnds/2)
	defer interrupt()
	go func() {
		defer interrupt()
		for ctx.Err() == nil {
			var list struct{ Data []struct{ ID string } }
			if p.call(ctx, "GET", "/v1/events?types=load.*", "", nil, 200, &list); len(list.Data) > 10 {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	code, out, messages, r := p.loadtest(ctx, strings.Replace(smallLoad, "duration: 2s", "duration: 1h", 1))
	if code != 0 || r == nil || !r.Interrupted || r.Verdict.Acknowledged == 0 || !strings.Contains(out, "interrupted") {
		t.Errorf("exit code %d: %s%s", code, out, messages)
	}
	if n := p.endpoints(t); n > 0 {
		t.Errorf("%d endpoints are left", n)
	}
}

// TestLoadTestRefused says what is the matter where there can be no run.
func TestLoadTestRefused(t *testing.T) {
	p := startProcess(t, nil)
	const plain = "duration: 1s\npublishers:\n  - {name: a, rate: 10}\n"
	for _, c := range []struct {
		name, scenario string
		args           []string
		code           int
		says           string
	}{
		{"a bad scenario", "duration: 1s\npublisher: []\n", nil, 2, `line 2: unknown field "publisher"`},
		{"a key of the other environment", plain, []string{"--other-keys", string(key.New(event.Live))}, 2, "--other-keys must be API keys of the environment"},
		{"a key of the same org", plain, []string{"--other-keys", p.key}, 1, "keys 1 and 2 see one another's events"},
		{"a key that may not publish", plain, []string{"--key", p.otherKey(t, "subscribe")}, 1, "publishing was refused with 403"},
		{"a key that may not subscribe", plain + "streams:\n  - {name: b, kind: websocket, connections: 1}\n", []string{"--key", p.otherKey(t, "publish")}, 1, "a stream was refused"},
		{"nor by server-sent events", plain + "streams:\n  - {name: b, kind: sse, connections: 1}\n", []string{"--key", p.otherKey(t, "publish")}, 1, "a stream was refused with 403"},
		{"a port in use", plain + "receivers:\n  - {name: b, endpoints: 1}\n", []string{"--receive", p.address}, 1, "--receive names another address"},
		{"processes without brokers", plain + "processes: [api, dispatcher]\n", nil, 2, "give --brokers"},
		{"brokers without processes", plain, []string{"--brokers", "127.0.0.1:1"}, 2, "starts no processes"},
		{"others' keys, and orgs of its own", plain + "processes: [all]\n", []string{"--other-keys", p.key}, 2, "makes its orgs"},
		{"nobody there", plain + "receivers:\n  - {name: b, endpoints: 1}\n", []string{"--url", "http://127.0.0.1:1"}, 1, "is `sluice serve` running there?"},
	} {
		if code, out, messages, r := p.loadtest(t.Context(), c.scenario, c.args...); code != c.code || !strings.Contains(messages, c.says) || r != nil {
			t.Errorf("%s: exit code %d, %s%s", c.name, code, out, messages)
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"loadtest", "steady", "--show"}, std{new(bytes.Buffer), &out, &out}); code != 0 || !strings.HasPrefix(out.String(), "about: ") {
		t.Errorf("--show: %d %s", code, out.String())
	}
}

// TestLoadTestFinds puts somebody in between who does one thing wrong, once, and holds
// that it is found and named. Who publishes may be asleep for so long that it never
// comes to that; then it is tried again.
func TestLoadTestFinds(t *testing.T) {
	p := startProcess(t, nil)
	other := p.otherKey(t, "publish,subscribe,manage")
	const scenario = `
duration: 1500ms
settle: 12s # of which all is waited for where something is missing
publishers:
  - {name: a, rate: 100, keys: 1}
streams:
  - {name: b, kind: websocket, connections: 4}
receivers:
  - {name: c, endpoints: 2}
`
	const at = 40 // the event of which something is made
	type finding struct {
		name, want string
		wrong      func(w *meddler, n int, frame []byte) [][]byte // of the first WebSocket; nil: a webhook is lost
	}
	find := func(t *testing.T, c finding, load func(p *process, args ...string) (code int, out, messages string, r *drive.Result)) {
		t.Parallel()
		for try := 1; ; try++ {
			w := &meddler{to: p.address, wrong: c.wrong}
			receive, relay := freeAddresses(t), freeAddresses(t)
			for i := range receive {
				w.relay(t, relay[i], receive[i])
			}
			q := *p
			q.t, q.address = t, w.serve(t)
			code, out, messages, r := load(&q, "--other-keys", other, "--receive", receive[0], "--receive-url", "http://"+relay[0])
			switch {
			case r == nil:
				t.Fatalf("exit code %d: %s", code, messages)
			case !w.done.Load() && try < loadTries:
				t.Logf("run %d: it didn't come to that: %s", try, out)
				continue
			}
			if !strings.Contains(out, c.want) || (code == 0) != (c.want == "everything holds") || c.wrong == nil && !strings.Contains(out, "lost: event load_"+r.Run) {
				t.Errorf("exit code %d, not %q: %s%s", code, c.want, out, messages)
			}
			return
		}
	}
	for _, c := range []finding{
		{"nothing", "everything holds", func(w *meddler, n int, frame []byte) [][]byte {
			w.done.Store(true)
			return [][]byte{frame}
		}},
		{"a frame is lost", " 1 hole", func(w *meddler, n int, frame []byte) [][]byte {
			if n == at {
				w.done.Store(true)
				return nil
			}
			return [][]byte{frame}
		}},
		{"two are swapped", " 1 backwards", func(w *meddler, n int, frame []byte) [][]byte {
			switch n {
			case at:
				w.kept = frame
				return nil
			case at + 1:
				w.done.Store(true)
				return [][]byte{frame, w.kept}
			}
			return [][]byte{frame}
		}},
		{"one comes twice", " 1 backwards", func(w *meddler, n int, frame []byte) [][]byte {
			if n == at {
				w.done.Store(true)
				return [][]byte{frame, frame}
			}
			return [][]byte{frame}
		}},
		{"one is another org's", " 1 foreign", func(w *meddler, n int, frame []byte) [][]byte {
			if other := w.others.Load(); n >= at && !w.done.Load() && other != nil {
				w.done.Store(true)
				return [][]byte{frame, *other}
			}
			return [][]byte{frame}
		}},
		{"a byte is another", " 1 altered", func(w *meddler, n int, frame []byte) [][]byte {
			if n == at {
				w.done.Store(true)
				frame = bytes.Replace(frame, []byte(`"pad":"x`), []byte(`"pad":"y`), 1)
			}
			return [][]byte{frame}
		}},
		{"a webhook is lost", " 1 lost", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			find(t, c, func(p *process, args ...string) (int, string, string, *drive.Result) {
				return p.loadtest(t.Context(), scenario, args...)
			})
		})
		if c.want != " 1 hole" && c.want != " 1 foreign" && c.want != " 1 lost" {
			continue // loadtest/book has the rest
		}
		t.Run(c.name+", of two processes", func(t *testing.T) {
			find(t, c, func(p *process, args ...string) (int, string, string, *drive.Result) {
				run := startLoad(p.t, scenario, append(args, "--url", "http://"+p.address, "--key", p.key, "--processes", "2")...)
				code, r := run.end(p.t)
				return code, run.out.String(), run.messages.String(), r
			})
		})
	}
}

// freeAddresses are of two ports that follow one another, as processes of a load take them.
func freeAddresses(t *testing.T) (two [2]string) {
	t.Helper()
	port := func(address string) (n int) {
		fmt.Sscanf(address, "127.0.0.1:%d", &n)
		return n
	}
	for two = [2]string{freeAddress(t), freeAddress(t)}; port(two[1]) != port(two[0])+1; {
		two = [2]string{two[1], freeAddress(t)}
	}
	return two
}

// relay passes webhooks on. It answers the tenth itself, if one is to be lost.
func (w *meddler) relay(t *testing.T, at, to string) {
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.webhooks.Add(1) == 10 && w.wrong == nil {
			w.done.Store(true)
			return
		}
		pass.ServeHTTP(rw, r)
	}))
	server.Listener.Close()
	var err error
	if server.Listener, err = net.Listen("tcp", at); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
}

// meddler passes connections on, and does something wrong on the first WebSocket.
type meddler struct {
	to    string
	wrong func(w *meddler, n int, frame []byte) [][]byte // what goes out for the n-th event
	kept  []byte

	done              atomic.Bool // what is to be wrong was
	sockets, webhooks atomic.Int64
	others            atomic.Pointer[[]byte] // the last event of the second WebSocket, which is the other org's
}

func (w *meddler) serve(t *testing.T) (address string) {
	ln, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go w.pass(client)
		}
	}()
	return ln.Addr().String()
}

func (w *meddler) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	in := bufio.NewReader(client)
	head, _ := in.Peek(10)
	go func() {
		io.Copy(server, in)
		server.Close()
	}()
	if !bytes.HasPrefix(head, []byte("GET /v1/ws")) {
		io.Copy(client, server)
		return
	}
	w.frames(client, bufio.NewReader(server))
}

// frames passes a WebSocket's answer and frames on. Which org's it is, its events say.
func (w *meddler) frames(client net.Conn, server *bufio.Reader) {
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = server.ReadString('\n'); err != nil {
			return
		}
		io.WriteString(client, line)
	}
	first, n := false, 0
	for {
		frame, err := readFrame(server)
		if err != nil {
			return
		}
		out := [][]byte{frame}
		if bytes.Contains(frame, []byte(`"org":2`)) {
			w.others.Store(&frame)
		} else if bytes.Contains(frame, []byte(`"org":1`)) {
			if n++; n == 1 {
				first = w.sockets.Add(1) == 1
			}
			if first && w.wrong != nil {
				out = w.wrong(w, n, frame)
			}
		}
		for _, f := range out {
			if _, err := client.Write(f); err != nil {
				return
			}
		}
	}
}

// readFrame reads a server's frame, head and all.
func readFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	size := 2 + int(head[1])
	if head[1] == 126 {
		size = 4 + int(head[2])<<8 + int(head[3])
	}
	frame := make([]byte, size)
	_, err = io.ReadFull(r, frame)
	return frame, err
}
