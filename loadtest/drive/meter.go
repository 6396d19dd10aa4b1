package drive

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// meter counts and times what comes: in all, and since somebody looked last.
type meter struct {
	mu          sync.Mutex
	count, lap  int64
	all, recent *hdrhistogram.Histogram // microseconds
}

// The least and the most that is told apart, in microseconds: up to an hour, to three
// digits.
const (
	leastMicros = 1
	mostMicros  = 3_600_000_000
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(leastMicros, mostMicros, 3) }

func newMeter() *meter { return &meter{all: newHistogram(), recent: newHistogram()} }

// counted notes n that aren't timed.
func (m *meter) counted(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count += n
	m.lap += n
}

// timed notes n that took so long.
func (m *meter) timed(n int64, took time.Duration) {
	micros := min(max(took.Microseconds(), leastMicros), mostMicros)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count += n
	m.lap += n
	m.all.RecordValues(micros, n)
	m.recent.RecordValues(micros, n)
}

// look gives what came since the last look, and adds its times to others.
func (m *meter) look(to *hdrhistogram.Histogram) (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to.Merge(m.recent)
	m.recent.Reset()
	n, m.lap = m.lap, 0
	return n
}

// take gives what came since the last look, for another process to add; the next look
// has none of it.
func (m *meter) take() Lapse {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := Lapse{Count: m.lap}
	if m.recent.TotalCount() > 0 {
		l.Times = m.recent.Export()
	}
	m.recent.Reset()
	m.lap = 0
	return l
}

// add adds what came to another process.
func (m *meter) add(l Lapse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count += l.Count
	m.lap += l.Count
	if l.Times != nil {
		times := hdrhistogram.Import(l.Times)
		m.all.Merge(times)
		m.recent.Merge(times)
	}
}

// Lapse is what came to a meter since somebody looked last.
type Lapse struct {
	Count int64
	Times *hdrhistogram.Snapshot // nil: none was timed
}

func (m *meter) total() (n int64, q Quantiles) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count, quantiles(m.all)
}

// Quantiles are times in milliseconds; of none, zeros.
type Quantiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Quantiles{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}
