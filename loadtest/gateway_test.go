package loadtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
)

// TestGatewayKilled ends a gateway with a thousand streams on it, as a power cut
// would. All go on by their cursors, there or on the other one, and have missed
// nothing.
func TestGatewayKilled(t *testing.T) {
	const streams = 1000
	f := startFleet(t, sharedBroker(t), t.TempDir(), "api", "gateway", "gateway")
	l := newLoad(t, f, 1)
	victim := f.nodes[1]
	var clients []*streamer
	for i := range streams {
		clients = append(clients, &streamer{org: l.orgs[0], name: fmt.Sprint("client ", i), patterns: []string{"*"},
			rnd: rand.New(rand.NewPCG(1, uint64(i))), first: victim})
	}
	for i := 0; i < streams; i += 100 { // not all at once, for the test's sake
		l.follow(clients[i : i+100]...)
	}
	// Slowly: who is away for a while misses fewer than a stream replays.
	p := &publisher{load: l, org: l.orgs[0], name: "p", rnd: rand.New(rand.NewPCG(2, 2)), client: http.DefaultClient}
	publish := func(n int) {
		for range n {
			p.single(true)
			time.Sleep(200 * time.Millisecond)
		}
	}
	publish(10)
	from := time.Now()
	victim.Kill()
	publish(10)
	victim.revive()
	publish(10)
	l.ledger.Broke(ledger.Fault{What: "kill -9", Whom: victim.Name, From: from, Until: time.Now()})
	r := l.settle(t, 2*time.Minute)
	l.verdict(t, r, testLog{t})
	l.end()
	cut := 0
	for _, s := range clients {
		cut += s.cut
	}
	if cut < streams {
		t.Errorf("%d connections were cut off, and %d were open", cut, streams)
	}
	if r.Frames != streams*p.sent || r.Declared > 0 {
		t.Errorf("%d frames came of %d events to %d clients, and %d were declared missing", r.Frames, p.sent, streams, r.Declared)
	}
}

// TestGatewaysRolled restarts two gateways behind one address, one after the other.
// Every client is told, in its turn, and goes on by its cursor; none misses anything,
// and none is sent back to who is going.
func TestGatewaysRolled(t *testing.T) {
	const streams = 200
	f := startFleet(t, sharedBroker(t), t.TempDir(), "api", "gateway", "gateway")
	l := newLoad(t, f, 1)
	front, err := fleet.Balance(f.With("gateway"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.End)
	var clients []*streamer
	for i := range streams {
		clients = append(clients, &streamer{org: l.orgs[0], name: fmt.Sprint("client ", i), patterns: []string{"*"},
			rnd: rand.New(rand.NewPCG(1, uint64(i))), front: front})
	}
	l.follow(clients...)
	p := &publisher{load: l, org: l.orgs[0], name: "p", rnd: rand.New(rand.NewPCG(2, 2)), client: http.DefaultClient}
	ended := make(chan struct{})
	l.pubs.Go(func() {
		for { // slowly: who is away for a while misses fewer than a stream replays
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
				p.single(true)
			}
		}
	})
	var over time.Time // when the first of them had ended
	for _, n := range f.with("gateway") {
		if code, took := n.term(35 * time.Second); code != 0 {
			t.Errorf("%s ended with %d, %v after SIGTERM", n.Name, code, took)
		}
		if over.IsZero() {
			over = time.Now()
		}
		front.Without.Store(n.Node)
		n.revive()
		front.Without.Store(nil)
		time.Sleep(time.Second)
	}
	close(ended)
	l.pubs.Wait()
	r := l.settle(t, time.Minute)
	l.verdict(t, r, testLog{t})
	l.end()

	var told []time.Time
	for _, s := range clients {
		told = append(told, s.told...)
		if len(s.told) != s.closes[websocket.StatusServiceRestart] || s.cut > 0 || s.away > 0 || len(s.closes) > 1 {
			t.Errorf("%s was told to go %d times; %d connections were cut off and %d refused, the others closed with %v", s.name, len(s.told), s.cut, s.away, s.closes)
		}
	}
	if r.Frames != streams*p.sent || r.Declared > 0 {
		t.Errorf("%d frames came of %d events to %d clients, and %d were declared missing", r.Frames, p.sent, streams, r.Declared)
	}
	slices.SortFunc(told, time.Time.Compare)
	if len(told) < streams {
		t.Fatalf("%d times a stream was told to go, and %d were open on two gateways", len(told), streams)
	}
	// A slow machine only takes longer; one that stalls has us read together what was told apart.
	first, _ := slices.BinarySearchFunc(told, over, time.Time.Compare)
	if first < streams/4 {
		t.Fatalf("the first gateway told %d streams to go", first)
	}
	if in := told[first-1].Sub(told[0]); in < 100*time.Millisecond {
		t.Errorf("%d streams were told to go within %v", first, in)
	}
}
