package dispatcher_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/dispatcher"
	"sluice/dispatcher/attempt"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// noop takes everything at once, and tells when it has all.
type noop struct {
	left atomic.Int64
	all  chan struct{}
}

func (s *noop) Send(context.Context, *attempt.Request) (delivery.Outcome, error) {
	if s.left.Add(-1) == 0 {
		close(s.all)
	}
	return delivery.Outcome{Class: delivery.Delivered, Status: 200, Started: time.Now()}, nil
}

func (s *noop) Close() {}

// BenchmarkDeliver measures a delivery from its event in the log to the journal
// of its attempt, signing included, with receivers that take no time, over the
// log in memory. The timer and the CPU include the log's own work, but not the
// making of the events.
func BenchmarkDeliver(b *testing.B) {
	for _, endpoints := range []int{1, 100} {
		b.Run(fmt.Sprint("endpoints=", endpoints), func(b *testing.B) { benchDeliver(b, endpoints) })
	}
}

func benchDeliver(b *testing.B, endpoints int) {
	ctx := context.Background()
	log := eventlogtest.Mem(b, topics()...)
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	state, err := control.Open(ctx, control.Config{Log: log, Sealer: sealer, Lanes: delivery.Lanes})
	if err != nil {
		b.Fatal(err)
	}
	defer state.Close()
	do := func(cmd control.Command) {
		if _, err := state.Do(ctx, cmd); err != nil {
			b.Fatal(err)
		}
	}
	do(&control.CreateOrg{ID: "org", Name: "org", Plan: control.Enterprise})
	for i := range endpoints {
		do(&control.CreateEndpoint{Org: "org", Environment: event.Live, Dialect: "test", URL: fmt.Sprint("http://", i),
			Patterns: []string{"*"}, Secret: endpoint.Secret("12345678")})
	}
	events := (b.N + endpoints - 1) / endpoints
	sender := &noop{all: make(chan struct{})}
	sender.left.Store(int64(events * endpoints))
	d := dispatcher.New(dispatcher.Config{Log: log, Control: state, Sender: sender, Dialects: []*dialect.Dialect{testDialect}, Trim: true})
	var batch []eventlog.Record
	for i := range events {
		ev := newEvent(i)
		ev.Data = []byte(`{"rfq":{"id":"rfq_xyz789","pair":"USDC/EURC","side":"buy","amount":"1000000","chain":"ethereum","corridor":"ethereum-optimism"}}`)
		batch = append(batch, eventlog.Record{Partition: eventlog.Partition{Topic: "events.live"}, Value: ev.AppendRecord(nil)})
		if len(batch) == 1000 || i == events-1 {
			if _, err := log.Append(ctx, batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	runtime.GC()
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	go func() { done <- d.Run(run) }()
	<-sender.all
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(events*endpoints), "cpu-ns/op")
	stop()
	<-done
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
