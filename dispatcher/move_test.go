package dispatcher_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/dispatcher"
	"sluice/dispatcher/lane"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// move leaves the world's log, whose oldest events are gone, for another that
// begins with the oldest there is.
func (w *world) move() (moved []lane.Moved) {
	w.t.Helper()
	to, ctx := eventlogtest.Mem(w.t, topics()...), context.Background()
	starts := make(map[event.Environment]int64)
	place := func(env event.Environment, offset int64) int64 { return max(offset-starts[env], 0) }
	mover := &control.Mover{Place: place}
	for _, topic := range []string{"events.sandbox", "events.live", control.Topic.Name} {
		p := eventlog.Partition{Topic: topic}
		start, end, err := w.log.Bounds(ctx, p)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, env := range event.Environments {
			if env.Topic() == topic {
				starts[env] = start
			}
		}
		for at := start; at < end; {
			records, err := w.log.Read(ctx, p, at, 1<<20)
			if err != nil {
				w.t.Fatal(err)
			}
			at += int64(len(records))
			for i := range records {
				if topic == control.Topic.Name {
					if records[i].Value, err = mover.Move(&records[i]); err != nil {
						w.t.Fatal(err)
					}
				}
			}
			if _, err := to.Append(ctx, records); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	d := dispatcher.New(dispatcher.Config{Log: untouched{w}, Control: w.control, Dialects: []*dialect.Dialect{testDialect}, Logger: logger()})
	if err := d.Move(ctx, to, place, func(_ int32, m lane.Moved) { moved = append(moved, m) }); err != nil {
		w.t.Fatal(err)
	}
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	w.control.Close()
	w.log = to
	if w.control, err = control.Open(ctx, control.Config{Log: to, Sealer: sealer, Lanes: delivery.Lanes}); err != nil {
		w.t.Fatal(err)
	}
	return moved
}

// untouched is a log that mustn't be written to.
type untouched struct{ w *world }

func (u untouched) Append(context.Context, []eventlog.Record) ([]int64, error) {
	u.w.t.Error("the log that is left was written to")
	return nil, eventlog.ErrClosed
}
func (u untouched) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	return u.w.log.Bounds(ctx, p)
}
func (u untouched) Read(ctx context.Context, p eventlog.Partition, from int64, n int) ([]eventlog.Record, error) {
	return u.w.log.Read(ctx, p, from, n)
}
func (u untouched) OffsetAt(ctx context.Context, p eventlog.Partition, t time.Time) (int64, error) {
	return u.w.log.OffsetAt(ctx, p, t)
}
func (u untouched) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	return u.w.log.Tail(ctx, p, from)
}
func (u untouched) Trim(context.Context, eventlog.Partition, int64) error {
	u.w.t.Error("the log that is left was trimmed")
	return nil
}
func (u untouched) Own(context.Context, string, func(context.Context, eventlog.Share)) error {
	return eventlog.ErrClosed
}
func (u untouched) Scarce() bool { return false }
func (u untouched) Close() error { return nil }

// A log is left while an endpoint has dead letters, a streak, retries and held
// deliveries: in the other log it goes on as if nothing had happened, though all
// offsets are others.
func TestMove(t *testing.T) {
	for name, c := range map[string]struct {
		after    time.Duration // the failures begin
		disabled bool
	}{
		"retries":                {after: 10 * time.Second},
		"failing":                {after: 10 * time.Minute},
		"dead letters, disabled": {after: 2 * time.Hour, disabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ep, calm := w.endpoint("http://a"), w.endpoint("http://calm")
				w.start()
				w.publish(20)
				sleep(time.Minute)
				late := w.endpoint("http://late") // owed nothing of before
				w.answers("http://a", broken, ok)
				owed := w.publish(3)
				sleep(c.after)
				owed = append(owed, w.publishAs("test.event", 2, 10_000)...) // their data doesn't travel along
				sleep(time.Second)
				if have := w.status(ep.ID) == endpoint.Disabled; have != c.disabled {
					t.Fatalf("it is %s", w.status(ep.ID))
				}
				w.stop()
				unfanned := w.publish(4)
				if err := w.log.Trim(t.Context(), eventlog.Partition{Topic: "events.live"}, 15); err != nil {
					t.Fatal(err)
				}
				before := make(map[string]request) // the last of each
				for _, r := range w.of("http://a") {
					before[r.event] = r
				}
				var all lane.Moved
				for _, m := range w.move() {
					all.First, all.Retries, all.Held, all.Dead = all.First+m.First, all.Retries+m.Retries, all.Held+m.Held, all.Dead+m.Dead
				}
				t.Logf("%+v", all)

				w.forget()
				w.set(nil)
				w.start()
				defer w.stop()
				if c.disabled {
					sleep(time.Minute)
					if got := w.of("http://a"); len(got) > 0 {
						t.Errorf("while it is disabled came %v", ids(got))
					}
					w.do(&control.EnableEndpoint{Endpoint: ep.ID})
				}
				sleep(2 * time.Hour)
				first := w.publish(1)
				sleep(time.Minute)
				got := w.of("http://a")
				for _, r := range got {
					if b, failed := before[r.event]; failed && (r.delivery != b.delivery || r.attempt != b.attempt+1) {
						t.Errorf("%s came as %+v, and before as %+v", r.event, r, b)
					}
				}
				want := slices.Concat(owed, unfanned, first)
				if have := slices.Sorted(slices.Values(ids(got))); !slices.Equal(have, slices.Sorted(slices.Values(want))) {
					t.Errorf("it got %v, not %v", have, want)
				}
				for _, other := range []*endpoint.Endpoint{calm, late} {
					have, want := slices.Sorted(slices.Values(ids(w.of(other.URL)))), slices.Sorted(slices.Values(slices.Concat(unfanned, first)))
					if !slices.Equal(have, want) {
						t.Errorf("%s got %v, not %v", other.URL, have, want)
					}
				}
				if n := w.control.Endpoint(ep.ID).Missed; n != 0 {
					t.Errorf("%d are missed", n)
				}
			})
		})
	}
}

// An endpoint with dead letters is enabled before its log is left, or behind: each
// comes once, also those that were on their way again.
func TestMoveDeadLetters(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			ep := w.endpoint("http://a")
			w.start()
			before := w.publish(20)
			sleep(time.Minute)
			w.set(func(r request) delivery.Outcome {
				o := delivery.Outcome{Class: delivery.HTTPError, Status: 503, RetryAt: time.Now().Add(2 * time.Hour)}
				if r.event == "e00024" && r.attempt == 1 {
					o.Status = 410
				}
				return o
			})
			owed := w.publish(3)
			sleep(90 * time.Minute)
			owed = append(owed, w.publish(1)...)
			sleep(time.Minute)
			if n := len(w.deliveries("dead", ep.ID)); n != 3 || w.status(ep.ID) != endpoint.Disabled {
				t.Fatalf("%d dead letters, and it is %s", n, w.status(ep.ID))
			}
			w.set(func(request) delivery.Outcome {
				never := ok
				never.Took = time.Hour
				return never
			})
			if enabled {
				w.do(&control.EnableEndpoint{Endpoint: ep.ID, Skip: int64(len(before) + 1)}) // one of them is wanted no more
				sleep(time.Second)
			}
			w.stop()
			if err := w.log.Trim(t.Context(), eventlog.Partition{Topic: "events.live"}, 15); err != nil {
				t.Fatal(err)
			}
			w.move()
			w.forget()
			w.set(nil)
			w.start()
			defer w.stop()
			want := owed
			if enabled {
				want = owed[1:]
			} else {
				w.do(&control.EnableEndpoint{Endpoint: ep.ID})
			}
			sleep(2 * time.Hour)
			if have := slices.Sorted(slices.Values(ids(w.of("http://a")))); !slices.Equal(have, want) {
				t.Errorf("enabled before %t: it got %v, not %v", enabled, have, want)
			}
		})
	}
}

// captured takes what is moved.
type captured struct {
	ends    map[eventlog.Partition]int64
	records []eventlog.Record
}

func (c *captured) Append(_ context.Context, records []eventlog.Record) ([]int64, error) {
	offsets := make([]int64, len(records))
	for i, r := range records {
		offsets[i] = c.ends[r.Partition]
		c.ends[r.Partition]++
		c.records = append(c.records, r)
	}
	return offsets, nil
}

// What was held for too long before its log is left is brought over so that the
// other log keeps it until it is missed, and counted: there it would be gone by its
// age, and its lane without a place.
func TestMoveExpired(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep, paused := w.endpoint("http://a"), endpoint.Paused
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		w.start()
		w.publish(2)
		sleep(time.Second)
		w.stop()
		sleep(3 * time.Hour)
		to := &captured{ends: make(map[eventlog.Partition]int64)}
		_, err := lane.MoveLane(t.Context(), lane.Config{
			Log: untouched{w}, Control: w.control, HeldFor: 2 * time.Hour, Delays: schedule,
			Dialect: func(string) *dialect.Dialect { return testDialect },
		}, delivery.Lane(ep.ID), lane.Move{To: to, Place: func(_ event.Environment, offset int64) int64 { return offset }})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, r := range to.records {
			if r.Topic != delivery.HeldTopic {
				continue
			}
			n++
			if age := time.Since(r.Time); age < 2*time.Hour || age > 2*time.Hour+time.Minute {
				t.Errorf("one that was held for 3 h is %v old there, want 2 h", age)
			}
		}
		if n != 2 {
			t.Errorf("%d were brought over, want 2", n)
		}
	})
}

// Events that are gone before they were fanned out are owed to somebody: a log that
// lost some is left when an operator has said that it may, as it is gone on with.
func TestMoveLostEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.endpoint("http://a")
		w.start()
		w.publish(3)
		sleep(time.Minute)
		w.stop()
		w.publish(10)
		if err := w.log.Trim(t.Context(), eventlog.Partition{Topic: event.Live.Topic()}, 8); err != nil {
			t.Fatal(err)
		}
		move := func() error {
			d := dispatcher.New(dispatcher.Config{Log: untouched{w}, Control: w.control, Dialects: []*dialect.Dialect{testDialect}, Logger: logger()})
			return d.Move(t.Context(), &captured{ends: make(map[eventlog.Partition]int64)},
				func(_ event.Environment, offset int64) int64 { return max(offset-8, 0) }, func(int32, lane.Moved) {})
		}
		if err := move(); err == nil || !strings.Contains(err.Error(), "sluice lane skip 1") {
			t.Errorf("it is left with %v", err)
		}
		if err := dispatcher.Skip(t.Context(), w.log, 1); err != nil {
			t.Fatal(err)
		}
		if err := move(); err != nil {
			t.Error(err)
		}
	})
}
