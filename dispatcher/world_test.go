package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/dispatcher"
	"sluice/dispatcher/attempt"
	"sluice/gateway/idem"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

// schedule is the one of the published table.
var schedule = []time.Duration{0, 5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}

var testDialect = &dialect.Dialect{Name: "test", Webhook: &dialect.Webhook{
	Schedule:     schedule,
	DisableAfter: 5,
	AppendBody: func(dst []byte, ev *event.Event, _ *endpoint.Endpoint) []byte {
		if ev.Type == "test.panic" {
			panic("this event can't be written")
		}
		return append(append(append(dst, ev.ID...), ' '), ev.Data...)
	},
	AppendHeaders: func(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
		return append(dst, dialect.Header{Name: "attempt", Value: strconv.Itoa(a.Number)}, dialect.Header{Name: "delivery", Value: a.DeliveryID})
	},
}}

// request is one that a receiver got.
type request struct {
	url, event, delivery string
	attempt              int
	at                   time.Time
	body                 string
	ended                time.Time // when it was answered with success; zero: it wasn't
	signature, team      string    // webhook-signature; a header of the owner's
	from                 *frozen   // who sent it; nil: a dispatcher that never stands still
}

// receivers are all servers that webhooks go to: a Sender whose answers the test
// gives.
type receivers struct {
	answer func(r request) delivery.Outcome
	mu     sync.Mutex
	got    []request
}

func (s *receivers) Send(ctx context.Context, r *attempt.Request) (delivery.Outcome, error) {
	return s.take(ctx, r, nil)
}

func (s *receivers) take(ctx context.Context, r *attempt.Request, from *frozen) (delivery.Outcome, error) {
	id, _, _ := strings.Cut(string(r.Body), " ")
	req := request{url: r.URL, event: id, at: time.Now(), body: string(r.Body), from: from}
	for _, h := range r.Headers {
		switch h.Name {
		case "attempt":
			req.attempt, _ = strconv.Atoi(h.Value)
		case "delivery":
			req.delivery = h.Value
		case "webhook-signature":
			req.signature = h.Value
		case "X-Team":
			req.team = h.Value
		}
	}
	s.mu.Lock()
	s.got = append(s.got, req)
	place, answer := len(s.got)-1, s.answer
	o := ok
	if answer != nil {
		o = answer(req)
	}
	s.mu.Unlock()
	began := time.Now()
	if o.Took > 0 {
		select {
		case <-time.After(o.Took):
		case <-ctx.Done():
			return delivery.Outcome{}, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return delivery.Outcome{}, err
	}
	if o == notMade {
		return delivery.Outcome{}, attempt.ErrNotMade
	}
	if o.Started.IsZero() {
		o.Started = began
	}
	if o.OK() {
		s.mu.Lock()
		if place < len(s.got) {
			s.got[place].ended = time.Now()
		}
		s.mu.Unlock()
	}
	return o, nil
}

func (s *receivers) Close() {}

func (s *receivers) set(answer func(r request) delivery.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// answers has one address answer by that outcome, and all the others by another.
func (s *receivers) answers(url string, outcome, others delivery.Outcome) {
	s.set(func(r request) delivery.Outcome {
		if r.url == url {
			return outcome
		}
		return others
	})
}

// of lists what an address got, in order.
func (s *receivers) of(url string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []request
	for _, r := range s.got {
		if r.url == url {
			out = append(out, r)
		}
	}
	return out
}

func (s *receivers) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = nil
}

var (
	ok     = delivery.Outcome{Class: delivery.Delivered, Status: 200}
	broken = delivery.Outcome{Class: delivery.HTTPError, Status: 500}

	// notMade isn't an outcome: the process couldn't make the attempt, and waited for it.
	notMade = delivery.Outcome{Took: 30 * time.Second}
)

// world is a log, a control state and receivers; dispatchers come and go.
type world struct {
	*receivers
	t       *testing.T
	log     eventlog.Log
	control *control.Control
	events  int
	stop    func()
	healthy func() error          // of the dispatcher that runs
	speaks  []*dialect.Dialect    // of endpoints
	metrics prometheus.Registerer // of the next dispatcher; nil: none
	wall    func() time.Time      // of the next dispatcher; nil: the bubble's
	keeps   bool                  // dispatchers trim nothing but snapshots, as on brokers
	perLane int                   // requests under way in a lane of the next dispatcher; 0: as in production
	meter   *usage.Meter          // of the next dispatcher; nil: nobody counts
	quota   *usage.Quota          // of the next dispatcher; nil: nothing is held for it
	heldFor time.Duration         // after which the next dispatcher gives up what it holds; 0: as in production
}

func inWorld(t *testing.T, fn func(t *testing.T, w *world), more ...*dialect.Dialect) {
	t.Helper()
	inWorldFrom(t, time.Time{}, fn, more...)
}

// inWorldFrom runs what happens from a moment on.
func inWorldFrom(t *testing.T, moment time.Time, fn func(t *testing.T, w *world), more ...*dialect.Dialect) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(moment)) // before there is a log, whose own timers would go all the while
		w := newWorld(t, more...)
		defer func() { w.control.Close() }() // a test may have put another in its place
		defer func() {
			if w.stop != nil {
				w.stop()
			}
		}()
		fn(t, w)
	})
}

// inWorlds runs what is random in worlds of their own, each by its seed; in fewer where
// time is short.
func inWorlds(t *testing.T, worlds, whenShort uint64, fn func(w *world, seed uint64)) {
	if testing.Short() {
		worlds = whenShort
	}
	for seed := range worlds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(_ *testing.T, w *world) { fn(w, seed) })
		})
	}
}

func topics(more ...*dialect.Dialect) []eventlog.Topic {
	all := []eventlog.Topic{control.Topic, idem.Topic, usage.Topic,
		{Name: "events.sandbox", Partitions: 1, Retention: delivery.Retention},
		{Name: "events.live", Partitions: 1, Retention: delivery.Retention}}
	return append(all, dispatcher.Topics(append(more, testDialect))...)
}

func newWorld(t *testing.T, more ...*dialect.Dialect) *world {
	w := &world{t: t, receivers: &receivers{}, speaks: append(more, testDialect), log: eventlogtest.Mem(t, topics(more...)...)}
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	w.control, err = control.Open(t.Context(), control.Config{Log: w.log, Sealer: sealer, Lanes: delivery.Lanes})
	if err != nil {
		t.Fatal(err)
	}
	w.do(&control.CreateOrg{ID: "org", Name: "org", Plan: control.Enterprise})
	return w
}

func (w *world) do(cmd control.Command) control.Change {
	w.t.Helper()
	ch, err := w.control.Do(context.Background(), cmd)
	if err != nil {
		w.t.Fatalf("%T: %v", cmd, err)
	}
	return ch
}

// start runs a dispatcher on the log, until w.stop.
func (w *world) start() { w.startOn(w.log, true) }

func (w *world) startOn(log eventlog.Log, wait bool) {
	d, stop := w.run(log, w.receivers)
	w.healthy = d.Healthy
	if wait {
		synctest.Wait()
		if err := d.Healthy(); err != nil {
			w.t.Fatalf("dispatcher: %v", err)
		}
	}
	w.stop = func() {
		if err := d.Healthy(); err != nil && wait {
			w.t.Errorf("dispatcher: %v", err)
		}
		stop()
		w.stop = nil
	}
}

// run runs one more dispatcher, until stop is called; that waits for its end.
func (w *world) run(log eventlog.Log, sender attempt.Sender) (d *dispatcher.Dispatcher, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	d = dispatcher.New(dispatcher.Config{
		Log: log, Control: w.control, Sender: sender, Dialects: w.speaks, Registerer: w.metrics, Usage: w.meter, Quota: w.quota,
		Trim: !w.keeps, Wall: w.wall, Logger: logger(),
	})
	d.PerLane(w.perLane)
	d.HeldFor(w.heldFor)
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return d, func() { cancel(); <-done }
}

// endpoint makes an endpoint of that address.
func (w *world) endpoint(url string) *endpoint.Endpoint {
	w.t.Helper()
	return w.endpointOf("org", url, endpoint.OptionsPatch{})
}

func (w *world) endpointOf(org, url string, options endpoint.OptionsPatch) *endpoint.Endpoint {
	w.t.Helper()
	return w.do(&control.CreateEndpoint{Org: org, Environment: event.Live, Dialect: "test", URL: url,
		Patterns: []string{"*"}, Secret: endpoint.Secret("12345678"), Options: options}).Endpoint
}

// inLane has endpoints made until one falls to the lane.
func (w *world) inLane(lane int32, one func() *endpoint.Endpoint) *endpoint.Endpoint {
	w.t.Helper()
	for {
		ep := one()
		if delivery.Lane(ep.ID) == lane {
			return ep
		}
		w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
	}
}

// publish logs n events and gives their ids.
func (w *world) publish(n int) []string { return w.publishAs("test.event", n, 0) }

func (w *world) publishAs(typ string, n, size int) []string {
	w.t.Helper()
	data := []byte(`{"a":"` + strings.Repeat("x", size) + `"}`)
	return w.append(n, event.Event{Type: typ, Org: "org", Key: "org", Data: data})
}

// publishTo logs n events of an org and a key, and gives their ids.
func (w *world) publishTo(org, key string, n int) []string {
	w.t.Helper()
	return w.append(n, event.Event{Type: "test.event", Org: org, Key: key, Data: []byte("{}")})
}

func (w *world) append(n int, ev event.Event) []string {
	w.t.Helper()
	var ids []string
	var records []eventlog.Record
	for range n {
		w.events++
		ev.ID, ev.Timestamp, ev.Environment = fmt.Sprintf("e%05d", w.events), time.Now(), event.Live
		ev.Audience = event.Audience{Orgs: []string{ev.Org}}
		ids = append(ids, ev.ID)
		records = append(records, eventlog.Record{Partition: eventlog.Partition{Topic: "events.live"}, Value: ev.AppendRecord(nil)})
	}
	if _, err := w.log.Append(context.Background(), records); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

// records reads all that a topic has in an endpoint's lane and that counts.
func (w *world) records(topic, id string) []eventlog.Record {
	w.t.Helper()
	p := eventlog.Partition{Topic: topic, Number: delivery.Lane(id)}
	from, end, err := w.log.Bounds(context.Background(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []eventlog.Record
	for from < end {
		r, err := w.log.Read(context.Background(), p, from, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r...)
		from = r[len(r)-1].Offset + 1
	}
	var fence delivery.Fence
	return slices.DeleteFunc(all, func(r eventlog.Record) bool {
		if g, err := delivery.DecodeMarker(r.Value); err == nil {
			fence.Counts(g)
			return true
		}
		if a, err := delivery.DecodeAttempt(r.Value); err == nil {
			return !fence.Counts(a.Generation)
		}
		d, err := delivery.DecodeDelivery(r.Value)
		return err == nil && !fence.Counts(d.Generation)
	})
}

func (w *world) deliveries(topic, id string) []*delivery.Delivery {
	w.t.Helper()
	var all []*delivery.Delivery
	for _, r := range w.records(topic, id) {
		d, err := delivery.DecodeDelivery(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		if d.Endpoint == id {
			all = append(all, d)
		}
	}
	return all
}

func (w *world) status(id string) endpoint.Status { return w.control.Endpoint(id).Status }

func logger() *slog.Logger {
	if os.Getenv("TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func ids(got []request) []string {
	var out []string
	for _, r := range got {
		out = append(out, r.event)
	}
	return out
}

// mortal is a log that dies with its process: at an append that the test
// chooses, of which a part may still have been written.
type mortal struct {
	eventlog.Log
	left atomic.Int64 // appends until it dies
	dead atomic.Bool
	rnd  *rand.Rand
	mu   sync.Mutex
	died time.Time
}

// kill ends all that a process could still do.
func (m *mortal) kill() bool {
	if m.dead.Swap(true) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.died = time.Now()
	return true
}

func (m *mortal) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	if m.dead.Load() {
		return 0, 0, errKilled
	}
	return m.Log.Bounds(ctx, p)
}

var errKilled = errors.New("killed")

func (m *mortal) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if m.dead.Load() {
		return nil, errKilled
	}
	if m.left.Add(-1) > 0 {
		return m.Log.Append(ctx, records)
	}
	if !m.kill() {
		return nil, errKilled
	}
	// A kill may come before the append, after it, or between its partitions: of
	// each partition the front is kept.
	m.mu.Lock()
	keep := make(map[eventlog.Partition]bool)
	how := m.rnd.IntN(6)
	var kept []eventlog.Record
	for _, r := range records {
		k, known := keep[r.Partition]
		if !known {
			k = how == 1 || how > 1 && m.rnd.IntN(2) == 0
		}
		if k && how > 1 && m.rnd.IntN(8) == 0 {
			k = false
		}
		keep[r.Partition] = k
		if k {
			kept = append(kept, r)
		}
	}
	m.mu.Unlock()
	if len(kept) > 0 {
		if _, err := m.Log.Append(context.Background(), kept); err != nil {
			return nil, err
		}
	}
	return nil, errKilled
}

func (m *mortal) Trim(ctx context.Context, p eventlog.Partition, before int64) error {
	if m.dead.Load() {
		return errKilled
	}
	return m.Log.Trim(ctx, p, before)
}
