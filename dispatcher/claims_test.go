package dispatcher_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"sluice/dispatcher"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// behind is a log whose control topic is followed with a delay, and of whose lanes
// one is given to whoever asks.
type behind struct {
	eventlog.Log
	late time.Duration
	lane int32
}

func (b behind) Own(ctx context.Context, _ string, work func(context.Context, eventlog.Share)) error {
	work(ctx, eventlog.Share{Partition: b.lane, Ours: func() bool { return true }})
	return nil
}

func (b behind) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	t, err := b.Log.Tail(ctx, p, from)
	if p.Topic != control.Topic.Name {
		return t, err
	}
	return behindTail{t, b.late}, err
}

type behindTail struct {
	eventlog.Tail
	late time.Duration
}

func (t behindTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	records, err := t.Tail.Next(ctx)
	time.Sleep(t.late)
	return records, err
}

// Endpoints that were made while an owner stood still, right before it claimed its
// lanes, are known to it: what they are owed isn't forgotten.
func TestClaimsLate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		f := w.frozen(w.log, 1)
		log := behind{f, time.Second, 7}
		sealer, err := control.NewSealer(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := control.Open(t.Context(), control.Config{Log: log, Sealer: sealer, Lanes: delivery.Lanes})
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		f.before.Store(delivery.LanesTopic)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- dispatcher.New(dispatcher.Config{Log: log, Control: theirs, Sender: frozenSender{f}, Dialects: []*dialect.Dialect{testDialect}}).Run(ctx)
		}()
		sleep(10 * time.Second) // it is about to claim

		w.start()
		ep := w.endpoint("http://a")
		for delivery.Lane(ep.ID) != log.lane {
			w.do(&control.DeleteEndpoint{Endpoint: ep.ID})
			ep = w.endpoint("http://a")
		}
		paused, active := endpoint.Paused, endpoint.Active
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused})
		owed := w.publish(3)
		sleep(10 * time.Second) // they are held
		f.wake()
		sleep(10 * time.Minute)
		cancel()
		<-done
		w.do(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
		sleep(time.Hour)
		got := ids(w.of(ep.URL))
		slices.Sort(got) // sent side by side
		if !slices.Equal(got, owed) {
			t.Errorf("%v came, want %v", got, owed)
		}
	})
}

// An owner that stood still right behind its claim, for longer than its successor
// kept that, says that it was displaced, and not that something is lost.
func TestClaimTrimmed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		f := w.frozen(w.log, 1)
		log := behind{f, 0, 7}
		f.before.Store(delivery.AttemptsTopic)
		d, stop := w.run(log, frozenSender{f})
		sleep(time.Second)
		w.start()
		sleep(time.Minute)
		f.wake()
		sleep(500 * time.Millisecond)
		if err := d.Healthy(); err != nil {
			t.Errorf("it says: %v", err)
		}
		stop()
	})
}
