package lane

import (
	"fmt"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
	"sluice/pkg/notice"
)

// noticed is what a lane has said of an endpoint, in this life, to whoever tells
// its org.
type noticed struct {
	failing bool
	at      time.Time // when it said so last
}

// noticeEvery is how often a lane says of an endpoint that it fails: one that
// does so now and then would fill the topic.
const noticeEvery = time.Hour

// notice says that an endpoint has begun to fail, with the outcome that it was
// seen by (nil: the life before saw it), or that one of which it was said has
// recovered. It goes with the journal: after a crash the next life says it again.
func (l *Lane) notice(t *target, o *delivery.Outcome) {
	n := &t.noticed
	fails := t.failing() && t.ep.Status == endpoint.Active
	if fails == n.failing || t.gone {
		return
	}
	if !fails {
		n.failing = false
		l.say(notice.Recovered(t.id))
		return
	}
	now := l.cfg.Clock.now()
	if !n.at.IsZero() && now.Before(n.at.Add(noticeEvery)) {
		return
	}
	*n = noticed{failing: true, at: now}
	reason := "seen before its lane moved to this process"
	if o != nil {
		reason = string(o.Class)
		if o.Status != 0 {
			reason = fmt.Sprintf("%s, status %d", o.Class, o.Status)
		}
	}
	l.say(notice.Failing(t.id, t.streak.epoch, t.streak.first, reason))
}

func (l *Lane) say(r eventlog.Record) {
	l.journal.next.records = append(l.journal.next.records, r)
	l.journal.bytes += len(r.Key) + len(r.Value)
}
