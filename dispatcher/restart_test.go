package dispatcher_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// slow is a log that takes its time: tails of a topic give one record after the
// other, and whoever appends hears of it late.
type slow struct {
	eventlog.Log
	topic string
	pause time.Duration // before each record of the topic
	late  time.Duration // between an append's end and its caller's knowing
}

func (s *slow) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	offsets, err := s.Log.Append(ctx, records)
	time.Sleep(s.late)
	return offsets, err
}

func (s *slow) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	t, err := s.Log.Tail(ctx, p, from)
	if err != nil || p.Topic != s.topic {
		return t, err
	}
	return &slowTail{Tail: t, pause: s.pause}, nil
}

type slowTail struct {
	eventlog.Tail
	pause time.Duration
	rest  []eventlog.Record
}

func (t *slowTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	if len(t.rest) == 0 {
		var err error
		if t.rest, err = t.Tail.Next(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(t.pause):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	one := t.rest[:1]
	t.rest = t.rest[1:]
	return one, nil
}

func (w *world) unkillable(log eventlog.Log) *mortal {
	m := &mortal{Log: log}
	m.left.Store(1 << 40)
	return m
}

// A lane reads again what wasn't finished, and a snapshot that is made meanwhile
// must not forget how far it had read before: below, only the window decides.
func TestKilledWhileReadingAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		never := ok
		never.Took = time.Hour
		// One is delivered in each life, so that there is something to be written down.
		only := "e00001"
		w.set(func(r request) delivery.Outcome {
			if r.event == only {
				return ok
			}
			return never
		})
		m := w.unkillable(w.log)
		w.startOn(m, true)
		owed := w.publish(20)
		sleep(10 * time.Second)
		m.kill()
		w.stop()

		only = owed[1]
		m = w.unkillable(&slow{Log: w.log, topic: delivery.Tier(0), pause: time.Second})
		w.startOn(m, true)
		sleep(8 * time.Second)
		m.kill()
		w.stop()

		w.forget()
		w.set(nil)
		w.start()
		sleep(time.Minute)
		got := ids(w.of(ep.URL))
		slices.Sort(got)
		if want := owed[2:]; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// What is appended to held is read there by a sweep before the lane knows of it.
// It isn't passed over.
func TestHeldWhileSwept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		answer := ok
		answer.Took = 200 * time.Millisecond
		w.set(func(request) delivery.Outcome { return answer })
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		w.startOn(&slow{Log: w.log, late: 300 * time.Millisecond}, true)
		owed := w.publish(100)
		sleep(10 * time.Second)
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		for range 200 {
			owed = append(owed, w.publish(1)...)
			sleep(37 * time.Millisecond)
		}
		sleep(10 * time.Minute)
		got := ids(w.of(ep.URL))
		if left := missing(got, owed); len(left) > 0 {
			t.Errorf("%d of %d never came: %v", len(left), len(owed), left)
		}
		if len(got) != len(owed) {
			t.Errorf("%d requests for %d deliveries", len(got), len(owed))
		}
	})
}

// Fan-out's place is kept although nothing comes of its events for the lane
// beside it: a restart appends nothing again, and finds its place although the
// events below are gone.
func TestPlaceOfFanOut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var ep *endpoint.Endpoint
		for ep == nil || delivery.Lane(ep.ID) < 2 {
			if ep != nil {
				w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
			}
			ep = w.endpoint("http://a")
		}
		m := w.unkillable(w.log)
		w.startOn(m, true)
		sleep(time.Minute)
		w.publish(500)
		sleep(time.Minute)
		m.kill()
		w.stop()
		if err := w.log.Trim(context.Background(), eventlog.Partition{Topic: event.Live.Topic()}, 500); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.publish(1)
		sleep(time.Minute)
		if got := w.of(ep.URL); len(got) != 501 {
			t.Errorf("%d requests", len(got))
		}
		_, end, err := w.log.Bounds(context.Background(), eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)})
		if end -= 2; err != nil || end != 501 { // a marker for each of two lives
			t.Errorf("%d deliveries were appended, error %v", end, err)
		}
	})
}

// A lane that can't know where it stands stops, and says so; the others go on.
func TestLostPlaces(t *testing.T) {
	lanes := func(ep *endpoint.Endpoint) eventlog.Partition {
		return eventlog.Partition{Topic: delivery.LanesTopic, Number: delivery.Lane(ep.ID)}
	}
	trim := func(w *world, p eventlog.Partition) {
		_, end, err := w.log.Bounds(context.Background(), p)
		if err == nil {
			err = w.log.Trim(context.Background(), p, end)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	add := func(w *world, p eventlog.Partition, value []byte) {
		if _, err := w.log.Append(context.Background(), []eventlog.Record{{Partition: p, Value: value}}); err != nil {
			w.t.Fatal(err)
		}
	}
	snapshot := func(version byte, body string) []byte {
		b := binary.AppendUvarint([]byte{version, 'S', 0, 0, 1}, uint64(time.Now().UnixNano()))
		return append(b, body...)
	}
	for name, c := range map[string]struct {
		harm func(w *world, ep *endpoint.Endpoint)
		says string // empty: the lane is well
		lane int32  // -1: the endpoint's
	}{
		"tier trimmed": {func(w *world, ep *endpoint.Endpoint) {
			trim(w, eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)})
		}, "a position is outside the log: tier.0s", -1},
		"snapshots lost": {func(w *world, ep *endpoint.Endpoint) {
			trim(w, eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)})
			trim(w, lanes(ep))
		}, "a position is outside the log: tier.0s", -1},
		"events trimmed": {func(w *world, ep *endpoint.Endpoint) {
			w.publish(10)
			trim(w, eventlog.Partition{Topic: event.Live.Topic()})
		}, "what lies between is gone", 1},
		"snapshot damaged": {func(w *world, ep *endpoint.Endpoint) {
			add(w, lanes(ep), snapshot(1, "this is none"))
		}, "snapshot is damaged", -1},
		"snapshot of a newer release": {func(w *world, ep *endpoint.Endpoint) {
			add(w, lanes(ep), snapshot(99, "this is none"))
		}, "a newer release wrote it", -1},
		"no snapshot": {func(w *world, ep *endpoint.Endpoint) {
			add(w, lanes(ep), []byte("somebody else's"))
		}, "", -1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var ep *endpoint.Endpoint
				for ep == nil || delivery.Lane(ep.ID) < 2 {
					ep = w.endpoint("http://a")
				}
				never := ok
				never.Took = time.Hour
				w.set(func(request) delivery.Outcome { return never })
				m := w.unkillable(w.log)
				w.startOn(m, true)
				w.publish(10)
				sleep(time.Minute)
				m.kill()
				w.stop()
				c.harm(w, ep)
				w.startOn(w.log, false)
				sleep(time.Minute)
				err := w.healthy()
				if c.says == "" {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				lane := c.lane
				if lane < 0 {
					lane = delivery.Lane(ep.ID)
				}
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "lane "+strconv.Itoa(int(lane))+":") || strings.Contains(err.Error(), "\n") {
					t.Errorf("lane %d: %v", lane, err)
				}
			})
		})
	}
}

// refusing is a log that takes a second to refuse what fan-out appends.
type refusing struct{ eventlog.Log }

func (r refusing) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if d, err := delivery.DecodeDelivery(records[0].Value); err == nil && d.First {
		time.Sleep(time.Second)
		return nil, errors.New("no room")
	}
	return r.Log.Append(ctx, records)
}

// A dispatcher that is stopped at the moment when its fan-out fails stops for all
// that.
func TestStopWhileFanOutFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.endpoint("http://a")
		w.publish(1)
		for i := range 30 {
			_, stop := w.run(refusing{w.log}, w.receivers)
			time.Sleep(time.Second)
			done := make(chan struct{})
			go func() {
				stop()
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(time.Hour):
				t.Fatalf("try %d goes on", i)
			}
		}
	})
}
