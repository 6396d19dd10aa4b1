package attempts_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/attempts"
	"sluice/pkg/attempts/index"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// world is a log, control, and a view that comes and goes.
type world struct {
	t       *testing.T
	log     eventlog.Log
	control *control.Control
	disk    vfs.FS
	view    *attempts.View
	stop    func()
}

func inWorld(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		topics := []eventlog.Topic{control.Topic, {Name: event.Sandbox.Topic(), Partitions: 1}, {Name: event.Live.Topic(), Partitions: 1}}
		for _, name := range attempts.Topics {
			topics = append(topics, eventlog.Topic{Name: name, Partitions: delivery.Lanes})
		}
		w := &world{t: t, log: eventlogtest.Mem(t, topics...), disk: vfs.NewMem()}
		sealer, err := control.NewSealer(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		w.control, err = control.Open(t.Context(), control.Config{Log: w.log, Sealer: sealer, Lanes: delivery.Lanes})
		if err != nil {
			t.Fatal(err)
		}
		defer w.control.Close()
		w.do(&control.CreateOrg{ID: "org", Name: "org", Plan: control.Enterprise})
		w.start()
		defer func() { w.stop() }()
		fn(t, w)
	})
}

func (w *world) do(cmd control.Command) control.Change {
	w.t.Helper()
	change, err := w.control.Do(w.t.Context(), cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	return change
}

func (w *world) endpoint() *endpoint.Endpoint {
	return w.do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: "test", URL: "https://a", Patterns: []string{"*"}, Secret: endpoint.Secret("12345678")}).Endpoint
}

// start has a view keep the index up, until w.stop.
func (w *world) start() {
	w.t.Helper()
	store, err := index.Open(index.Config{Dir: "index", FS: w.disk})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.view = attempts.New(attempts.Config{Log: w.log, Control: w.control, Store: store})
	done := make(chan error, 1)
	go func() { done <- w.view.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) append(topic, id string, value []byte) int64 {
	w.t.Helper()
	at, err := w.log.Append(context.Background(), []eventlog.Record{{Partition: eventlog.Partition{Topic: topic, Number: delivery.Lane(id)}, Key: []byte(id), Value: value}})
	if err != nil {
		w.t.Fatal(err)
	}
	return at[0]
}

func newDelivery(id string, n int64) *delivery.Delivery {
	return delivery.New(&event.Event{ID: fmt.Sprint("evt_", n), Type: "a.b", Environment: event.Live, Org: "org", Offset: n, Data: []byte(`{}`)}, id, 0)
}

// attempt gives the record of an attempt; next is where its delivery goes.
func attempt(d *delivery.Delivery, number int, class delivery.Class, next string, generation uint64) *delivery.Attempt {
	return &delivery.Attempt{Delivery: d.ID, Endpoint: d.Endpoint, EventID: d.Event.ID, Number: number, Outcome: delivery.Outcome{Class: class, Status: 500, Started: time.Now()},
		Environment: d.Event.Environment, EventOffset: d.Event.Offset, Type: d.Event.Type, Next: delivery.Next{Topic: next}, Generation: generation}
}

func (w *world) status(d *delivery.Delivery) attempts.Status {
	w.t.Helper()
	row, err := w.view.Find(w.t.Context(), d.Endpoint, d.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if row == nil {
		return 0
	}
	return row.Step.Status()
}

func (w *world) is(d *delivery.Delivery, want attempts.Status) {
	w.t.Helper()
	if got := w.status(d); got != want {
		w.t.Errorf("status %d, want %d", got, want)
	}
}

// TestLife: a delivery's status follows what is logged of it, at once, over
// restarts, and without the index; and nothing that doesn't count is believed.
func TestLife(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint()
		a, b, c := newDelivery(ep.ID, 1), newDelivery(ep.ID, 2), newDelivery(ep.ID, 3)
		for _, d := range []*delivery.Delivery{a, b, c} {
			w.append("tier.0s", ep.ID, d.AppendRecord(nil))
			w.is(d, attempts.Pending)
		}
		w.append("attempts", ep.ID, delivery.AppendMarker(nil, 5))
		first := w.append("attempts", ep.ID, attempt(a, 1, delivery.HTTPError, "tier.5s", 5).AppendRecord(nil))
		w.is(a, attempts.Retrying)
		w.append("attempts", ep.ID, attempt(b, 1, delivery.Delivered, "", 4).AppendRecord(nil)) // of an owner that was displaced
		w.is(b, attempts.Pending)
		w.append("held", ep.ID, b.Next(delivery.Place{Topic: "tier.0s", Offset: 1}).AppendRecord(nil))
		w.is(b, attempts.Held)
		w.append("attempts", ep.ID, attempt(c, 1, delivery.Delivered, "", 5).AppendRecord(nil))
		w.is(c, attempts.Delivered)

		w.stop()
		last := w.append("attempts", ep.ID, attempt(a, 2, delivery.Timeout, "dead", 5).AppendRecord(nil))
		w.append("attempts", ep.ID, attempt(b, 1, delivery.Timeout, "dead", 3).AppendRecord(nil)) // displaced, as is known from before
		w.start()
		w.is(a, attempts.Dead)
		w.is(b, attempts.Held)
		hand := attempt(a, 3, delivery.Timeout, "", 5)
		hand.ByHand = true
		third := w.append("attempts", ep.ID, hand.AppendRecord(nil))
		w.is(a, attempts.Dead)
		row, err := w.view.Find(t.Context(), ep.ID, a.ID)
		if err != nil || row.Number != 3 || !slices.Equal(row.Attempts, []int64{first, last, third}) {
			t.Errorf("%+v, %v", row, err)
		}
		made, err := w.view.Attempts(t.Context(), row)
		if err != nil || len(made) != 3 || made[1].Outcome.Class != delivery.Timeout || !made[2].ByHand {
			t.Errorf("%+v, %v", made, err)
		}
		want := w.everything(ep.ID)

		// Thrown away it is the same again.
		w.stop()
		w.disk = vfs.NewMem()
		w.start()
		if got := w.everything(ep.ID); !reflect.DeepEqual(got, want) {
			t.Errorf("made anew:\n%+v, want\n%+v", got, want)
		}
		rows, err := w.view.Of(t.Context(), event.Live, 2, "", 10)
		if err != nil || len(rows) != 1 || rows[0].Delivery != b.ID {
			t.Errorf("of an event: %+v, %v", rows, err)
		}
	})
}

// TestOrderedIsRetried: one that failed and is tried again from where it lies, held,
// is shown with the time of its next attempt, as any.
func TestOrderedIsRetried(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint()
		d := newDelivery(ep.ID, 1)
		w.append("tier.0s", ep.ID, d.AppendRecord(nil))
		w.append("held", ep.ID, d.Next(delivery.Place{Topic: "tier.0s"}).AppendRecord(nil))
		w.is(d, attempts.Held)
		a := attempt(d, 1, delivery.Timeout, "held", 0)
		a.Next.Due = time.Now().Add(5 * time.Second)
		w.append("attempts", ep.ID, a.AppendRecord(nil))
		w.is(d, attempts.Retrying)
		if row, err := w.view.Find(t.Context(), ep.ID, d.ID); err != nil || !row.Next.Equal(a.Next.Due) {
			t.Errorf("%+v, %v", row, err)
		}
		w.append("attempts", ep.ID, attempt(d, 2, delivery.Timeout, "held", 0).AppendRecord(nil)) // its endpoint gets nothing more
		w.is(d, attempts.Held)
	})
}

func (w *world) everything(id string) []attempts.Row {
	w.t.Helper()
	page, err := w.view.List(w.t.Context(), attempts.Query{Endpoint: id, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Rows
}

// TestDeleted: with an endpoint, or its org, its rows go, whether or not the view
// runs; and what comes late of it makes none.
func TestDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		stays, now, later := w.endpoint(), w.endpoint(), w.endpoint()
		var all []*delivery.Delivery
		for i, ep := range []*endpoint.Endpoint{stays, now, later} {
			d := newDelivery(ep.ID, int64(i))
			w.append("tier.0s", ep.ID, d.AppendRecord(nil))
			w.is(d, attempts.Pending)
			all = append(all, d)
		}
		w.do(&control.DeleteEndpoint{Endpoint: now.ID})
		time.Sleep(time.Second)
		w.is(all[1], 0)
		w.append("attempts", now.ID, attempt(all[1], 1, delivery.Timeout, "tier.5s", 0).AppendRecord(nil))
		w.is(all[1], 0)
		w.stop()
		w.do(&control.DeleteEndpoint{Endpoint: later.ID})
		w.start()
		time.Sleep(time.Second)
		w.is(all[2], 0)
		w.is(all[0], attempts.Pending)
		w.do(&control.DeleteOrg{Org: "org"})
		time.Sleep(time.Second)
		w.is(all[0], 0)
	})
}

// TestTrimmed: what a lane trims from tier.0s while the view is away is no loss.
func TestTrimmed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint()
		first := newDelivery(ep.ID, 0)
		w.append("tier.0s", ep.ID, first.AppendRecord(nil))
		w.is(first, attempts.Pending)
		w.stop()
		a, b := newDelivery(ep.ID, 1), newDelivery(ep.ID, 2)
		w.append("tier.0s", ep.ID, a.AppendRecord(nil))
		at := w.append("tier.0s", ep.ID, b.AppendRecord(nil))
		w.append("attempts", ep.ID, attempt(a, 1, delivery.Delivered, "", 0).AppendRecord(nil))
		if err := w.log.Trim(t.Context(), eventlog.Partition{Topic: "tier.0s", Number: delivery.Lane(ep.ID)}, at); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.is(a, attempts.Delivered)
		w.is(b, attempts.Pending)
	})
}

// TestMerge: parts of a row come to the same in whatever order and however often
// each is met, and a row's step never goes back.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for range 500 {
		var parts []attempts.Row
		for i := range 6 {
			p := attempts.Row{Step: attempts.Step(r.IntN(20) - 1), Created: time.Unix(int64(r.IntN(9)), 0), Updated: time.Unix(int64(r.IntN(9)), 0)}
			if p.Step.Status() == attempts.Retrying {
				p.Next = time.Unix(int64(r.IntN(9)), 0)
			}
			if r.IntN(2) == 0 {
				p.Number, p.Attempts, p.Class = r.IntN(5), []int64{int64(i)}, delivery.Class(fmt.Sprint("class ", i))
			}
			parts = append(parts, p)
		}
		merge := func() attempts.Row {
			order := r.Perm(len(parts))
			row := parts[order[0]]
			for range 3 {
				for _, i := range order {
					before := row.Step
					if row.Merge(&parts[i]); row.Step < before {
						t.Fatal("a step back")
					}
				}
			}
			return row
		}
		if a, b := merge(), merge(); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\nin another order\n%+v\nof %+v", a, b, parts)
		}
	}
}

// Deliveries of many endpoints are one list, whatever part of it is asked for.
func TestRecent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var ids []string
		for range 5 {
			ids = append(ids, w.endpoint().ID)
		}
		var want []string // the newest first
		for n := range int64(600) {
			d := newDelivery(ids[n*n%4], n) // the last has none
			w.append(delivery.Tier(0), d.Endpoint, d.AppendRecord(nil))
			if n >= 50 {
				want = slices.Insert(want, 0, d.ID)
			}
		}
		for _, c := range []struct{ offset, limit int }{{0, 50}, {0, 1}, {100, 100}, {200, 7}, {540, 50}, {549, 1}, {550, 5}, {9000, 5}} {
			rows, total, err := w.view.Recent(t.Context(), ids, 50, c.offset, c.limit)
			var got []string
			for i := range rows {
				got = append(got, rows[i].Delivery)
			}
			begin := min(c.offset, len(want))
			if err != nil || total != len(want) || !slices.Equal(got, want[begin:min(begin+c.limit, len(want))]) {
				t.Errorf("%+v: %d rows of %d, %v: %v", c, len(got), total, err, got)
			}
		}
		if rows, total, err := w.view.Recent(t.Context(), ids[4:], 0, 0, 50); len(rows) != 0 || total != 0 || err != nil {
			t.Errorf("of one that has none: %d of %d, %v", len(rows), total, err)
		}
		if rows, total, err := w.view.Recent(t.Context(), nil, 0, 0, 50); len(rows) != 0 || total != 0 || err != nil {
			t.Errorf("of none: %d of %d, %v", len(rows), total, err)
		}
	})
}
