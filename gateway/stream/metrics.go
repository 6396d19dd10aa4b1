package stream

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/event"
)

// metrics of streams. Their labels are of few values, all known here.
type metrics struct {
	connections *prometheus.GaugeVec // state
	sent        prometheus.Counter
	dropped     prometheus.Counter
	behind      prometheus.Gauge
	deflated    *prometheus.CounterVec // size
	endings     *prometheus.CounterVec // ending, code
	replays     *prometheus.CounterVec // result
	resumes     *prometheus.CounterVec // source
	waiting     prometheus.Gauge
	poisoned    *prometheus.CounterVec // environment
	doubles     prometheus.Counter
	refused     *prometheus.CounterVec // reason
	position    *prometheus.GaugeVec   // environment
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_stream_connections", Help: "Open connections of streams."}, []string{"state"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_stream_events_sent_total", Help: "Events written to connections."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_stream_events_dropped_total", Help: "Events that connections lost because they didn't keep up."}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_stream_behind", Help: "Connections that read on from the log, because they lose nothing and didn't keep up, or have just resumed."}),
		deflated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_deflated_bytes_total", Help: "Bytes of events that were compressed, each once for all connections, before and after."}, []string{"size"}),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_endings_total", Help: "Connections ended, by ending and close code."}, []string{"ending", "code"}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_replays_total", Help: "Subscribes with a cursor, by what came of them."}, []string{"result"}),
		resumes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_resumes_total", Help: "Subscribes with a good cursor, by what has the events behind it."}, []string{"source"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_stream_replays_waiting", Help: "Connections that wait for their turn to read the past."}),
		poisoned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_records_poisoned_total", Help: "Records that are no event and were passed over."}, []string{"environment"}),
		doubles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_stream_doubles_total", Help: "Copies of events in the log that were passed over."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_stream_refused_total", Help: "Upgrades and subscribes that were refused."}, []string{"reason"}),
	}
	m.position = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_stream_position", Help: "Offset behind the newest event handed to connections."}, []string{"environment"})
	for i := range endings {
		m.endings.WithLabelValues(endings[i].Name, endings[i].code())
	}
	if r != nil {
		r.MustRegister(m.connections, m.sent, m.dropped, m.behind, m.deflated, m.endings, m.replays, m.resumes, m.waiting, m.poisoned, m.doubles, m.refused, m.position)
	}
	return m
}

// source says what has the events from a cursor's place to where the stream stands:
// nothing, for there are none, the window, or only the log.
func (h *Hub) source(env event.Environment, from, stands int64) string {
	if from >= stands {
		return "none"
	}
	if w := h.cfg.Windows[env]; w != nil {
		if start, _ := w.Bounds(); from >= start {
			return "window"
		}
	}
	return "log"
}

// The states of connections.
const (
	stateUnauth = "unauthenticated"
	stateAuth   = "authenticated"
)
