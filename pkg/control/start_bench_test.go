package control

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

// manyEndpoints is a log on disk with n endpoints of n/500 orgs, a hundred
// different sets of patterns among them.
func manyEndpoints(tb testing.TB, n int) (log eventlog.Log, sealer *Sealer) {
	tb.Helper()
	topics := []eventlog.Topic{Topic, {Name: event.Sandbox.Topic(), Partitions: 1}, {Name: event.Live.Topic(), Partitions: 1}}
	log, err := embedded.Open(tb.Context(), embedded.Config{Dir: filepath.Join(tb.TempDir(), "log"), Topics: topics})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { log.Close() })
	if sealer, err = NewSealer(make([]byte, sealKeyLen)); err != nil {
		tb.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	var batch []eventlog.Record
	put := func(cmd Command) {
		value, err := encode(newID("cmd_"), at, cmd)
		if err != nil {
			tb.Fatal(err)
		}
		batch = append(batch, eventlog.Record{Partition: partition, Value: value})
		if len(batch) == 1000 {
			flush(tb, log, &batch)
		}
	}
	put(&begin{Incarnation: newIncarnation(), Lanes: 16, SealedWith: sealer.Fingerprint()})
	secret := []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")
	for i := range n {
		org := fmt.Sprintf("org_%018d", i/500)
		if i%500 == 0 {
			put(&CreateOrg{ID: org, Name: "Some Org", Plan: Pro})
		}
		cmd := &CreateEndpoint{
			ID: newID("wh_"), Org: org, Environment: event.Live, Dialect: "tetrafi", URL: fmt.Sprintf("https://hooks.example.com/receivers/%08d/in", i),
			Patterns: []string{fmt.Sprintf("kind%d.*", i%100), "settlement.completed"}, From: int64(i),
		}
		cmd.Sealed = sealer.Seal(secret, org, cmd.ID, firstSecret)
		put(cmd)
	}
	flush(tb, log, &batch)
	return log, sealer
}

func flush(tb testing.TB, log eventlog.Log, batch *[]eventlog.Record) {
	tb.Helper()
	if _, err := log.Append(tb.Context(), *batch); err != nil {
		tb.Fatal(err)
	}
	*batch = (*batch)[:0]
}

// heap is what is alive, in bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkOpen measures a start with 100,000 endpoints, and what each of them
// takes in memory.
func BenchmarkOpen(b *testing.B) {
	const n = 100_000
	log, sealer := manyEndpoints(b, n)
	cfg := Config{Log: log, Sealer: sealer}
	b.Run("topic", func(b *testing.B) { benchmarkOpen(b, cfg, n) })
	cfg.Snapshot = filepath.Join(b.TempDir(), "snapshot")
	c, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	c.Close() // leaves it
	b.Run("snapshot", func(b *testing.B) { benchmarkOpen(b, cfg, n) })
}

func benchmarkOpen(b *testing.B, cfg Config, n int) {
	before, after := heap(), 0.0
	for b.Loop() {
		c, err := Open(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if after == 0 {
			after = heap()
		}
		if len(c.state.endpoints) != n {
			b.Fatal("endpoints are missing")
		}
		c.Close()
		b.StartTimer()
	}
	b.ReportMetric((after-before)/float64(n), "B/endpoint")
}
