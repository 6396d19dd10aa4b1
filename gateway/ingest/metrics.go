package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// metrics of ingest. Their labels are of few values, all known here.
type metrics struct {
	events  perEnvironment
	bytes   perEnvironment
	refused *prometheus.CounterVec // code
	append  prometheus.Histogram
}

// perEnvironment holds a counter for each, looked up once.
type perEnvironment [2]prometheus.Counter

func (p *perEnvironment) of(e event.Environment) prometheus.Counter { return p[e-event.Sandbox] }

func newMetrics(r prometheus.Registerer, i *Ingest) *metrics {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_ingest_events_total", Help: "Events that the log has acknowledged."}, []string{"environment"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_ingest_bytes_total", Help: "Bytes of the records of events that the log has acknowledged."}, []string{"environment"})
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_ingest_refused_total", Help: "Requests to publish that were refused, by code."}, []string{"code"}),
		append: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_ingest_append_seconds", Help: "Time until the log acknowledged a request's events, or didn't.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2, 5}}),
	}
	for _, e := range event.Environments {
		m.events[e-event.Sandbox] = events.WithLabelValues(e.String())
		m.bytes[e-event.Sandbox] = bytes.WithLabelValues(e.String())
	}
	for _, code := range []dialect.Code{dialect.BadRequest, dialect.Forbidden, dialect.Conflict, dialect.TooLarge, dialect.Unsupported, dialect.Unavailable} {
		m.refused.WithLabelValues(string(code))
	}
	if r != nil {
		r.MustRegister(events, bytes, m.refused, m.append, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_ingest_in_flight_bytes", Help: "Bytes of records that wait for the log."},
			func() float64 { return float64(i.inFlight.Load()) }))
	}
	return m
}

// taken counts the events among records that are in the log.
func (m *metrics) taken(records []eventlog.Record) {
	for _, e := range event.Environments {
		events, bytes, topic := 0, 0, e.Topic()
		for n := range records {
			if records[n].Topic == topic {
				events, bytes = events+1, bytes+len(records[n].Value)
			}
		}
		if events > 0 {
			m.events.of(e).Add(float64(events))
			m.bytes.of(e).Add(float64(bytes))
		}
	}
}
