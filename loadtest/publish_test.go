package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/loadtest/ledger"
)

// org is a tenant, with a key that may do everything.
type org struct {
	id, key string
}

// publisher sends an org's events, and sends a request that wasn't answered again,
// to any node, until it is.
type publisher struct {
	load   *load
	org    org
	name   string
	rnd    *rand.Rand
	client *http.Client
	sent   int
}

// published counts what publishers met.
type published struct {
	requests, refused, broken, impatient, unavailable, ambiguous, replayed atomic.Int64
}

// types of events; those of bursts are for the slow receivers.
var types = []string{"rfq.created", "rfq.created", "quote.received", "settlement.done", "settlement.pending"}

const burst = "burst.tick"

// run publishes until ctx ends; what was begun then is finished.
func (p *publisher) run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	nextBurst := time.Now().Add(time.Second)
	for ctx.Err() == nil {
		time.Sleep(time.Duration(20+p.rnd.IntN(60)) * time.Millisecond)
		switch way := p.rnd.IntN(20); {
		case p.load.bursts && time.Now().After(nextBurst):
			nextBurst = time.Now().Add(time.Duration(3000+p.rnd.IntN(4000)) * time.Millisecond)
			p.batch(100+p.rnd.IntN(100), burst)
		case way == 0:
			p.batch(5+p.rnd.IntN(20), types[p.rnd.IntN(len(types))])
		case way == 1:
			p.plain()
		case way < 11:
			p.single(true)
		default:
			p.single(false)
		}
	}
}

// event thinks the next event up. Its data names the org, so that it is known
// wherever it comes out.
func (p *publisher) event(typ string) (e ledger.Event, data string) {
	p.sent++
	data = fmt.Sprintf(`{"canary":"%s","by":"%s","n":%d,"pad":"%s"}`, p.org.id, p.name, p.sent, strings.Repeat("x", p.rnd.IntN(200)))
	e = ledger.Event{ID: fmt.Sprintf("%s_%d", p.name, p.sent), Org: p.org.id, Environment: "sandbox", Type: typ,
		Key: fmt.Sprintf("%s-%d", p.name, p.rnd.IntN(4)), Data: ledger.Hash([]byte(data)), Sent: time.Now()}
	if typ == burst {
		return e, data
	}
	switch p.rnd.IntN(5) {
	case 0:
		e.Audience = []string{ledger.Everybody}
	case 1:
		e.Audience = []string{p.org.id, p.load.orgs[p.rnd.IntN(len(p.load.orgs))].id}
	}
	return e, data
}

func (p *publisher) body(e ledger.Event, data string, withID bool) []byte {
	m := map[string]any{"type": e.Type, "data": json.RawMessage(data), "key": e.Key}
	if withID {
		m["id"] = e.ID
	}
	if len(e.Audience) == 1 {
		m["audience"] = e.Audience[0]
	} else if e.Audience != nil {
		m["audience"] = e.Audience
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// single publishes one event, which its id or an Idempotency-Key protects.
func (p *publisher) single(withID bool) {
	e, data := p.event(types[p.rnd.IntN(len(types))])
	key := ""
	if !withID {
		key, e.ID = "key-"+e.ID, ""
	}
	var answer struct{ ID string }
	if p.insist(p.body(e, data, withID), "application/json", key, &answer) {
		e.ID, e.Acknowledged = answer.ID, time.Now()
	}
	p.load.ledger.Published(e)
}

// batch publishes several events with ids.
func (p *publisher) batch(n int, typ string) {
	var lines []byte
	var events []ledger.Event
	for range n {
		e, data := p.event(typ)
		events = append(events, e)
		lines = append(append(lines, p.body(e, data, true)...), '\n')
	}
	acknowledged := p.insist(lines, "application/x-ndjson", "", nil)
	for _, e := range events {
		if acknowledged {
			e.Acknowledged = time.Now()
		}
		p.load.ledger.Published(e)
	}
}

// plain publishes one event that nothing protects: without an answer nobody knows,
// and it isn't repeated.
func (p *publisher) plain() {
	e, data := p.event(types[p.rnd.IntN(len(types))])
	e.ID = ""
	var answer struct{ ID string }
	if err := p.post(p.body(e, data, false), "application/json", "", &answer); err == nil {
		e.ID, e.Acknowledged = answer.ID, time.Now()
	} else {
		p.load.published.ambiguous.Add(1)
	}
	p.load.ledger.Published(e)
}

// insist repeats a request until it is answered with 202, or the load is given up.
func (p *publisher) insist(body []byte, contentType, key string, answer any) bool {
	for p.load.ctx.Err() == nil {
		err := p.post(body, contentType, key, answer)
		if err == nil {
			return true
		}
		pause(p.load.ctx, time.Duration(50+p.rnd.IntN(150))*time.Millisecond)
	}
	return false
}

// post sends a request once, to any node. An error means that it may have been
// taken or not; an answer that it should never get ends the test.
func (p *publisher) post(body []byte, contentType, key string, answer any) error {
	count := &p.load.published
	count.requests.Add(1)
	nodes := p.load.fleet.with("api")
	n := nodes[p.rnd.IntN(len(nodes))]
	req, err := http.NewRequestWithContext(p.load.ctx, "POST", "http://"+n.Address+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.org.key)
	req.Header.Set("Content-Type", contentType)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := p.client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		count.refused.Add(1)
		return err
	}
	var text []byte
	if err == nil {
		defer resp.Body.Close()
		text, err = io.ReadAll(resp.Body)
	}
	switch late := net.Error(nil); {
	case err == nil:
	case errors.As(err, &late) && late.Timeout(): // it is we who broke off
		count.impatient.Add(1)
		p.load.note("%s: %v", n.Name, err)
		return err
	default:
		count.broken.Add(1)
		p.load.note("%s: %v", n.Name, err)
		return err
	}
	switch resp.StatusCode {
	case http.StatusAccepted:
		if resp.Header.Get("Idempotent-Replayed") == "true" {
			count.replayed.Add(1)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(text, answer)
	case http.StatusServiceUnavailable:
		count.unavailable.Add(1)
		p.load.note("%s: %s", n.Name, text)
	default:
		p.load.fail("%s answered a publisher with %s: %s", n.Name, resp.Status, text)
	}
	return fmt.Errorf("%s: %s", resp.Status, text)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
