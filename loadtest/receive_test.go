package loadtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
)

// schedule is that of webhooks, as the documents say.
var schedule = []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}

// manners say how a receiver behaves.
type manners struct {
	name     string
	patterns []string
	takes    time.Duration                       // until it answers
	answer   func(event string, attempt int) int // nil: 200
	late     time.Duration                       // of ledger.Endpoint
	ordered  bool
}

// receiver is an endpoint and the server behind it.
type receiver struct {
	manners
	load    *load
	org     org
	id      string
	webhook *standardwebhooks.Webhook
}

// receive serves an endpoint of an org, and registers it.
func (l *load) receive(t *testing.T, o org, m manners) *receiver {
	t.Helper()
	r := &receiver{manners: m, load: l, org: o}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	var made struct{ ID, Secret string }
	in := map[string]any{"url": "http://" + ln.Addr().String() + "/" + m.name, "events": m.patterns, "ordered": m.ordered}
	l.call(t, l.fleet.with("api")[0].Address, "POST", "/v1/webhooks", o.key, in, &made)
	if r.webhook, err = standardwebhooks.NewWebhook(made.Secret); err != nil {
		t.Fatal(err)
	}
	r.id = made.ID
	l.ledger.Registered(ledger.Endpoint{ID: made.ID, Org: o.id, Environment: "sandbox", Patterns: m.patterns, Since: time.Now(),
		Schedule: schedule, InFlight: fleet.InFlight, Late: m.late, Ordered: m.ordered})
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a := ledger.Attempt{Endpoint: r.id, Delivery: req.Header.Get("X-TetraFi-DeliveryId"), Started: time.Now(), Status: http.StatusOK}
	a.Number, _ = strconv.Atoi(req.Header.Get("X-TetraFi-Attempt"))
	if signed, err := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64); err == nil {
		a.Signed = time.Unix(signed, 0)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender has died, or was cut off, in the middle
	}
	a.Verified = r.webhook.Verify(body, req.Header) == nil
	seen, err := parse(string(body))
	if err != nil {
		r.load.fail("%s got a body that can't be read: %v: %s", r.name, err, body)
		return
	}
	a.Event, a.Data, a.Canary = seen.id, seen.hash(), seen.canary()
	if r.answer != nil {
		a.Status = r.answer(a.Event, a.Number)
	}
	if r.takes > 0 {
		time.Sleep(r.takes)
	}
	a.Ended = time.Now() // its sender may have the answer before we go on
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(a.Status)
	http.NewResponseController(w).Flush() // the answer doesn't wait for the ledger
	r.load.attempts.Add(1)
	r.load.ledger.Attempted(a)
}

// refusesSome fails one first attempt of so many, and of seldom ones the second too.
func refusesSome(of, seldom uint64) func(string, int) int {
	return func(event string, attempt int) int {
		n := 0
		switch h := ledger.Hash([]byte(event)); {
		case h%seldom == 0:
			n = 2
		case h%of == 0:
			n = 1
		}
		if attempt <= n {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
}

// seen is an event as it came out, in pieces that are the very bytes.
type seen struct {
	typ, id, timestamp, data, cursor string
}

func (s seen) hash() uint64 { return ledger.Hash([]byte(s.data)) }

// canary is the org that the data names as its own.
func (s seen) canary() string {
	_, rest, _ := strings.Cut(s.data, `"canary":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// parse takes {"type","id","timestamp",…members of data…[,"cursor"]} apart. It
// doesn't decode, so that data can be compared byte for byte.
func parse(text string) (s seen, err error) {
	rest := text
	for _, member := range []struct {
		before string
		to     *string
	}{{`{"type":"`, &s.typ}, {`,"id":"`, &s.id}, {`,"timestamp":"`, &s.timestamp}} {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, member.before); !ok {
			return s, fmt.Errorf("no %s", member.before)
		}
		if *member.to, rest, ok = strings.Cut(rest, `"`); !ok {
			return s, errors.New("a text doesn't end")
		}
	}
	if at := strings.LastIndex(rest, `,"cursor":"`); at >= 0 {
		s.cursor = strings.TrimSuffix(rest[at+len(`,"cursor":"`):], `"}`)
		rest = rest[:at] + "}"
	}
	s.data = "{" + strings.TrimPrefix(rest, ",")
	return s, nil
}
