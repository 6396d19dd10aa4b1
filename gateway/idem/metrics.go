package idem

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of idempotency.
type metrics struct {
	replayed, conflicts, completed, evicted, poisoned prometheus.Counter

	told time.Time // under view.mu: when the log last heard of evictions
}

func newMetrics(r prometheus.Registerer, entries func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_idempotency_" + name, Help: help})
	}
	m := &metrics{
		replayed:  counter("replayed_total", "Requests that were answered again, without an event."),
		conflicts: counter("conflicts_total", "Requests refused because their key or an id of theirs was used for something else."),
		completed: counter("completed_total", "Claims that were left unfinished and taken over."),
		evicted:   counter("evicted_total", "Keys and ids forgotten before their 24 hours were over; one for all that a start passed over."),
		poisoned:  counter("poisoned_total", "Records of claims that can't be read."),
	}
	if r != nil {
		r.MustRegister(m.replayed, m.conflicts, m.completed, m.evicted, m.poisoned, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_idempotency_entries", Help: "Keys and ids that are remembered."}, entries))
	}
	return m
}

// evictionsEvery is how often evictions are told of.
const evictionsEvery = time.Minute

// evicted counts a key or an id that was forgotten early. view.mu is held.
func (c *Claims) evicted() {
	c.metrics.evicted.Inc()
	if now := time.Now(); now.Sub(c.metrics.told) >= evictionsEvery {
		c.metrics.told = now
		c.cfg.Logger.Warn("keys and ids are forgotten before their 24 hours are over; raise --idempotency-entries", "entries", c.cfg.Entries)
	}
}
