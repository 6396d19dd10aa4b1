package notice

import "github.com/prometheus/client_golang/prometheus"

// outcome is what became of a notice.
type outcome string

const (
	outcomeMailed  outcome = "mailed"
	outcomeLogged  outcome = "logged"  // no --smtp, or an org without an address
	outcomeDropped outcome = "dropped" // the server refused the mail, or was tried for too long
	outcomeMoot    outcome = "moot"    // it recovered, or was deleted, before a mail said so
)

type metrics struct {
	notices *prometheus.CounterVec // by what they are about and outcome
	sent    prometheus.Counter
	failed  prometheus.Counter
	dropped prometheus.Counter
	events  prometheus.Counter
	waiting prometheus.Gauge
	late    prometheus.Gauge
	skipped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	mails := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_mails_total",
		Help: "Mails that the SMTP server took (sent), attempts at them that failed (failed), and mails that were given up (dropped)."}, []string{"outcome"})
	m := &metrics{
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_notices_total",
			Help: "What orgs were to be told of their endpoints, and how that ended."}, []string{"about", "outcome"}),
		sent: mails.WithLabelValues("sent"), failed: mails.WithLabelValues("failed"), dropped: mails.WithLabelValues("dropped"),
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_notice_events_total",
			Help: "Events endpoint.disabled that were published, or were found to be."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_notices_waiting", Help: "Notices that wait for their mail."}),
		late: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_notices_late_seconds",
			Help: "How long the mail has been due that is most overdue."}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_notice_records_skipped_total",
			Help: "Records of notices that can't be read and were passed over."}),
	}
	for _, a := range []about{disabled, failing, missed} {
		for _, o := range []outcome{outcomeMailed, outcomeLogged, outcomeDropped, outcomeMoot} {
			m.notices.WithLabelValues(string(a), string(o))
		}
	}
	if reg != nil {
		reg.MustRegister(mails, m.notices, m.events, m.waiting, m.late, m.skipped)
	}
	return m
}

func (m *metrics) ended(a about, o outcome) { m.notices.WithLabelValues(string(a), string(o)).Inc() }
