package embedded_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

var benchValue = bytes.Repeat([]byte("0123456789"), 30)

func openBench(b *testing.B) *embedded.Log {
	l, err := embedded.Open(b.Context(), embedded.Config{
		Dir:    b.TempDir(),
		Topics: []eventlog.Topic{{Name: "a", Partitions: 16}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// share runs do the number of times, spread over n goroutines.
func share(times int, b *testing.B, n int, do func(worker int) error) {
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for i := w; i < times; i += n {
				if err := do(w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAppendSingle32(b *testing.B) { benchSingle(b, 32) }
func BenchmarkAppendSingle64(b *testing.B) { benchSingle(b, 64) }

func benchSingle(b *testing.B, writers int) {
	l := openBench(b)
	b.ReportAllocs()
	b.ResetTimer()
	share(b.N, b, writers, func(w int) error {
		rec := [1]eventlog.Record{{Partition: eventlog.Partition{Topic: "a", Number: int32(w % 16)}, Value: benchValue}}
		_, err := l.Append(b.Context(), rec[:])
		return err
	})
}

// One operation is one record, appended 100 at a time.
func BenchmarkAppendBatch100(b *testing.B) {
	l := openBench(b)
	b.ReportAllocs()
	b.ResetTimer()
	share((b.N+99)/100, b, 8, func(w int) error {
		recs := make([]eventlog.Record, 100)
		for i := range recs {
			recs[i] = eventlog.Record{Partition: eventlog.Partition{Topic: "a", Number: int32(w)}, Value: benchValue}
		}
		_, err := l.Append(b.Context(), recs)
		return err
	})
}

// One operation is one record, appended and read by a tail that follows.
func BenchmarkTail(b *testing.B) {
	l := openBench(b)
	p := eventlog.Partition{Topic: "a"}
	t, err := l.Tail(b.Context(), p, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			recs := make([]eventlog.Record, 100)
			for i := range recs {
				recs[i] = eventlog.Record{Partition: p, Value: benchValue}
			}
			for range (b.N + 399) / 400 {
				if _, err := l.Append(b.Context(), recs); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for seen := 0; seen < b.N; {
		recs, err := t.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		seen += len(recs)
	}
	wg.Wait()
}
