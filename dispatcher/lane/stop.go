package lane

import (
	"slices"
	"time"
)

// wind ends a lane's life in order: nothing new is begun; attempts under way may
// end for a while and are then cut off, counting for nothing; what is known by
// then is appended, and a last snapshot.
//
//	wait for attempts ──► cut off ──► append ──► snapshot ──► durable
func (l *Lane) wind() error {
	l.winding = true
	if l.fanOut.stop != nil {
		l.fanOut.stop()
	}
	patience := time.NewTimer(l.cfg.Drain)
	defer patience.Stop()
	for l.inflight > 0 {
		l.write(l.cfg.Clock.now())
		select {
		case j := <-l.workers.ended:
			if err := l.lastOutcome(j); err != nil {
				return err
			}
		case g := <-l.journal.written:
			if err := l.durable(g); err != nil {
				return err
			}
		case err := <-l.failures:
			return err
		case <-patience.C:
			l.workers.cut()
		}
	}
	l.workers.cut()
	if l.fanOut.done != nil {
		select {
		case <-l.fanOut.done: // its place is the last then
		case err := <-l.failures: // it may be its own, from before it was stopped
			return err
		}
	}
	l.dirty = true
	for final := false; ; {
		if !l.journal.writing && len(l.journal.next.records) == 0 {
			if final {
				return nil
			}
			final, l.snapshot = true, time.Time{}
		} else if !final {
			l.snapshot = l.cfg.Clock.now().Add(time.Hour) // not before all is durable
		}
		l.write(l.cfg.Clock.now())
		select {
		case g := <-l.journal.written:
			if err := l.durable(g); err != nil {
				return err
			}
			l.dirty = !final
		case err := <-l.failures:
			return err
		}
	}
}

// lastOutcome handles an attempt that ended while the lane winds up. What waits
// in memory stays where it is in the log.
func (l *Lane) lastOutcome(j *job) error {
	t := j.target
	for _, waiting := range slices.Concat(t.queue.jobs, t.retries.jobs) {
		l.unqueued(waiting)
	}
	t.queue.jobs, t.retries.jobs = nil, nil
	return l.ended(j)
}
