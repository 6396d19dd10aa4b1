package loadtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

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
	victim.kill()
	publish(10)
	victim.revive()
	publish(10)
	l.ledger.Broke(ledger.Fault{What: "kill -9", Whom: victim.name, From: from, Until: time.Now()})
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
