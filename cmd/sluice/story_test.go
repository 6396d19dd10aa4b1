package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"sluice/pkg/eventlog/eventlogtest"
)

// The whole product in one process, on either log, seen from outside: what is
// published over HTTP comes out on WebSockets and at webhook receivers.
//
//	publish ─► node ─┬─► listener (coder's WebSocket client)
//	                 └─► hook (an HTTP server that verifies)

func TestStory(t *testing.T) {
	for name, config := range map[string]func(*testing.T) nodeConfig{
		"embedded": func(t *testing.T) nodeConfig { return nodeConfig{} },
		"kafka":    onBrokers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for most of their time
			n := startStory(t, config(t))
			for _, chapter := range []struct {
				name string
				tell func(*testing.T, *storyNode)
			}{
				{"PublishStreamDeliver", tellDelivery},
				{"RetryAfter5sAnd30s", tellRetry},
				{"Audience", tellAudience},
				{"DisabledAndEnabled", tellDisabled},
				{"PausedAndResumed", tellPaused},
				{"ResumeByCursor", tellResume},
				{"Filtered", tellFiltered},
			} {
				t.Run(chapter.name, func(t *testing.T) { chapter.tell(t, n) })
			}
		})
	}
}

// onBrokers configures nodes that share the topics of one deployment.
func onBrokers(t *testing.T) nodeConfig {
	secrets := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	return nodeConfig{Brokers: eventlogtest.Brokers(t), Prefix: fmt.Sprintf("story%d.", time.Now().UnixNano()), SecretsKeyFile: secrets}
}

// TestTwoNodes: what is made or published on one node counts on the other,
// and when one goes, the other does its work too.
func TestTwoNodes(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		first, second := startStory(t, cfg), startStory(t, cfg)
		a := first.member(t)
		there := member{&client{base: second.URL(), token: a.token}, a.org} // the same key, on the other node
		h, l := a.hook(t, nil, "*"), a.listen(t, "", "*")
		var cursor string
		for range 3 {
			id := there.publish(t, "rfq.created", nil)
			cursor = l.next(t, id)["cursor"].(string)
			h.next(t, id)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := first.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		l = there.listen(t, cursor, "*") // good on any node
		for range 3 {
			id := there.publish(t, "rfq.created", nil)
			l.next(t, id)
			h.next(t, id)
		}
	})
}

// patience is how long a test waits for what must come, on a machine that has much else
// to do.
const patience = 2 * time.Minute

// storyNode is a running node that tests call from outside.
type storyNode struct {
	*node
	admin  *client
	number int // of the next org
}

func startStory(t *testing.T, cfg nodeConfig) *storyNode {
	t.Helper()
	said := new(lockedBuffer)
	cfg.Listen, cfg.Ops = "127.0.0.1:0", "127.0.0.1:0"
	if cfg.Data == "" {
		cfg.Data = filepath.Join(t.TempDir(), "data")
	}
	cfg.Private, cfg.HTTP = prefixes{Set: true}, true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
	}
	var n *node
	eventually(t, patience, func() (err error) {
		var answer *kerr.Error
		n, err = startNode(t.Context(), cfg)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &answer) && answer.Retriable) {
			t.Fatal(err)
		}
		return err // of brokers that took too long: whoever runs it starts it again
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			text := said.String()
			t.Logf("the last of what the node said:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return &storyNode{node: n, admin: &client{base: n.OpsURL(), token: n.AdminToken()}}
}

// member is an org with a key that may do everything.
type member struct {
	*client
	org string
}

func (n *storyNode) member(t *testing.T) member {
	t.Helper()
	n.number++
	org := fmt.Sprintf("org_story%d", n.number)
	if _, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs", map[string]string{"id": org, "name": org}, nil); err != nil {
		t.Fatal(err)
	}
	var made apiKey
	in := map[string]any{"environment": "sandbox", "scopes": []string{"publish", "broadcast", "subscribe", "manage"}}
	if _, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs/"+org+"/keys", in, &made); err != nil {
		t.Fatal(err)
	}
	return member{&client{base: n.URL(), token: made.Key}, org}
}

// publish publishes an event and gives its id. audience nil: the member's own org.
func (m member) publish(t *testing.T, typ string, audience any) string {
	t.Helper()
	body := map[string]any{"type": typ, "data": map[string]any{"amount": "1.50", "by": m.org}}
	if audience != nil {
		body["audience"] = audience
	}
	var answer struct{ ID string }
	if _, err := m.call(t.Context(), "POST", "/v1/events", body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.ID
}

// listener is a WebSocket client; what comes is in events.
type listener struct{ events chan map[string]any }

func (m member) listen(t *testing.T, cursor string, channels ...string) *listener {
	t.Helper()
	subscribe := map[string]any{"channels": channels}
	if cursor != "" {
		subscribe["cursor"] = cursor
	}
	return m.listenTo(t, subscribe)
}

// listenTo subscribes with these members.
func (m member) listenTo(t *testing.T, subscribe map[string]any) *listener {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(m.base, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	say := func(v map[string]any) {
		text, _ := json.Marshal(v)
		if err := conn.Write(t.Context(), websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
	}
	subscribe["type"] = "subscribe"
	say(map[string]any{"type": "auth", "token": m.token})
	say(subscribe)
	hear := func() (map[string]any, error) {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			return nil, err
		}
		var v map[string]any
		return v, json.Unmarshal(text, &v)
	}
	for _, want := range []string{"auth.ok", "subscribe.ok"} {
		if v, err := hear(); err != nil || v["type"] != want {
			t.Fatalf("%v, not %s: %v", v, want, err)
		}
	}
	l := &listener{events: make(chan map[string]any, 1000)}
	go func() {
		defer close(l.events)
		for {
			v, err := hear()
			if err != nil {
				return
			}
			if v["id"] != nil {
				l.events <- v
			}
		}
	}()
	return l
}

// next waits for the next event, which must have this id.
func (l *listener) next(t *testing.T, id string) map[string]any {
	t.Helper()
	select {
	case v := <-l.events:
		if v["id"] != id {
			t.Fatalf("%v came, not %s", v, id)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("%s didn't come in %v", id, patience)
		return nil
	}
}

// hook is a webhook receiver. It verifies every request, and answers as told.
type hook struct {
	id       string
	secret   string
	server   *httptest.Server
	requests chan hookRequest

	mu     sync.Mutex
	status []int // of the next answers; then 200
}

type hookRequest struct {
	at       time.Time
	id       string // of the event
	attempt  string
	delivery string
	err      error // not nil: it couldn't be verified
}

func (m member) hook(t *testing.T, status []int, events ...string) *hook {
	t.Helper()
	h := &hook{status: status, requests: make(chan hookRequest, 1000)}
	h.server = httptest.NewServer(h)
	t.Cleanup(h.server.Close)
	var made webhook
	if _, err := m.call(t.Context(), "POST", "/v1/webhooks", map[string]any{"url": h.server.URL + "/hook", "events": events}, &made); err != nil {
		t.Fatal(err)
	}
	h.id, h.secret = made.ID, made.Secret
	t.Cleanup(func() { m.call(context.Background(), "DELETE", "/v1/webhooks/"+h.id, nil, nil) })
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ev struct{ ID string }
	json.Unmarshal(body, &ev)
	h.requests <- hookRequest{
		at: time.Now(), id: ev.ID, err: h.verify(r.Header, body),
		attempt: r.Header.Get("X-TetraFi-Attempt"), delivery: r.Header.Get("X-TetraFi-DeliveryId"),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.status) > 0 {
		w.WriteHeader(h.status[0])
		h.status = h.status[1:]
	}
}

func (h *hook) verify(header http.Header, body []byte) error {
	stamp := header.Get("X-TetraFi-Timestamp")
	if n, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(n, 0)).Abs() > time.Minute {
		return fmt.Errorf("timestamp %q", stamp)
	}
	mac := hmac.New(sha256.New, []byte(h.secret))
	mac.Write([]byte(stamp + "." + string(body)))
	if have, want := header.Get("X-TetraFi-Signature"), hex.EncodeToString(mac.Sum(nil)); have != want {
		return fmt.Errorf("signature %s, not %s", have, want)
	}
	standard, err := standardwebhooks.NewWebhook(h.secret)
	if err != nil {
		return err
	}
	return standard.Verify(body, header)
}

// next waits for the next request, which must be verified and of this event.
func (h *hook) next(t *testing.T, id string) hookRequest {
	t.Helper()
	select {
	case r := <-h.requests:
		if r.err != nil || r.id != id {
			t.Fatalf("%+v came, not %s", r, id)
		}
		return r
	case <-time.After(patience):
		t.Fatalf("%s didn't come in %v", id, patience)
		return hookRequest{}
	}
}

// status waits until the endpoint has the status.
func (m member) status(t *testing.T, id, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		var w webhook
		if _, err := m.call(t.Context(), "GET", "/v1/webhooks/"+id, nil, &w); err != nil {
			return err
		}
		if w.Status != want {
			return fmt.Errorf("%s is %s, not %s", id, w.Status, want)
		}
		return nil
	})
}

func tellDelivery(t *testing.T, n *storyNode) {
	a := n.member(t)
	h, l := a.hook(t, nil, "settlement.*"), a.listen(t, "", "settlement.*", "rfq.created")
	first := a.publish(t, "rfq.created", nil) // not for the hook
	second := a.publish(t, "settlement.complete", nil)
	l.next(t, first)
	if v := l.next(t, second); v["amount"] != "1.50" || v["type"] != "settlement.complete" || v["cursor"] == nil {
		t.Errorf("streamed as %v", v)
	}
	if r := h.next(t, second); r.attempt != "1" || r.delivery == "" {
		t.Errorf("delivered as %+v", r)
	}
}

// The first delays of the schedule, on a real clock.
func tellRetry(t *testing.T, n *storyNode) {
	a := n.member(t)
	h := a.hook(t, []int{500, 500}, "*")
	id := a.publish(t, "settlement.complete", nil)
	last := h.next(t, id)
	for i, delay := range []time.Duration{5 * time.Second, 30 * time.Second} {
		r := h.next(t, id)
		if r.attempt != fmt.Sprint(i+2) || r.delivery != last.delivery {
			t.Errorf("%+v came after %+v", r, last)
		}
		if gap := r.at.Sub(last.at); gap < delay || gap > delay+10*time.Second { // a machine may stall for a while
			t.Errorf("attempt %s came %v after the one before, not %v", r.attempt, gap, delay)
		}
		last = r
	}
}

func tellAudience(t *testing.T, n *storyNode) {
	a, b, c := n.member(t), n.member(t), n.member(t)
	lb, lc := b.listen(t, "", "*"), c.listen(t, "", "*")
	hb, hc := b.hook(t, nil, "*"), c.hook(t, nil, "*")
	own := a.publish(t, "quote.received", nil)
	forB := a.publish(t, "quote.received", []string{b.org})
	forAll := a.publish(t, "rfq.created", "*")
	// Order shows it: what comes first is the first that each may see.
	lb.next(t, forB)
	lb.next(t, forAll)
	lc.next(t, forAll)
	got := map[string]bool{hb.any(t): true, hb.any(t): true}
	if !got[forB] || !got[forAll] {
		t.Errorf("b was delivered %v", got)
	}
	hc.next(t, forAll)
	for _, id := range []string{own, forB} {
		if _, err := c.call(t.Context(), "GET", "/v1/events/"+id, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("c looked %s up: %v", id, err)
		}
	}
	if _, err := c.call(t.Context(), "GET", "/v1/webhooks/"+hb.id, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("c looked b's endpoint up: %v", err)
	}
}

// any waits for a request, whichever event it is of.
func (h *hook) any(t *testing.T) string {
	t.Helper()
	select {
	case r := <-h.requests:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.id
	case <-time.After(patience):
		t.Fatalf("nothing came in %v", patience)
		return ""
	}
}

func tellDisabled(t *testing.T, n *storyNode) {
	a := n.member(t)
	h := a.hook(t, []int{http.StatusGone}, "*")
	gone := a.publish(t, "settlement.pending", nil)
	h.next(t, gone)
	a.status(t, h.id, "disabled")
	held := a.publish(t, "settlement.complete", nil)
	if _, err := a.call(t.Context(), "POST", "/v1/webhooks/"+h.id+"/enable", nil, nil); err != nil {
		t.Fatal(err)
	}
	a.status(t, h.id, "active")
	got := map[string]bool{h.any(t): true, h.any(t): true}
	if !got[gone] || !got[held] {
		t.Errorf("after enabling came %v, not %s and %s", got, gone, held)
	}
}

// Of what both may see, each gets what it asked for; and what a filter says since acts
// on what comes.
func tellFiltered(t *testing.T, n *storyNode) {
	a, b := n.member(t), n.member(t)
	h := b.hook(t, nil, "rfq.*")
	patch := func(filter map[string]any) {
		t.Helper()
		if _, err := b.call(t.Context(), "PATCH", "/v1/webhooks/"+h.id, map[string]any{"filter": filter}, nil); err != nil {
			t.Fatal(err)
		}
	}
	patch(map[string]any{"by": a.org, "amount": map[string]any{"gte": 1.5}})
	l := b.listenTo(t, map[string]any{"channels": []string{"rfq.*"}, "filter": map[string]any{"by": a.org}})
	both := []string{a.org, b.org}
	b.publish(t, "rfq.created", both)
	first := a.publish(t, "rfq.created", both)
	h.next(t, first)
	l.next(t, first)
	patch(nil)
	second := b.publish(t, "rfq.created", both)
	third := a.publish(t, "rfq.created", both)
	got := map[string]bool{h.any(t): true, h.any(t): true}
	if !got[second] || !got[third] {
		t.Errorf("without a filter came %v, not %s and %s", got, second, third)
	}
	l.next(t, third)
}

func tellPaused(t *testing.T, n *storyNode) {
	a := n.member(t)
	h := a.hook(t, nil, "*")
	patch := func(status string) {
		t.Helper()
		if _, err := a.call(t.Context(), "PATCH", "/v1/webhooks/"+h.id, map[string]string{"status": status}, nil); err != nil {
			t.Fatal(err)
		}
	}
	patch("paused")
	l := a.listen(t, "", "*")
	first := a.publish(t, "settlement.pending", nil)
	second := a.publish(t, "settlement.complete", nil)
	l.next(t, first)
	l.next(t, second)
	select {
	case r := <-h.requests:
		t.Fatalf("%+v came while the endpoint was paused", r)
	case <-time.After(500 * time.Millisecond):
	}
	patch("active")
	got := map[string]bool{h.any(t): true, h.any(t): true}
	if !got[first] || !got[second] {
		t.Errorf("after the pause came %v", got)
	}
}

func tellResume(t *testing.T, n *storyNode) {
	a := n.member(t)
	l := a.listen(t, "", "*")
	first := a.publish(t, "rfq.created", nil)
	cursor, _ := l.next(t, first)["cursor"].(string)
	second := a.publish(t, "rfq.created", nil)
	third := a.publish(t, "rfq.created", nil)
	late := a.listen(t, cursor, "*")
	late.next(t, second)
	late.next(t, third)
	fourth := a.publish(t, "rfq.created", nil)
	late.next(t, fourth)
}

// lockedBuffer is a buffer that a process and a test may use at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestStopLeavesNothing: a node that has stopped has no goroutine left.
func TestStopLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("node", func(t *testing.T) {
		n := startStory(t, nodeConfig{})
		a := n.member(t)
		h, l := a.hook(t, nil, "*"), a.listen(t, "", "*")
		id := a.publish(t, "rfq.created", nil)
		l.next(t, id)
		h.next(t, id)
	})
	httpClient.CloseIdleConnections()
	goleak.VerifyNone(t, before,
		// The library's: one for the process, and one that looks every 10 s whether it has ended.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}
