package lane

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/delivery"
)

// Metrics are those of all lanes of a process.
type Metrics struct {
	attempts map[delivery.Class]prometheus.Counter
	latency  prometheus.Histogram
	late     prometheus.Histogram
	held     prometheus.Counter
	missed   prometheus.Counter
	dead     prometheus.Counter
	dropped  prometheus.Counter
	doubles  prometheus.Counter
	fenced   prometheus.Counter
	skipped  prometheus.Counter
	replayed prometheus.Counter
	gauges   gauges
}

// NewMetrics makes the metrics and registers them; nil: they are only counted.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_" + name, Help: help})
	}
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_attempts_total", Help: "Attempts that ended, by class of outcome."}, []string{"class"})
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := &Metrics{
		attempts: make(map[delivery.Class]prometheus.Counter),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_attempt_seconds", Help: "Time of an attempt, until status or failure.", Buckets: buckets}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_retry_late_seconds", Help: "How long after it was due a retry was taken.", Buckets: buckets}),
		held:     counter("held_total", "Deliveries appended to held."),
		missed:   counter("missed_total", "Deliveries that expired while held, or that their owner gave up."),
		dead:     counter("dead_total", "Dead letters."),
		dropped:  counter("dropped_total", "Deliveries dropped because their endpoint was deleted."),
		doubles:  counter("doubles_total", "Deliveries that fan-out had appended before, dropped."),
		fenced:   counter("fenced_total", "Records of an owner of a lane that the next had displaced already: they count for nothing."),
		replayed: counter("replayed_total", "Deliveries begun for replays; their retries aren't counted here."),
		skipped:  counter("lane_skipped_total", "Deliveries given up at an operator's word, because the log doesn't have them any more."),
	}
	for _, c := range delivery.Classes {
		m.attempts[c] = attempts.WithLabelValues(string(c))
	}
	if reg != nil {
		reg.MustRegister(attempts, m.latency, m.late, m.held, m.missed, m.dead, m.dropped, m.doubles, m.fenced, m.skipped, m.replayed, &m.gauges)
	}
	return m
}

func (m *Metrics) attempt(o *delivery.Outcome) {
	if c := m.attempts[o.Class]; c != nil {
		c.Inc()
	}
	m.latency.Observe(o.Took.Seconds())
}
