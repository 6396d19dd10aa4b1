package idem

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var topics = []eventlog.Topic{Topic, {Name: event.Sandbox.Topic(), Partitions: 1}, {Name: event.Live.Topic(), Partitions: 1}}

// faulty is a log that can be made to fail. Being no eventlog.Private, it is one
// that nodes share.
type faulty struct {
	eventlog.Log
	before atomic.Pointer[func([]eventlog.Record) error] // an append's; its error keeps the records out
	after  atomic.Pointer[func([]eventlog.Record) error] // its error comes although they are in
}

func (f *faulty) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if hook := f.before.Load(); hook != nil {
		if err := (*hook)(records); err != nil {
			return nil, err
		}
	}
	offsets, err := f.Log.Append(ctx, records)
	if hook := f.after.Load(); hook != nil && err == nil {
		err = (*hook)(records)
	}
	return offsets, err
}

var errLost = errors.New("the answer was lost")

// failing fails those appends that hold a record of the topic and kind; kind 0:
// any.
func failing(topic string, kind byte) *func([]eventlog.Record) error {
	hook := func(records []eventlog.Record) error {
		if records[0].Topic == topic && (kind == 0 || records[0].Value[1] == kind) {
			return errLost
		}
		return nil
	}
	return &hook
}

func startNode(t *testing.T, log eventlog.Log, entries int) *Claims {
	t.Helper()
	_, private := log.(eventlog.Private)
	c := New(Config{Log: log, Append: log.Append, Private: private, Entries: entries, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-c.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("never ready")
	}
	return c
}

// onBoth runs a test in virtual time on a log that is the node's alone, and on one
// that nodes share.
func onBoth(t *testing.T, test func(t *testing.T, log eventlog.Log)) {
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, eventlogtest.Mem(t, topics...)) })
	})
	t.Run("shared", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &faulty{Log: eventlogtest.Mem(t, topics...)}) })
	})
}

// request makes one of events written "id=data"; without an id: "=data".
func request(key string, events ...string) *Request {
	r := &Request{Org: "org_a", Environment: event.Sandbox, Key: key, Batch: len(events) > 1, Now: time.Now()}
	for _, text := range events {
		id, data, _ := strings.Cut(text, "=")
		own := id != ""
		if !own {
			id = event.NewID(time.Now())
		}
		r.Events = append(r.Events, Event{OwnID: own, Event: &event.Event{ID: id, Type: "a.b", Environment: event.Sandbox, Org: "org_a",
			Key: "k", Timestamp: r.Now.UTC().Truncate(time.Millisecond), Audience: event.Audience{Orgs: []string{"org_a"}},
			Data: []byte(`{"x":"` + data + `"}`)}})
	}
	return r
}

func of(r *Request, org string, env event.Environment) *Request {
	r.Org, r.Environment = org, env
	for _, ev := range r.Events {
		ev.Org, ev.Environment = org, env
	}
	return r
}

// logged gives the events of the sandbox, in the order of the log.
func logged(t *testing.T, log eventlog.Log) (events []*event.Event) {
	t.Helper()
	p := eventlog.Partition{Topic: event.Sandbox.Topic()}
	_, end, err := log.Bounds(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for from := int64(0); from < end; {
		records, err := log.Read(t.Context(), p, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			ev, err := event.DecodeRecord(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, ev)
			from = r.Offset + 1
		}
	}
	return events
}

func expectLogged(t *testing.T, log eventlog.Log, want ...string) {
	t.Helper()
	var got []string
	for _, ev := range logged(t, log) {
		got = append(got, ev.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has %v, not %v", got, want)
	}
}

func do(t *testing.T, c *Claims, r *Request) *Result {
	t.Helper()
	result, err := c.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%v %v: %v", r.Key, r.Events[0].ID, err)
	}
	return result
}

func conflict(t *testing.T, c *Claims, r *Request) *Conflict {
	t.Helper()
	_, err := c.Do(t.Context(), r)
	var other *Conflict
	if !errors.As(err, &other) {
		t.Fatalf("no conflict, but %v", err)
	}
	return other
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].Metric[0].Counter.GetValue()
}
