package web

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of calls. Routes are labelled by their pattern, all else as unrouted,
// so that no client can make new labels.
type metrics struct {
	requests *prometheus.CounterVec   // route, status
	seconds  *prometheus.HistogramVec // route
	crowded  prometheus.Counter
}

const unrouted = "none"

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_http_requests_total", Help: "HTTP requests answered."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_http_request_seconds", Help: "Time from a request's last byte to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"route"}),
		crowded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_http_connections_refused_total", Help: "Connections closed at once because their address had too many."}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.crowded)
	}
	return m
}

func statusLabel(status int) string { return strconv.Itoa(status) }
