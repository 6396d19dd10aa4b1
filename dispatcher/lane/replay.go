package lane

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
)

// cursor is the place of a replay among the events of its endpoint's environment,
// or among dead letters. Nothing is copied for it: what it comes to is sent from
// here, and only what fails gets a record of its own, in a tier. In the journal a
// replay's id stands for the topic.
//
//	from         next        order            ready         read          end
//	 ▼            ▼            ▼                ▼             ▼             ▼
//	─┬─ finished ─┬──u──d──u──d──┬──r───r──r────┬─ not looked at yet ───────┬─
//	               u under way, d finished, r wanted, and waits for room
//
// So a kill repeats what was under way. An endpoint's replays run one after the
// other.
type cursor struct {
	replay *control.Replay // as control has it
	target *target

	from, end int64              // of dead letters -1, until they were looked up
	read      int64              // what lies below was looked at
	order     []fed              // begun and not finished, or above one that isn't
	done      map[int64]struct{} // finished from next on, as the snapshot or the journal said
	count     control.Progress   // but for Done and Total
	passed    []passed           // of what is counted as expired, what may be looked at again
	unread    string             // what a later release's snapshot says of it

	ready    []*job
	bytes    int // of them
	inflight int
	begun    map[int64]struct{} // events of dead letters, in this life

	told    control.Progress // control knows that much
	tell    time.Time        // not before
	telling bool             // the command is under way
}

// passed is what was too old to be sent: so many records from a place on.
type passed struct{ at, n int64 }

// The bounds of replays beside live deliveries.
const (
	replayChunk  = 256 << 10 // of the log, read at a time for one replay
	replayChunks = 64        // in one turn, while none has anything that it wants
	replayBytes  = 8 << 20   // that wait for room, of all replays of a lane
	replayBegun  = 64 << 10  // events of dead letters that one replay remembers
)

// replays are those of a lane that have a cursor.
type replays struct {
	running  []*cursor    // those that were served least lately come first
	inflight [classes]int // by class: those that hang keep none from those that are quick
	kept     [classes]int // for those that read first, but no more than half
	bytes    int
	reading  bool // one chunk at a time
}

// served puts one that had its turn behind all others.
func (r *replays) served(c *cursor) {
	i := slices.Index(r.running, c)
	r.running = append(slices.Delete(r.running, i, i+1), c)
}

// syncReplay brings what the lane knows of an endpoint's replays up to control's
// state.
func (l *Lane) syncReplay(t *target) {
	if c := t.replay; c != nil {
		r := l.cfg.Control.Replay(t.id, c.replay.ID)
		switch {
		case r == nil, r.Ended() && !r.Cancelled:
			l.dropCursor(c)
		case r.Cancelled && !c.replay.Cancelled:
			c.replay = r
			l.rewind(c) // what is under way ends, and is counted
		}
	}
	if t.replay != nil {
		return
	}
	for _, r := range l.cfg.Control.Replays(t.id) {
		if !r.Ended() {
			l.addCursor(t, newCursor(r))
			l.log.Info("replay begins", "replay", r.ID, "endpoint", t.id, "from", r.From, "to", r.To)
			return
		}
	}
}

func newCursor(r *control.Replay) *cursor {
	c := &cursor{replay: r, from: r.From, end: r.To, read: r.From, done: make(map[int64]struct{})}
	c.count.Expired = r.Expired
	c.told = r.Progress
	if r.FailedOnly {
		c.from, c.end, c.read = -1, -1, -1
	}
	return c
}

func (l *Lane) addCursor(t *target, c *cursor) {
	c.target, t.replay = t, c
	l.replays.running = append(l.replays.running, c)
	l.dirty = true
}

func (l *Lane) dropCursor(c *cursor) {
	l.rewind(c)
	c.target.replay = nil
	l.replays.running = slices.DeleteFunc(l.replays.running, func(o *cursor) bool { return o == c })
	l.dirty = true
}

const reasonCancelled = "its replay was cancelled"

// cancelled reports whether the delivery is of a replay that was cancelled. It is
// asked where a delivery comes in, and again where it would go out.
func (l *Lane) cancelled(d *delivery.Delivery) bool {
	id := d.Replay()
	if id == "" {
		return false
	}
	r := l.cfg.Control.Replay(d.Endpoint, id)
	return r != nil && r.Cancelled
}

// rewind gives up what waits for room: it is read again.
func (l *Lane) rewind(c *cursor) {
	if len(c.ready) > 0 {
		c.read = c.ready[0].offset
		c.count.Expired -= c.expiredFrom(c.read)
		c.passed = slices.DeleteFunc(c.passed, func(p passed) bool { return p.at >= c.read })
	}
	l.replays.bytes -= c.bytes
	c.ready, c.bytes = nil, 0
}

// next is the place below which all is finished.
func (c *cursor) next() int64 {
	switch {
	case len(c.order) > 0:
		return c.order[0].offset
	case len(c.ready) > 0:
		return c.ready[0].offset
	}
	return c.read
}

// finish notes that nothing more follows from what lies at the job's offset, and
// what came of it.
func (c *cursor) finish(j *job) {
	if o := &j.result; !j.target.gone && (o.outcome.Class != "" || o.fatal != "" || o.unmade) {
		c.add(o.fatal == "" && o.outcome.OK())
	}
	for i := range c.order {
		if c.order[i].offset == j.offset {
			c.order[i].done = true
			break
		}
	}
	n := 0
	for n < len(c.order) && c.order[n].done {
		n++
	}
	c.order = c.order[n:]
}

// first reports whether the event of a dead letter wasn't begun before: one that was
// sent again when its endpoint was enabled may have died twice. Where that is
// forgotten its delivery has the same id, at least.
func (c *cursor) first(event int64) bool {
	if _, before := c.begun[event]; before {
		return false
	}
	if c.begun == nil || len(c.begun) >= replayBegun {
		c.begun = make(map[int64]struct{})
	}
	c.begun[event] = struct{}{}
	return true
}

// expire counts what is too old to be sent, but for what was finished before it was.
func (c *cursor) expire(p passed) {
	n := p.n
	for at := range c.done {
		if p.at <= at && at < p.at+p.n {
			n--
		}
	}
	c.count.Expired += n
	c.passed = append(c.passed, passed{p.at, n})
}

// expiredFrom is how much of what is counted as expired lies at a place or above:
// whoever goes on from there counts it again.
func (c *cursor) expiredFrom(place int64) (n int64) {
	for _, p := range c.passed {
		if p.at >= place {
			n += p.n
		}
	}
	return n
}

func (c *cursor) add(delivered bool) {
	if delivered {
		c.count.Delivered++
	} else {
		c.count.Failed++
	}
}

// progress is what there is to tell.
func (c *cursor) progress() control.Progress {
	p := c.count
	if c.end >= 0 {
		p.Done, p.Total = c.next()-c.from, c.end-c.from
	}
	return p
}

// over reports whether all that was to be sent is sent, and finished.
func (c *cursor) over() bool {
	all := c.replay.Cancelled || c.end >= 0 && c.read >= c.end && len(c.ready) == 0
	return all && len(c.order) == 0
}

// advanceReplays gives replays what room there is that nobody else wants.
func (l *Lane) advanceReplays(now time.Time) {
	r := &l.replays
	r.kept = [classes]int{}
	var reads *cursor // the first that could send something, and has nothing ready
	for i := 0; i < len(r.running); {
		c := r.running[i]
		if !c.target.open() || c.target.spent() {
			l.rewind(c)
		}
		if l.sendReplay(c, now) {
			r.served(c) // one request in a turn
			continue
		}
		i++
		if len(c.ready) == 0 && (c.end < 0 || c.read < c.end) && l.mayReplay(c, now) {
			if of := c.target.class(false); r.kept[of] < (l.mostReplayed()+1)/2 {
				r.kept[of]++
			}
			if reads == nil {
				reads = c
			}
		}
		l.tellReplay(c, now)
	}
	if reads != nil && !r.reading {
		l.readReplay(reads)
	}
}

// mostReplayed is how many requests of replays may be under way, of a class.
func (l *Lane) mostReplayed() int { return max(1, l.cfg.PerLane/16) }

// sendReplay sends the next of what is ready, if there is room for it.
func (l *Lane) sendReplay(c *cursor, now time.Time) (sent bool) {
	for len(c.ready) > 0 && l.mayReplay(c, now) {
		j := c.ready[0]
		if !l.afford(j) {
			return false
		}
		c.ready[0] = nil
		c.ready = c.ready[1:]
		c.bytes -= j.bytes
		l.replays.bytes -= j.bytes
		c.order = append(c.order, fed{offset: j.offset})
		if c.replay.FailedOnly && !c.first(j.delivery.Event.Offset) {
			l.refund(j)
			c.finish(j)
			continue
		}
		l.cfg.Metrics.replayed.Inc()
		c.target.began(now)
		l.start(j)
		return true
	}
	return false
}

// mayReplay reports whether the endpoint has room that no delivery wants which it is
// owed: such a one finds half of the endpoint's room, and nearly all of its org's and
// of the lane's, as if there were no replay.
func (l *Lane) mayReplay(c *cursor, now time.Time) bool {
	t := c.target
	of := t.class(false)
	switch {
	case c.replay.Cancelled, !t.open(), t.spent(), t.behind(), t.waiting() > 0, l.journal.bytes >= busy/2:
		return false
	case l.cfg.Log.Scarce():
		l.setAlarm(t, now.Add(tryAgain)) // nobody tells when there is room
		return false
	case l.replays.inflight[of]+l.replays.kept[of] >= l.mostReplayed(), len(t.org.waiting[of]) > 0, !l.room(t, false):
		return false
	case t.ep.Options.RatePerSecond > 0 && now.Before(t.next):
		l.setAlarm(t, t.next)
		return false
	case t.failing():
		return t.mayProbe(now)
	}
	limit := l.limit(t, false)
	if t.ep.Options.Ordered {
		limit = 1
	}
	return t.inflight < limit && c.inflight < max(1, limit/2)
}

// The pace at which control is told: it keeps every word for good. So a replay's
// progress is old by a twentieth of the time that it has run, at most.
const (
	tellEvery = time.Second
	tellPart  = 20
)

// tellReplay has control know how far a replay is.
func (l *Lane) tellReplay(c *cursor, now time.Time) {
	p, over := c.progress(), c.over()
	if c.telling || !over && (p == c.told || now.Before(c.tell)) {
		return
	}
	c.telling = true
	cmd := &control.ReplayProgress{Endpoint: c.target.id, Replay: c.replay.ID, Progress: p, Ended: over && !c.replay.Cancelled}
	done := command{target: c.target, cursor: c, told: p, over: over}
	l.run(func(ctx context.Context) { l.command(ctx, cmd, done) })
}

// toldReplay goes on after control was told.
func (l *Lane) toldReplay(done command) {
	c := done.cursor
	c.telling = false
	if done.err != nil || c.target.replay != c {
		return
	}
	now := l.cfg.Clock.now()
	c.told, c.tell = done.told, now.Add(max(tellEvery, now.Sub(c.replay.CreatedAt)/tellPart))
	if done.over {
		p := done.told
		l.log.Info("replay ended", "replay", c.replay.ID, "endpoint", c.target.id, "cancelled", c.replay.Cancelled,
			"delivered", p.Delivered, "failed", p.Failed, "expired", p.Expired)
		l.dropCursor(c)
	}
	l.syncReplay(c.target)
}

// untilTold gives the time at which a replay has something to tell; zero: none has.
func (l *Lane) untilTold() (at time.Time) {
	for _, c := range l.replays.running {
		if !c.telling && c.progress() != c.told && (at.IsZero() || c.tell.Before(at)) {
			at = c.tell
		}
	}
	return at
}

// resume goes on with a replay that a snapshot tells of, unless it has ended.
func (l *Lane) resume(c *cursor) {
	t, r := l.targets[c.replay.Endpoint], l.cfg.Control.Replay(c.replay.Endpoint, c.replay.ID)
	if t == nil || t.replay != nil || r == nil || r.Ended() && !r.Cancelled {
		return
	}
	c.replay, c.told = r, r.Progress
	l.addCursor(t, c)
}

// replayed notes, before anything is sent, that the journal has finished what a
// replay sent. One behind another began when that was over, whatever the snapshot
// says.
func (l *Lane) replayed(t *target, o *origin) {
	if t.replay == nil || t.replay.replay.ID != o.Topic {
		r := l.cfg.Control.Replay(t.id, o.Topic)
		if r == nil || r.Ended() {
			return
		}
		if t.replay != nil {
			l.dropCursor(t.replay)
		}
		l.addCursor(t, newCursor(r))
	}
	c := t.replay
	if _, done := c.done[o.Offset]; done || o.Offset < c.read {
		return
	}
	c.done[o.Offset] = struct{}{}
	c.add(o.delivered)
}

// places are a cursor's, to be put in terms of another log.
type places struct {
	*cursor
	above []int64 // what done has
}

func (c *cursor) places() *places { return &places{c, slices.Collect(maps.Keys(c.done))} }

// places lists those of the replays of dead letters that have begun, or those of
// events.
func (r *replays) places(dead bool) (all []*places) {
	for _, c := range r.running {
		if c.replay.FailedOnly == dead && c.end >= 0 {
			all = append(all, c.places())
		}
	}
	return all
}

func (p *places) all() []*int64 {
	all := []*int64{&p.from, &p.end, &p.read}
	for i := range p.above {
		all = append(all, &p.above[i])
	}
	return all
}

func (p *places) settle() {
	clear(p.done)
	for _, offset := range p.above {
		p.done[offset] = struct{}{}
	}
}

// append adds what a snapshot has of a replay.
func (c *cursor) append(b []byte) []byte {
	b = appendText(appendText(b, c.replay.ID), c.replay.Endpoint)
	next := c.next()
	c.passed = slices.DeleteFunc(c.passed, func(p passed) bool { return p.at < next })
	for _, n := range []int64{c.from, c.end, next, c.count.Delivered, c.count.Failed, c.count.Expired - c.expiredFrom(next)} {
		b = binary.AppendVarint(b, n)
	}
	for _, f := range c.order {
		if f.done {
			c.done[f.offset] = struct{}{} // where it is needed anyway
		}
	}
	maps.DeleteFunc(c.done, func(offset int64, _ struct{}) bool { return offset < next })
	b = binary.AppendUvarint(b, uint64(len(c.done)))
	for offset := range c.done {
		b = binary.AppendVarint(b, offset-next)
	}
	return append(b, c.unread...)
}

// readCursor reads what append wrote. Of its replay no more is known yet than whose
// it is.
func readCursor(d *decoder) *cursor {
	c := &cursor{done: make(map[int64]struct{})}
	c.replay = &control.Replay{ID: d.text(), Endpoint: d.text()}
	c.from, c.end, c.read = d.varint(), d.varint(), d.varint()
	c.count.Delivered, c.count.Failed, c.count.Expired = d.varint(), d.varint(), d.varint()
	for range d.count() {
		if c.done[c.read+d.varint()] = struct{}{}; d.err != nil {
			break
		}
	}
	c.unread = string(d.rest)
	return c
}
