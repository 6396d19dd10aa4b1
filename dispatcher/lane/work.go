package lane

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
)

// workers make the attempts. There are as many as were ever needed at once, and who
// ended one last gets the next: its memory is at hand, and what a burst needed more
// of lies still.
type workers struct {
	all   []chan<- *job      // each holds one
	idle  []chan<- *job      // of them
	ended chan *job          // holds as many as may be under way: nobody waits for the lane
	cut   context.CancelFunc // ends the attempts under way
	ctx   context.Context
}

// result is what a worker found out; ep and hook are what it was given.
type result struct {
	ep      *endpoint.Endpoint
	hook    *dialect.Webhook
	outcome delivery.Outcome
	wire    delivery.Exchange // until it is in the journal
	ended   time.Time         // by Clock
	kept    time.Duration     // how long it kept a worker
	cut     bool              // it counts for nothing
	silent  bool              // it wasn't made: the lane may be another's
	unmade  bool              // it couldn't be made, by nobody's fault but ours
	fatal   string            // why it can never be sent
}

func (w *workers) init(life context.Context, cfg *Config) {
	w.ended = make(chan *job, cfg.PerLane)
	w.ctx, w.cut = context.WithCancel(life)
}

// end has the workers end, once nothing is given to them any more.
func (w *workers) end() {
	for _, begin := range w.all {
		close(begin)
	}
}

// start gives a delivery to a worker.
func (l *Lane) start(j *job) {
	l.occupy(j, l.cfg.Clock.now())
	j.result = result{ep: j.target.ep, hook: j.target.hook}
	w := &l.workers
	if n := len(w.idle); n > 0 {
		j.worker = w.idle[n-1]
		w.idle = w.idle[:n-1]
	} else {
		begin := make(chan *job, 1)
		j.worker = begin
		w.all = append(w.all, begin)
		l.run(func(life context.Context) { l.work(life, begin) })
	}
	j.worker <- j
}

// work makes attempts until the lane's life ends.
func (l *Lane) work(life context.Context, begin <-chan *job) {
	var r attempt.Request
	for j := range begin {
		if life.Err() != nil {
			return
		}
		l.attempt(&r, j)
		l.workers.ended <- j
	}
}

// attempt makes one attempt. A mistake of ours, on this delivery, ends this
// delivery and no other.
func (l *Lane) attempt(r *attempt.Request, j *job) {
	res := &j.result
	defer func() {
		if p := recover(); p != nil {
			res.fatal = fmt.Sprintf("our mistake: %v", p)
			l.log.Error("attempt panicked", "delivery", j.delivery.ID, "error", p, "stack", string(debug.Stack()))
			*r = attempt.Request{}
		}
	}()
	d := j.delivery
	if d.Reference {
		if err := l.fetch(j); err != nil {
			res.cut = true
			if errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, ErrGone) {
				res.cut, res.fatal = false, "its event isn't kept any more"
			} else if l.workers.ctx.Err() == nil {
				l.fail(fmt.Errorf("read event %s at %d: %w", d.Event.ID, d.Event.Offset, err))
			}
			return
		}
	}
	now, began := l.cfg.Clock.wall(), l.cfg.Clock.now()
	attempt.Build(r, res.hook, d, res.ep, d.Attempts+1, now)
	if d.Reference {
		d.Refer() // what is as large isn't kept while the receiver takes its time
	}
	if res.silent = !l.ours(); res.silent {
		return
	}
	outcome, err := l.cfg.Sender.Send(l.workers.ctx, r)
	if res.unmade = errors.Is(err, attempt.ErrNotMade); res.unmade {
		return
	}
	res.cut = err != nil
	outcome.Epoch = res.ep.Epoch
	// Not what it took from when it began: the sender begins later than we know.
	res.ended = l.cfg.Clock.now()
	res.kept = res.ended.Sub(began)
	if outcome.Started.IsZero() {
		outcome.Started, outcome.Took = now, res.kept
	}
	outcome.Started = outcome.Started.Round(0).UTC()
	res.outcome, res.wire = outcome, r.Exchange
}

// ErrGone says that the log doesn't keep the event any more.
var ErrGone = errors.New("event isn't kept any more")

// fetch gives a delivery its event's data. What may travel along does from here on:
// what is tried for days mustn't depend on how long its event is kept.
func (l *Lane) fetch(j *job) error {
	d := j.delivery
	ev, err := l.cfg.Events.Event(l.workers.ctx, d.Event.Environment, d.Event.Offset)
	if err != nil {
		return err
	}
	if ev.ID != d.Event.ID {
		return fmt.Errorf("%w: another lies in its place", ErrGone)
	}
	if d.Carry(ev.Data); !d.Reference {
		j.bytes += len(ev.Data)
	}
	return nil
}
