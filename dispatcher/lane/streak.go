package lane

import (
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
)

// streak is the failures of an endpoint since its last success, counted at the
// pace of its schedule: after a counted failure, more failures within the next
// delay of the schedule are the same failure. So a restart of a busy receiver is
// one failure, and a dead one collects them as slowly as one delivery would.
//
//	failures   x xx x    x x x  xxx        x          schedule 0 5s 30s …
//	counted    1         2                 3
//	           └── 5s ──┘└───── 30s ──────┘
//
// Folding an outcome twice, or one that an older one overtook, changes nothing:
// a new owner may read again what a snapshot already knows.
type streak struct {
	epoch   uint64 // outcomes of others count for nothing
	count   int
	first   time.Time // when the first attempt of them began
	last    time.Time // when the last counted one ended, by Clock
	refused bool      // it answered 410: enough at once
	spent   bool      // a delivery ran out of attempts within it, and that is enough
}

// pace is how long a counted failure lasts: until the retry that it brings.
func pace(w *dialect.Webhook, count int) time.Duration {
	if w == nil || len(w.Schedule) == 0 {
		return 0
	}
	return w.Schedule[min(count, len(w.Schedule)-1)]
}

// fold counts an outcome. A new owner knows its end by the wall clock only.
func (s *streak) fold(o *delivery.Outcome, ended time.Time, w *dialect.Webhook) {
	switch {
	case o.Epoch != s.epoch:
	case o.OK():
		if !s.refused && !s.spent && !ended.Before(s.last) {
			*s = streak{epoch: s.epoch}
		}
	case s.count > 0 && ended.Before(s.last.Add(pace(w, s.count))):
		s.refused = s.refused || o.Status == statusGone
	default:
		if s.count == 0 {
			s.first = o.Started
		}
		s.count++
		s.last = ended
		s.refused = s.refused || o.Status == statusGone
	}
}

// spend notes that a delivery ran out of attempts. It is enough where the dialect
// says so, unless something succeeded since its first failure, or that lies in
// another epoch: then the streak began later.
func (s *streak) spend(hop *delivery.Delivery, w *dialect.Webhook) {
	if w.DisableExhausted && hop.Outcome.Epoch == s.epoch && s.count > 0 && !hop.FirstFail.Before(s.first) {
		s.spent = true
	}
}

// spentIn gives the epoch in which a delivery ran out of attempts; 0: none did.
func (s *streak) spentIn() uint64 {
	if s.spent {
		return s.epoch
	}
	return 0
}

// enough reports whether the endpoint is to be disabled.
func (s *streak) enough(w *dialect.Webhook) bool {
	return s.refused || s.spent || w != nil && w.DisableAfter > 0 && s.count >= w.DisableAfter
}

const (
	statusGone        = 410
	statusTooMany     = 429
	statusUnavailable = 503
)
