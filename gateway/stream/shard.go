package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/stream/epoll"
	"sluice/pkg/event"
)

// shard owns a part of the connections. Only who is the shard touches their
// subscriptions and their index: its goroutine, or, where that has nothing to do, who
// calls. Whoever else wants something of it posts.
type shard struct {
	hub     *Hub
	inbox   inbox
	rooms   map[event.Environment]*room
	conns   []*conn
	bearers map[string]*bearers // by their key

	works   []work        // being done
	news    []news        // being handed out
	dirty   []*conn       // with events queued since the last flush
	since   bounds        // events delivered since
	most    bounds        // of these: no queue of a client that keeps up overflows
	flushed time.Duration // when that was, as hub.now
	clock   int64         // Unix milliseconds, not long ago
	lag     lag           // of what was written

	batch  batch // what taken connections write from
	writer epoll.Writer

	pollOnce sync.Once
	poll     *epoll.Poller // of its taken connections; nil: none are; see poller
}

func newShard(h *Hub) *shard {
	s := &shard{hub: h, rooms: make(map[event.Environment]*room), bearers: make(map[string]*bearers)}
	for _, env := range event.Environments {
		s.rooms[env] = newRoom()
	}
	s.inbox.init(h.limits.InboxBytes)
	s.most = bounds{min(batchFrames, h.limits.QueueEvents), min(batchBytes, h.limits.QueueBytes)}
	return s
}

// run does what waits whenever no caller does (call), until the inbox is closed and
// empty.
func (s *shard) run() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	later := time.NewTimer(0)
	defer later.Stop()
	for {
		if s.inbox.enter(true) {
			wait, open := s.turn()
			s.inbox.leave(false)
			if !open {
				return
			}
			if wait > 0 {
				later.Reset(wait)
			}
		}
		select {
		case <-s.inbox.wake:
		case <-later.C:
		case <-tick.C:
			s.inbox.post(work{fn: func() { s.tick(s.hub.now()) }})
		}
	}
}

// turn does what waits. wait is for how long events are to wait for others yet.
func (s *shard) turn() (wait time.Duration, open bool) {
	s.works, open = s.inbox.take(s.works[:0])
	for i := range s.works {
		s.deliver()
		s.do(&s.works[i])
		s.works[i] = workNone
	}
	s.deliver()
	if wait = s.coalesce(); wait > 0 && open {
		return wait, open
	}
	if len(s.dirty) > 0 {
		s.flush()
	}
	return 0, open
}

// coalesce is for how long events wait for others, to be written with them: until
// so much time has passed since the last were. After a pause nobody waits.
func (s *shard) coalesce() time.Duration {
	if s.hub.cfg.Coalesce == 0 || len(s.dirty) == 0 {
		return 0
	}
	return s.flushed + s.hub.cfg.Coalesce - s.hub.now()
}

// deliver hands out the events that came. They go before all else that waits:
// however many come and go, who is there gets its events.
func (s *shard) deliver() {
	if !s.inbox.news.Load() {
		return
	}
	s.news = s.inbox.takeNews(s.news[:0])
	for i := range s.news {
		n := &s.news[i]
		r := s.rooms[n.env]
		for _, e := range n.entries {
			r.deliver(e)
			s.since.events++
			s.since.bytes += len(e.ev.Data)
			if s.since.events >= s.most.events || s.since.bytes >= s.most.bytes {
				s.flush()
			}
		}
		r.next = n.next
		*n = news{}
	}
	if len(s.dirty) > 0 && s.coalesce() <= 0 {
		s.flush()
	}
}

func (s *shard) do(w *work) {
	if w.fn != nil {
		w.fn()
		return
	}
	w.flush.posted.Store(false)
	s.clock = time.Now().UnixMilli()
	w.flush.flush()
}

// clockEvery is for how many writes in a row one look at the clock does.
const clockEvery = 64

// flush has what was delivered written: all that one connection got with one
// write, as far as it takes it.
func (s *shard) flush() {
	for i, c := range s.dirty {
		if i%clockEvery == 0 {
			s.clock = time.Now().UnixMilli()
		}
		c.dirty = false
		c.carrier.flush()
		s.dirty[i] = nil
	}
	s.dirty, s.since, s.flushed = s.dirty[:0], bounds{}, s.hub.now()
}

// call has the shard run fn and do what comes of it, and waits until it has run fn;
// false: the shard has stopped. A shard that has nothing to do needn't be woken for
// that, which would cost as much as what is called: its caller is the shard meanwhile.
// Who calls holds no lock.
func (s *shard) call(fn func()) bool {
	if s.inbox.enter(false) {
		s.be(work{fn: fn})
		return true
	}
	ran := make(chan struct{})
	if !s.inbox.post(work{fn: func() { fn(); close(ran) }}) {
		return false
	}
	<-ran // a closed inbox is still worked off
	return true
}

// perform is call where nobody waits: the shard's goroutine does it, or its caller.
func (s *shard) perform(w work) {
	if !s.inbox.enter(false) {
		s.inbox.post(w)
		return
	}
	s.be(w)
}

// be has who has entered be the shard for that work and what comes of it.
func (s *shard) be(w work) {
	s.do(&w)
	s.turn()
	s.inbox.leave(len(s.dirty) > 0)
}

// poller is made for the first connection; nil: there is none on this system.
func (s *shard) poller() *epoll.Poller {
	s.pollOnce.Do(func() {
		var err error
		if s.poll, err = epoll.New(); err != nil {
			s.hub.cfg.Logger.Warn("connections are served by goroutines of their own, which costs more memory", "error", err)
		}
	})
	return s.poll
}

// add makes the connection one of the shard's.
func (s *shard) add(c *conn) {
	c.inShard = int32(len(s.conns))
	s.conns = append(s.conns, c)
	if c.joins != nil {
		c.joins()
		c.joins = nil
	}
}

// remove forgets the connection.
func (s *shard) remove(c *conn) {
	if c.environment != 0 {
		s.rooms[c.environment].remove(c)
	}
	s.bear(c, "")
	if c.reading != nil {
		s.hub.metrics.behind.Dec()
	}
	last := int32(len(s.conns)) - 1
	s.conns[c.inShard] = s.conns[last]
	s.conns[c.inShard].inShard = c.inShard
	s.conns[last] = nil
	s.conns = s.conns[:last]
}

// news is events of one environment, for a shard.
type news struct {
	env     event.Environment
	entries []*entry
	next    int64 // offset behind them
	bytes   int
}

// work is something else that a shard is to do.
type work struct {
	fn    func()
	flush *taken
}

var workNone work

// inbox is what waits for a shard. Events are bounded in bytes; who brings more
// waits. What else is posted isn't: each connection has two things there at most.
type inbox struct {
	wake chan struct{} // holds one
	news atomic.Bool   // there are events

	mu     sync.Mutex
	room   sync.Cond
	events []news
	bytes  int // of events
	bound  int
	work   []work
	inside bool // somebody is the shard
	closed bool
}

func (in *inbox) init(bound int) {
	in.wake = make(chan struct{}, 1)
	in.room.L = &in.mu
	in.bound = bound
}

// enter has the caller be the shard until leave; false: somebody else is. Who isn't
// the shard's own goroutine may only where nothing waits, and before the end.
func (in *inbox) enter(own bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.inside || !own && (in.closed || len(in.work)+len(in.events) > 0) {
		return false
	}
	in.inside = true
	return true
}

// leave ends being the shard. more says that there is something to do beside what waits
// here.
func (in *inbox) leave(more bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.inside = false
	if more || in.closed || len(in.work)+len(in.events) > 0 {
		in.rouse()
	}
}

// post adds work that isn't events; false: the inbox is closed.
func (in *inbox) post(w work) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	in.work = append(in.work, w)
	in.rouse()
	return true
}

// push adds events as soon as there is room.
func (in *inbox) push(ctx context.Context, n news) error {
	stop := context.AfterFunc(ctx, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.room.Broadcast()
	})
	defer stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.bytes >= in.bound && !in.closed {
		if err := ctx.Err(); err != nil {
			return err
		}
		in.room.Wait()
	}
	if in.closed {
		return context.Canceled
	}
	in.bytes += n.bytes
	in.events = append(in.events, n)
	in.news.Store(true)
	in.rouse()
	return nil
}

// rouse has the shard's goroutine look, unless somebody is the shard: who leaves looks.
// in.mu is held.
func (in *inbox) rouse() {
	if in.inside {
		return
	}
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// takeNews moves the events that wait behind dst.
func (in *inbox) takeNews(dst []news) []news {
	in.mu.Lock()
	defer in.mu.Unlock()
	dst, in.events = in.events, dst // the two slices take turns
	in.bytes = 0
	in.news.Store(false)
	in.room.Broadcast()
	return dst
}

// take moves all else that waits behind dst.
func (in *inbox) take(dst []work) (all []work, open bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	dst, in.work = in.work, dst // as above
	return dst, !in.closed
}

func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.room.Broadcast()
	in.rouse()
}
