package loadtest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/loadtest/ledger"
)

// TestRollingRestart ends every process of a fleet in turn with SIGTERM, under
// load, and starts it again. Publishers lose nothing and no request that was begun;
// streams are told, and go on without a hole; nothing is delivered twice.
func TestRollingRestart(t *testing.T) {
	f := startFleet(t, sharedBroker(t), t.TempDir(), "api,gateway", "api,gateway", "api", "dispatcher", "dispatcher")
	l := newLoad(t, f, 2)
	var clients []*streamer
	for i, o := range l.orgs {
		l.receive(t, o, manners{name: "fast", patterns: []string{"*"}})
		l.receive(t, o, manners{name: "flaky", patterns: []string{"rfq.*"}, answer: refusesSome(20, 1<<60), takes: 50 * time.Millisecond})
		for j := range 4 {
			clients = append(clients, &streamer{org: o, name: fmt.Sprintf("%s-%d", o.id, j), patterns: []string{"*"}, rnd: rand.New(rand.NewPCG(uint64(i), uint64(j)))})
		}
	}
	l.follow(clients...)
	quit := l.publish(6, 1)
	time.Sleep(2 * time.Second)
	for _, n := range f.nodes {
		roll(t, l, n)
		time.Sleep(time.Second)
	}
	quit()
	r := l.settle(t, time.Minute)
	l.verdict(t, r, testLog{t})
	l.end()

	if r.Repeats > 0 {
		t.Errorf("%d deliveries came twice", r.Repeats)
	}
	if n := l.published.broken.Load(); n > 0 {
		t.Errorf("%d requests were begun and not answered", n)
	}
	told, closed := 0, 0
	for _, s := range clients {
		told += len(s.told)
		closed += s.closes[websocket.StatusServiceRestart] // 1012
		if s.cut > 0 || len(s.closes) > 1 {
			t.Errorf("%s: %d connections were cut off, the others closed with %v", s.name, s.cut, s.closes)
		}
	}
	t.Logf("streams were told to go %d times, and closed with 1012 %d times", told, closed)
	if told == 0 || told != closed {
		t.Errorf("%d times a stream was told to go, and %d times closed with 1012", told, closed)
	}
}

// roll restarts a process as an operator does, and looks at what it does meanwhile.
func roll(t *testing.T, l *load, n *node) {
	t.Helper()
	var begun *slowRequest
	if strings.Contains(n.Roles, "api") {
		begun = beginRequest(t, l, n)
	}
	var unready atomic.Int64 // nanoseconds from the signal to the first 503
	began := time.Now()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			switch status, _ := n.readyz(); status {
			case http.StatusServiceUnavailable:
				unready.Store(int64(time.Since(began)))
				return
			case 0: // it has ended, or takes its time
				select {
				case <-n.Ended():
					return
				default:
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if begun != nil {
		go func() {
			<-watched // it isn't ready any more: now the rest of what it was asked before
			begun.finish(t)
		}()
	}
	code, took := n.term(35 * time.Second)
	<-watched
	if code != 0 || took > 30*time.Second {
		t.Errorf("%s ended with %d, %v after SIGTERM", n.Name, code, took)
	}
	if late := time.Duration(unready.Load()); late > 5*time.Second {
		t.Errorf("%s was ready for %v after SIGTERM", n.Name, late)
	}
	if begun != nil {
		if unready.Load() == 0 {
			t.Errorf("%s had a request to answer and never said that it isn't ready", n.Name)
		}
		<-begun.done
	}
	n.revive()
	t.Logf("%s: not ready after %v, ended after %v, ready again after %v", n.Name,
		time.Duration(unready.Load()).Round(time.Millisecond), took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// slowRequest is a publish of which a part was sent.
type slowRequest struct {
	conn  net.Conn
	in    *bufio.Reader // from conn
	rest  string
	event ledger.Event
	load  *load
	done  chan struct{}
}

func beginRequest(t *testing.T, l *load, n *node) *slowRequest {
	t.Helper()
	p := &publisher{load: l, org: l.orgs[0], name: "slow-" + n.Name, rnd: rand.New(rand.NewPCG(1, 1))}
	e, data := p.event("rfq.created")
	e.ID = strings.NewReplacer("+", "-").Replace(e.ID)
	body := string(p.body(e, data, true))
	conn, err := net.Dial("tcp", n.Address)
	if err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		n.Address, p.org.key, len(body))
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusContinue { // it is being answered
		t.Fatalf("a request that is begun: %v, %v", resp, err)
	}
	if _, err := io.WriteString(conn, body[:10]); err != nil {
		t.Fatal(err)
	}
	return &slowRequest{conn: conn, in: in, rest: body[10:], event: e, load: l, done: make(chan struct{})}
}

// finish sends the rest, and wants the answer.
func (r *slowRequest) finish(t *testing.T) {
	defer close(r.done)
	defer r.conn.Close()
	r.conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := io.WriteString(r.conn, r.rest)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r.in, nil)
	}
	if err != nil {
		t.Errorf("a request that was begun before SIGTERM got no answer: %v", err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("a request that was begun before SIGTERM was answered with %s", resp.Status)
		return
	}
	r.event.Acknowledged = time.Now()
	r.load.ledger.Published(r.event)
}

// TestHangingReceiver: a receiver that never answers doesn't hold a stop up. What
// was cut off counts for nothing, and is sent again.
func TestHangingReceiver(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		f := startFleet(t, sharedBroker(t), t.TempDir(), "api", "dispatcher")
		hangingReceiver(t, f, f.nodes[1])
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f := startFleet(t, nil, t.TempDir(), "all")
		hangingReceiver(t, f, f.nodes[0])
	})
}

func hangingReceiver(t *testing.T, f *deployment, n *node) {
	l := newLoad(t, f, 1)
	hang := make(chan struct{})
	var hung atomic.Int64
	l.receive(t, l.orgs[0], manners{name: "hanging", patterns: []string{"*"}, answer: func(string, int) int {
		select {
		case <-hang: // it hangs no more
		default:
			hung.Add(1)
			<-hang
		}
		return http.StatusOK
	}})
	relent := sync.OnceFunc(func() { close(hang) })
	defer relent()
	p := &publisher{load: l, org: l.orgs[0], name: "p", rnd: rand.New(rand.NewPCG(1, 1)), client: http.DefaultClient}
	p.batch(10, "rfq.created")
	for hung.Load() < 10 {
		time.Sleep(20 * time.Millisecond)
	}
	from := time.Now()
	code, took := n.term(35 * time.Second)
	if code != 0 || took > 30*time.Second {
		t.Errorf("it ended with %d, %v after SIGTERM", code, took)
	}
	t.Logf("with a hanging receiver it ended %v after SIGTERM", took.Round(time.Millisecond))

	// Again, and this time with no patience.
	n.revive()
	for hung.Load() < 20 {
		time.Sleep(20 * time.Millisecond)
	}
	n.Signal(syscall.SIGTERM)
	if f.broker == nil { // with brokers, drained it may be before the second
		time.Sleep(200 * time.Millisecond)
	}
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.Ended():
	case <-time.After(10 * time.Second): // to drain takes longer
		t.Error("it still runs 10 s after the second SIGTERM")
		n.Kill()
	}
	n.revive()
	l.ledger.Broke(ledger.Fault{What: "SIGTERM", Whom: n.Name, From: from, Until: time.Now(), Repeats: true})
	relent()
	r := l.settle(t, time.Minute)
	l.verdict(t, r, testLog{t})
	if r.Failed > 0 {
		t.Errorf("%d attempts failed", r.Failed)
	}
}
