package stream

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// lagBounds are the upper bounds of the histogram's buckets, in milliseconds, which
// is what the log's clock tells.
var lagBounds = [...]int64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000}

// lag counts how late events were written, for the connections of one shard. A
// histogram of the library's would cost more than all else that is done for a frame.
type lag struct {
	counts [len(lagBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // milliseconds
}

// observe counts one write. Clocks of brokers and of this machine differ: what is
// written before it was logged is on time.
func (l *lag) observe(milliseconds int64) {
	milliseconds = max(0, milliseconds)
	i := 0
	for i < len(lagBounds) && milliseconds > lagBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(milliseconds)
}

// lags is the histogram of all shards.
type lags struct {
	desc   *prometheus.Desc
	shards []*shard
}

func newLags(shards []*shard) *lags {
	return &lags{prometheus.NewDesc("sluice_stream_lag_seconds",
		"Age, since it was logged, of the oldest event of a write to a connection.", nil, nil), shards}
}

// Describe is a prometheus.Collector's.
func (l *lags) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect adds the shards up.
func (l *lags) Collect(ch chan<- prometheus.Metric) {
	var count uint64
	var sum int64
	buckets := make(map[float64]uint64, len(lagBounds))
	for i := range len(lagBounds) + 1 {
		for _, s := range l.shards {
			count += s.lag.counts[i].Load()
		}
		if i < len(lagBounds) {
			buckets[float64(lagBounds[i])/1000] = count
		}
	}
	for _, s := range l.shards {
		sum += s.lag.sum.Load()
	}
	ch <- prometheus.MustNewConstHistogram(l.desc, count, float64(sum)/1000, buckets)
}
