package lane

import (
	"strconv"
	"time"

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
	inflight *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
	owed     *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	window   *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them; nil: they are only counted.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_" + name, Help: help})
	}
	perLane := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_lane_" + name, Help: help}, []string{"lane"})
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
		skipped:  counter("lane_skipped_total", "Deliveries given up at an operator's word, because the log doesn't have them any more."),
		inflight: perLane("inflight", "Attempts under way."),
		lag:      perLane("lag", "Records of the first tier that wait for the lane to take them, as far as it has read."),
		owed:     perLane("held", "Deliveries held."),
		oldest:   perLane("oldest_seconds", "Age of the oldest delivery in memory that isn't finished."),
		window:   perLane("window_full", "Tiers that aren't read on because their head is unfinished for too long."),
	}
	for _, c := range delivery.Classes {
		m.attempts[c] = attempts.WithLabelValues(string(c))
	}
	if reg != nil {
		reg.MustRegister(attempts, m.latency, m.late, m.held, m.missed, m.dead, m.dropped, m.doubles, m.fenced, m.skipped, m.inflight, m.lag, m.owed, m.oldest, m.window)
	}
	return m
}

func (m *Metrics) attempt(o *delivery.Outcome) {
	if c := m.attempts[o.Class]; c != nil {
		c.Inc()
	}
	m.latency.Observe(o.Took.Seconds())
}

// measureEvery is how often the gauges are set.
const measureEvery = 5 * time.Second

// measure sets the lane's gauges.
func (l *Lane) measure(now time.Time) {
	if now.Before(l.measured.Add(measureEvery)) {
		l.idle = false
		return
	}
	l.measured = now
	l.idle = l.inflight == 0 && l.queued == 0
	var held int64
	var oldest time.Duration
	for _, t := range l.targets {
		held += t.held.count
		for _, q := range []*queue{&t.queue, &t.retries} {
			if len(q.jobs) > 0 {
				oldest = max(oldest, now.Sub(q.jobs[0].logged))
			}
		}
	}
	var waiting, full int
	for _, s := range l.sources {
		if s.delay == 0 {
			waiting = len(s.jobs) - s.head
		}
		if s.head < len(s.jobs) && s.window.full(s.jobs[s.head].offset) {
			full++
		}
	}
	m, name := l.cfg.Metrics, strconv.Itoa(int(l.number))
	m.inflight.WithLabelValues(name).Set(float64(l.inflight))
	m.owed.WithLabelValues(name).Set(float64(held))
	m.oldest.WithLabelValues(name).Set(oldest.Seconds())
	m.lag.WithLabelValues(name).Set(float64(waiting))
	m.window.WithLabelValues(name).Set(float64(full))
}
