package index_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/attempts/index"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// BenchmarkMerge is the steady case: rows that are new, delivered at once, of a few
// endpoints, 2000 in a batch. One in twenty comes in two batches: it was logged at
// the end of one, and delivered in the next. It tells the CPU time of a row, with
// flushes and compactions.
func BenchmarkMerge(b *testing.B) {
	const batch, endpoints = 2000, 16
	s, err := index.Open(index.Config{Dir: b.TempDir() + "/index"})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Begin(b.Context(), "log"); err != nil {
		b.Fatal(err)
	}
	var ids [endpoints]string
	for i := range ids {
		ids[i] = fmt.Sprintf("wh_%026d", i)
	}
	row := func(n int, step attempts.Step) attempts.Row {
		ev := strconv.Itoa(n / endpoints)
		r := attempts.Row{
			Key:         attempts.Key{Endpoint: ids[n%endpoints], Event: int64(n / endpoints), Delivery: id(n)},
			Environment: event.Live, EventID: "evt_00000000000000000000000000"[:30-len(ev)] + ev, Type: "rfq.created", Step: step, Created: now, Updated: now,
		}
		if step != 0 {
			r.Number, r.Class, r.HTTP, r.Attempts = 1, delivery.Delivered, 200, []int64{int64(n / endpoints)}
		}
		return r
	}
	before := cpu(b)
	made, late := 0, []int(nil)
	var rows []attempts.Row
	for b.Loop() {
		rows = rows[:0]
		for _, n := range late {
			rows = append(rows, row(n, 1<<31-1))
		}
		late = late[:0]
		for i := range batch {
			if i >= batch*19/20 {
				late = append(late, made)
				rows = append(rows, row(made, 0))
			} else {
				rows = append(rows, row(made, 1<<31-1))
				rows[len(rows)-1].First = true
			}
			made++
		}
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		to := []attempts.Position{{Partition: eventlog.Partition{Topic: "attempts"}, Next: int64(made)}}
		if err := s.Merge(b.Context(), rows, to); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(made), "CPU-µs/row")
}

var now = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// id gives a delivery's id, as far from the next as they are.
func id(n int) string {
	h := uint64(n) * 0x9e3779b97f4a7c15
	raw := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, h), h*0xbf58476d1ce4e5b9)
	return "dlv_" + hex.EncodeToString(raw)
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
