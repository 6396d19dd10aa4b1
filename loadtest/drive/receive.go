package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/valyala/fasthttp"

	"sluice/loadtest/book"
	"sluice/loadtest/ledger"
)

// receivers are endpoints of one kind.
type receivers struct {
	*Receivers
	run       *run
	meter     *meter // requests; times are those of first attempts, until they arrive
	endpoints []*endpoint
}

// endpoint is one that is registered, and what is behind it.
type endpoint struct {
	of      *receivers
	org     int
	name    string
	id      string
	webhook *standardwebhooks.Webhook
	book    *book.Endpoint

	mu       sync.Mutex
	underWay int       // requests
	rests    time.Time // when the last of them was answered
	refused  bool      // that one was
}

// began and ended note a request. One that is refused is known to be from the beginning.
func (e *endpoint) began(refused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.underWay++
	e.refused = refused
}

func (e *endpoint) ended(refused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.underWay--
	e.rests, e.refused = time.Now(), refused
}

// webhooksPath is where endpoints are registered.
const webhooksPath = "/v1/webhooks"

// hangFor is how long who hangs does: for longer than any sender waits.
const hangFor = time.Minute

// serve begins to listen for webhooks. The server is of all receivers.
func (r *run) serve() error {
	if len(r.scenario.Receivers) == 0 {
		return nil
	}
	var err error
	if r.port, err = net.Listen("tcp", r.beside(r.ReceiveOn)); err != nil {
		return fmt.Errorf("listen for webhooks: %w: --receive names another address", err)
	}
	if r.ReceiveAt == "" {
		r.ReceiveAt = "http://" + r.port.Addr().String()
	} else if at, err := url.Parse(r.ReceiveAt); err == nil && r.number > 0 {
		at.Host = r.beside(at.Host)
		r.ReceiveAt = at.String()
	}
	r.server = &fasthttp.Server{Handler: r.receive, ReadTimeout: 2 * time.Minute, CloseOnShutdown: true, Logger: log.New(io.Discard, "", 0)}
	r.background.Go(func() { r.server.Serve(r.port) })
	return nil
}

// register makes the endpoints of a kind.
func (r *run) register(ctx context.Context, s *receivers) error {
	for i := range s.Endpoints {
		if !r.has(i) {
			continue
		}
		e := &endpoint{of: s, org: i % len(r.Keys), name: fmt.Sprintf("%s-%d", s.Name, i+1)}
		var made struct{ ID, Secret string }
		in := map[string]any{"url": r.ReceiveAt + "/" + e.name, "events": r.marks.patterns(s.Publishers),
			"description": r.marks.description()}
		if s.Ordered { // an earlier release may not know the word
			in["ordered"] = true
		}
		if err := r.Call(ctx, e.org, http.MethodPost, webhooksPath, in, &made); err != nil {
			return fmt.Errorf("register a webhook: %w", err)
		}
		e.id = made.ID
		e.book = r.book.Endpoint(e.name, e.org, r.scenario.wants(s.Publishers), s.Ordered)
		s.endpoints = append(s.endpoints, e)
		var err error
		if e.webhook, err = standardwebhooks.NewWebhook(made.Secret); err != nil {
			return fmt.Errorf("the secret of %s: %w", made.ID, err)
		}
		r.mu.Lock()
		r.byPath["/"+e.name] = e
		r.mu.Unlock()
	}
	return nil
}

// remove takes the endpoints of all processes away again, and looks whether any is left.
// They are those that the deployment says there are: of one whose process was killed, or
// whose answer didn't come, nobody here knows.
func (r *run) remove(ctx context.Context) error {
	if len(r.scenario.Receivers) == 0 { // the keys may not even be good for that
		return nil
	}
	for org := range r.Keys {
		var failed error
		for {
			left, err := r.left(ctx, org)
			if err != nil {
				return fmt.Errorf("webhooks that are described as %q may be left: %w", r.marks.description(), err)
			}
			if len(left) == 0 {
				break
			}
			if failed != nil {
				return fmt.Errorf("webhooks are left of key %d: %w: for w in %s; do sluice endpoint delete --yes $w; done", org+1, failed, strings.Join(left, " "))
			}
			for _, id := range left {
				failed = cmp.Or(failed, r.Call(ctx, org, http.MethodDelete, webhooksPath+"/"+id, nil, nil))
			}
		}
	}
	return nil
}

// left lists the run's endpoints that an org has.
func (r *run) left(ctx context.Context, org int) (ids []string, err error) {
	for cursor, more := "", true; more; {
		var page struct {
			Data       []struct{ ID, Description string }
			NextCursor string
		}
		if err := r.Call(ctx, org, http.MethodGet, webhooksPath+"?limit=100&cursor="+cursor, nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Data {
			if e.Description == r.marks.description() {
				ids = append(ids, e.ID)
			}
		}
		cursor, more = page.NextCursor, page.NextCursor != ""
	}
	return ids, nil
}

// receive takes one request.
func (r *run) receive(c *fasthttp.RequestCtx) {
	r.mu.Lock()
	e := r.byPath[string(c.Path())]
	r.mu.Unlock()
	if e == nil {
		c.SetStatusCode(http.StatusNotFound)
		return
	}
	number, err := e.genuine(c)
	if err != nil {
		return
	}
	attempt, _ := strconv.Atoi(string(c.Request.Header.Peek("X-TetraFi-Attempt")))
	if attempt == 1 {
		e.of.meter.timed(1, r.book.Since(number))
	} else {
		e.of.meter.counted(1)
	}
	how := rand.New(rand.NewPCG(r.Seed, uint64(number)<<16|uint64(attempt&0xffff))).Float64()
	began := time.Now()
	fails, hangs := how < float64(e.of.Fails), how >= 1-float64(e.of.Hangs)
	e.began(fails || hangs)
	defer e.ended(fails || hangs)
	wait := time.Duration(e.of.Takes)
	if hangs {
		e.book.Attempt(number, attempt, began, began.Add(hangFor), false)
		wait = hangFor
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.over:
		}
	}
	if !hangs {
		e.book.Attempt(number, attempt, began, time.Now(), !fails)
	}
	if fails || hangs {
		c.SetStatusCode(http.StatusInternalServerError)
	}
}

// genuine reads what came and says which event it is of. An error says that it is
// none: that is written down.
func (e *endpoint) genuine(c *fasthttp.RequestCtx) (number int, err error) {
	body, b := c.PostBody(), e.of.run.book
	number, _, err = e.of.run.marks.event(body)
	if err != nil {
		kind := ledger.Altered
		if errors.Is(err, errNoEvent) {
			kind = ledger.Unwanted
		}
		b.Violated(kind, number, e.name, "it was sent %.300s", body)
		return number, err
	}
	headers := http.Header{}
	for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"} {
		headers.Set(name, string(c.Request.Header.Peek(name)))
	}
	if err := e.webhook.Verify(body, headers); err != nil {
		b.Violated(ledger.Unsigned, number, e.name, "%v", err)
		return number, err
	}
	return number, nil
}
