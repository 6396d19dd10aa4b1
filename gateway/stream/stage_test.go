package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"sluice/gateway/stream"
	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/marketplace"
	"sluice/pkg/dialect/tetrafi"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
	"sluice/replay"
)

func TestMain(m *testing.M) {
	// A stopped server of the library leaves sleepers of its own, for up to 10 s.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// stage is the gateway's stream on a real listener, over the log in memory and
// a real control state.
type stage struct {
	t       testing.TB
	log     eventlog.Log
	control *control.Control
	hub     *stream.Hub
	metrics *prometheus.Registry
	addr    string
	calls   string // where the public server's calls are
	stop    func() // Run's context, and waits for it
	org     string
	token   string // of org, sandbox, all scopes
	events  int
	mu      sync.Mutex
}

// maxPerIP is the server's bound; 0 is none, and no wrapper.
var maxPerIP int

// hide has the listener give connections that can't be taken over.
var hide bool

// carried runs a test over connections that are taken over, and over others.
func carried(t *testing.T, test func(*testing.T)) {
	defer func() { hide = false }()
	for _, hide = range []bool{false, true} {
		t.Run(map[bool]string{false: "taken", true: "wrapped"}[hide], test)
	}
}

// hidden gives connections of which nobody knows what they are.
type hidden struct{ net.Listener }

func (h hidden) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.(*net.TCPConn).SetWriteBuffer(4 << 10) // nobody else can
	return struct{ net.Conn }{c}, nil
}

func open(t testing.TB, change func(*stream.Config)) *stage {
	t.Helper()
	s := &stage{t: t, metrics: prometheus.NewRegistry(), org: "org_a"}
	s.log = eventlogtest.Mem(t, control.Topic,
		eventlog.Topic{Name: event.Sandbox.Topic(), Partitions: 1, Retention: event.Kept},
		eventlog.Topic{Name: event.Live.Topic(), Partitions: 1, Retention: event.Kept})
	sealer, err := control.NewSealer(bytes.Repeat([]byte{7}, 32))
	ok(t, err)
	s.control, err = control.Open(t.Context(), control.Config{Log: s.log, Sealer: sealer, Lanes: 16})
	ok(t, err)
	t.Cleanup(s.control.Close)
	s.token = s.newKey(s.org, event.Sandbox, time.Time{}, key.Subscribe)

	cfg := stream.Config{
		Log: s.log, Access: s.control, Incarnation: s.control.Incarnation(), Metrics: s.metrics,
		Streams: []*dialect.Stream{tetrafi.Dialect.Stream},
		SSE:     []*dialect.SSE{marketplace.Dialect.SSE},
		Past:    make(map[event.Environment]*replay.Reader),
		Windows: make(map[event.Environment]*replay.Window),
		Shards:  2,
	}
	for _, env := range event.Environments {
		cfg.Windows[env] = replay.NewWindow(256, 0) // small, so that the log is read too
		cfg.Past[env] = replay.New(replay.Config{Log: s.log, Environment: env, Incarnation: cfg.Incarnation, Window: cfg.Windows[env]})
	}
	cfg.Limits.Linger, cfg.Limits.Ping, cfg.Limits.Silent = time.Second, time.Hour, time.Hour // however long a test takes
	if change != nil {
		change(&cfg)
	}
	s.hub = stream.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.hub.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		ok(t, <-done)
	})
	<-s.hub.Ready()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	s.addr = ln.Addr().String()
	if hide {
		ln = hidden{ln}
	}
	handlers := make(map[string]fasthttp.RequestHandler)
	for path, handler := range s.hub.Handlers() {
		handlers[path] = handler
	}
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) { handlers[string(ctx.Path())](ctx) },
		Logger:  silent{},
		// Which wraps every connection in one that is pooled: what is used after its end shows.
		MaxConnsPerIP: maxPerIP,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		s.stop()
		ok(t, server.Shutdown())
		ok(t, <-served)
	})
	s.serveCalls(cfg.Access)
	return s
}

// serveCalls serves the streams that are calls on the server that everybody comes to.
func (s *stage) serveCalls(access stream.Access) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(s.t, err)
	s.calls = ln.Addr().String()
	if hide {
		ln = hidden{ln}
	}
	server := web.New(web.Config{Access: callers{access, s.control}})
	for _, r := range s.hub.EventRoutes(0) {
		server.Handle(r)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	s.t.Cleanup(func() {
		s.stop()
		ok(s.t, server.Shutdown(context.Background()))
		ok(s.t, <-served)
	})
}

// callers are known to the hub and the server alike.
type callers struct {
	stream.Access
	control *control.Control
}

func (c callers) Org(id string) *control.Org { return c.control.Org(id) }

type silent struct{}

func (silent) Printf(string, ...any) {}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stage) newKey(org string, env event.Environment, expires time.Time, scopes ...key.Scope) string {
	s.t.Helper()
	token, _ := s.newKeyID(org, env, expires, scopes...)
	return token
}

func (s *stage) newKeyID(org string, env event.Environment, expires time.Time, scopes ...key.Scope) (token, id string) {
	s.t.Helper()
	if s.control.Org(org) == nil {
		_, err := s.control.Do(s.t.Context(), &control.CreateOrg{ID: org, Name: org, Plan: control.Enterprise})
		ok(s.t, err)
	}
	token = string(key.New(env))
	change, err := s.control.Do(s.t.Context(), &control.CreateKey{Org: org, Environment: env, Scopes: scopes, Hash: key.Hash(token), ExpiresAt: expires})
	ok(s.t, err)
	return token, change.Key.ID
}

// publish logs an event for everybody and gives its offset.
func (s *stage) publish(typ string, change ...func(*event.Event)) int64 {
	s.t.Helper()
	return s.publishAll(1, typ, change...)
}

// publishAll logs n such events in one go and gives the offset of the first.
func (s *stage) publishAll(n int, typ string, change ...func(*event.Event)) int64 {
	s.t.Helper()
	records := make([]eventlog.Record, n)
	s.mu.Lock()
	for i := range records {
		ev := &event.Event{
			ID: fmt.Sprintf("evt_%d", s.events), Type: typ, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
			Environment: event.Sandbox, Org: s.org, Audience: event.Audience{All: true}, Key: s.org,
			Data: []byte(fmt.Sprintf(`{"n":%d}`, s.events)),
		}
		s.events++
		for _, f := range change {
			f(ev)
		}
		records[i] = eventlog.Record{Partition: eventlog.Partition{Topic: ev.Environment.Topic()}, Value: ev.AppendRecord(nil)}
	}
	s.mu.Unlock()
	offsets, err := s.log.Append(context.Background(), records)
	if err != nil {
		s.t.Error(err)
		return -1
	}
	return offsets[0]
}

// settle waits until what was published is with the shards: who subscribes now
// stands behind it.
func (s *stage) settle() {
	s.t.Helper()
	_, end, err := s.log.Bounds(s.t.Context(), eventlog.Partition{Topic: event.Sandbox.Topic()})
	ok(s.t, err)
	eventually(s.t, "the tail reads all", func() bool { return s.count("sluice_stream_position", "sandbox") >= float64(end) })
}

func to(orgs ...string) func(*event.Event) {
	return func(ev *event.Event) { ev.Audience = event.Audience{Orgs: orgs} }
}

func in(corridor string) func(*event.Event) {
	return func(ev *event.Event) { ev.Corridor = corridor }
}

func (s *stage) cursor(next int64) string {
	return event.Cursor{Incarnation: s.control.Incarnation(), Environment: event.Sandbox, Next: next}.String()
}

// count adds up counters or gauges that have the label; empty: any. Of a histogram
// it counts what was observed.
func (s *stage) count(name, label string) (sum float64) {
	s.t.Helper()
	families, err := s.metrics.Gather()
	ok(s.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := label == ""
			for _, l := range m.GetLabel() {
				has = has || l.GetValue() == label
			}
			if has {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// wantCount waits until the metric is what it should be: what a client is sent may
// reach it before it is counted.
func (s *stage) wantCount(name, label string, want float64) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		got := s.count(name, label)
		if got == want {
			return
		}
		if got > want || time.Now().After(deadline) {
			s.t.Errorf("%s of %q is %v, want %v", name, label, got, want)
			return
		}
	}
}

// client is a WebSocket client of another library than the server's.
type client struct {
	t  testing.TB
	ws *websocket.Conn
}

// message is what a test looks at in what comes.
type message struct {
	Type        string   `json:"type"`
	ID          string   `json:"id"`
	Code        string   `json:"code"`
	Message     string   `json:"message"`
	Cursor      string   `json:"cursor"`
	Count       int64    `json:"count"`
	Missed      int64    `json:"missed"`
	AtLeast     bool     `json:"atLeast"`
	N           *int64   `json:"n"`
	Environment string   `json:"environment"`
	Channels    []string `json:"channels"`
	text        string
}

func (s *stage) dial() *client {
	s.t.Helper()
	c, err := s.tryDial(nil)
	ok(s.t, err)
	return c
}

func (s *stage) tryDial(header http.Header) (*client, error) { return s.dialFrom("127.0.0.1", header) }

// dialFrom connects from an address of this machine.
func (s *stage) dialFrom(address string, header http.Header) (*client, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+s.addr+"/v1/ws", &websocket.DialOptions{HTTPHeader: header, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { ws.CloseNow() })
	return &client{s.t, ws}, nil
}

// join connects, authenticates and subscribes.
func (s *stage) join(channels string) *client {
	s.t.Helper()
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.token + `"}`)
	c.say(`{"type":"subscribe","channels":[` + channels + `]}`)
	c.want("auth.ok")
	c.want("subscribe.ok")
	return c
}

func (c *client) say(text string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatalf("say %.60s: %v", text, err)
	}
}

func (c *client) hear() (message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, text, err := c.ws.Read(ctx)
	if err != nil {
		return message{}, err
	}
	m := message{text: string(text)}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s: %w", text, err)
	}
	return m, nil
}

// want hears a message of the type.
func (c *client) want(typ string) message {
	c.t.Helper()
	m, err := c.hear()
	if err != nil {
		c.t.Fatalf("want %s, got %v", typ, err)
	}
	if m.Type != typ {
		c.t.Fatalf("want %s, got %s", typ, m.text)
	}
	return m
}

// wantText hears just this.
func (c *client) wantText(text string) {
	c.t.Helper()
	m, err := c.hear()
	if err != nil || m.text != text {
		c.t.Fatalf("got  %s, %v\nwant %s", m.text, err, text)
	}
}

// wantN hears events with these numbers and nothing between.
func (c *client) wantN(numbers ...int64) (last message) {
	c.t.Helper()
	for _, n := range numbers {
		m, err := c.hear()
		if err != nil {
			c.t.Fatalf("want event %d, got %v", n, err)
		}
		if m.N == nil || *m.N != n {
			c.t.Fatalf("want event %d, got %s", n, m.text)
		}
		last = m
	}
	return last
}

func (c *client) wantError(code string) message {
	c.t.Helper()
	m := c.want("error")
	if m.Code != code || m.Message == "" {
		c.t.Fatalf("want error %s, got %s", code, m.text)
	}
	return m
}

// wantClose hears the close with the code.
func (c *client) wantClose(code int) {
	c.t.Helper()
	m, err := c.hear()
	var closed websocket.CloseError
	if !errors.As(err, &closed) || int(closed.Code) != code {
		c.t.Fatalf("want close %d, got %s, %v", code, m.text, err)
	}
}

// silentlyOpen says that nothing is waiting and the connection is open.
func (c *client) silentlyOpen() {
	c.t.Helper()
	c.say(`{"type":"ping"}`)
	c.want("pong")
}

// patience is how long a test waits for what must come, on a machine that has much
// else to do.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func list(channels ...string) string { return `"` + strings.Join(channels, `","`) + `"` }
