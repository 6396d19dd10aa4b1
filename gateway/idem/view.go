package idem

import (
	"strings"
	"sync"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// view is what the log says of the last 24 h. What follows from a record depends
// on it and the records before it alone, so that every node comes to the same;
// only what was forgotten early, because there is too much of it, may differ.
type view struct {
	most    int
	evicted func() // told of what is forgotten early

	mu      sync.Mutex
	keys    map[sum]keyEntry
	ids     map[sum]idEntry
	orders  []order                  // of each partition
	count   int                      // of keys and ids, and of the ids that answers to keys hold
	open    map[event.ClaimID]*claim // those with events that may not be in the log
	running map[sum]*work            // keys and ids of requests under way on this node
	awaited map[event.ClaimID]chan<- verdict
}

// keyEntry is an Idempotency-Key that was used. Times are the log's, in ms since
// 1970.
type keyEntry struct {
	whole sum
	at    int64
	ids   string // what it was answered, a space between each
	open  *claim // nil: all of it is in the log
}

func (e *keyEntry) weight() int { return 2 + strings.Count(e.ids, " ") }

// idEntry is an event's id that was used.
type idEntry struct {
	content uint64
	at      int64
	open    *claim // nil: it is in the log
	index   uint16 // in the claim
}

// claim is a claim whose events may not all be in the log.
type claim struct {
	id      event.ClaimID
	env     event.Environment
	now     time.Time // for events without a timestamp of their own
	key     sum       // zero: none
	ids     []string
	sums    []sum // of events with ids of their own; else zero
	left    []bool
	missing int

	spans   []time.Time   // when it, and who took it over, were logged
	due     time.Time     // by this node's clock: from then on it may be taken over
	busy    bool          // this node takes it over, or tries to
	sought  sought        // of who has it busy
	leads   int           // entries that lead to it
	changed chan struct{} // closed when any of this changes
}

// verdict is what a record of this node came to, in the order of the log.
type verdict struct {
	won   bool
	owned []bool // a claim's: those of its events that it is about to append
}

func newView(most int, evicted func()) *view {
	return &view{most: most, evicted: evicted, orders: make([]order, Topic.Partitions),
		keys: make(map[sum]keyEntry), ids: make(map[sum]idEntry), open: make(map[event.ClaimID]*claim),
		running: make(map[sum]*work), awaited: make(map[event.ClaimID]chan<- verdict)}
}

func (v *view) size() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count
}

// await has the verdict on the record with the id sent to the channel that it
// returns. The caller forgets it when it has waited enough.
func (v *view) await(id event.ClaimID) (came <-chan verdict, forget func()) {
	ch := make(chan verdict, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.awaited[id] = ch
	return ch, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.awaited, id)
	}
}

// apply takes the next record of a partition.
func (v *view) apply(rec *eventlog.Record) error {
	decoded, err := decode(rec.Value)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o := &v.orders[rec.Number]
	o.newest = max(o.newest, rec.Time.UnixMilli())
	switch r := decoded.(type) {
	case *claimRecord:
		v.tell(r.id, v.claim(r, rec.Time, o))
	case *doneRecord:
		v.done(r)
	case *takeRecord:
		v.tell(r.by, verdict{won: v.take(r, rec.Time)})
	}
	v.forget(o)
	return nil
}

func (v *view) tell(id event.ClaimID, said verdict) {
	if ch := v.awaited[id]; ch != nil {
		ch <- said // it has room for the one
		delete(v.awaited, id)
	}
}

// claim decides on a claim: it counts unless its key is taken, or an id of its
// events with other content. What other claims have is theirs.
func (v *view) claim(r *claimRecord, at time.Time, o *order) verdict {
	now := at.UnixMilli()
	c := &claim{id: r.id, env: r.env, now: r.now, spans: []time.Time{at}, due: time.Now().Add(takeOver), changed: make(chan struct{}),
		ids: make([]string, len(r.events)), sums: make([]sum, len(r.events)), left: make([]bool, len(r.events))}
	if r.keyed {
		if e, ok := v.keys[r.key]; ok && live(e.at, now) && !r.along {
			return verdict{}
		}
		c.key = r.key
	}
	for i := range r.events {
		ev := &r.events[i]
		c.ids[i], c.left[i] = ev.id, ev.claimed
		if !ev.claimed || !ev.own {
			continue
		}
		s := scoped('i', r.org, r.env, ev.id)
		// What came along with its claim is in the log, whatever was there before.
		if e, ok := v.ids[s]; ok && live(e.at, now) && !r.along {
			if e.content != ev.content {
				return verdict{}
			}
			c.left[i] = false
			continue
		}
		c.sums[i] = s
	}
	owned := append([]bool(nil), c.left...)
	v.remember(c, r, now, o)
	if r.along {
		v.done(&doneRecord{id: c.id})
	}
	return verdict{won: true, owned: owned}
}

// remember enters a claim's key and ids.
func (v *view) remember(c *claim, r *claimRecord, now int64, o *order) {
	for i, s := range c.sums {
		if c.left[i] {
			c.missing++
		}
		if s != (sum{}) {
			v.drop(slot{sum: s, at: v.ids[s].at}) // one of more than a day ago
			v.ids[s] = idEntry{content: r.events[i].content, at: now, open: c, index: uint16(i)}
			o.push(slot{sum: s, at: now})
			v.count++
			c.leads++
		}
	}
	if r.keyed {
		e := keyEntry{whole: r.whole, at: now, open: c, ids: strings.Join(c.ids, " ")}
		if c.leads++; c.missing == 0 {
			e.open = nil
			c.leads--
		}
		v.drop(slot{sum: r.key, at: v.keys[r.key].at, key: true})
		v.keys[r.key] = e
		o.push(slot{sum: r.key, at: now, key: true})
		v.count += e.weight()
	}
	// One that nothing leads to can't be completed by anybody.
	if c.leads > 0 && c.missing > 0 {
		v.open[c.id] = c
	}
}

// done notes that events of a claim are in the log; none named: all of them. If
// some are left, others needn't wait any longer.
func (v *view) done(r *doneRecord) {
	c := v.open[r.id]
	if c == nil {
		return
	}
	if r.seq == len(c.spans)-1 {
		c.due = time.Now()
	}
	if len(r.indexes) == 0 {
		for i := range c.left {
			v.landed(c, i)
		}
	}
	for _, i := range r.indexes {
		if i < len(c.left) {
			v.landed(c, i)
		}
	}
	if c.missing == 0 || c.leads == 0 {
		if e, ok := v.keys[c.key]; ok && e.open == c {
			e.open = nil
			v.keys[c.key] = e
		}
		delete(v.open, r.id)
	}
	c.stir()
}

func (v *view) landed(c *claim, i int) {
	if !c.left[i] {
		return
	}
	c.left[i] = false
	c.missing--
	if e, ok := v.ids[c.sums[i]]; ok && e.open == c {
		e.open = nil
		v.ids[c.sums[i]] = e
		c.leads--
	}
}

// settle is done for what this node has appended itself.
func (v *view) settle(r *doneRecord) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done(r)
}

// take gives an unfinished claim to who asks for it first.
func (v *view) take(r *takeRecord, at time.Time) bool {
	c := v.open[r.id]
	if c == nil || r.seq != len(c.spans) {
		return false
	}
	c.spans = append(c.spans, at)
	c.due = time.Now().Add(takeOver)
	c.stir()
	return true
}

// stir wakes whoever waits for a change of the claim.
func (c *claim) stir() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func live(at, now int64) bool { return now-at < Kept.Milliseconds() }

// grace is how much longer than Kept an entry stays in memory: the partitions'
// clocks differ.
const grace = time.Minute

// forget drops what is too old in a partition, and the oldest of what is too much
// in all of them.
func (v *view) forget(o *order) {
	for s, ok := o.first(); ok && o.newest-s.at >= (Kept+grace).Milliseconds(); s, ok = o.first() {
		o.pop()
		v.drop(s)
	}
	for v.count > v.most {
		var oldest *order
		var least slot
		for i := range v.orders {
			if s, ok := v.orders[i].first(); ok && (oldest == nil || s.at < least.at) {
				oldest, least = &v.orders[i], s
			}
		}
		oldest.pop()
		// Where nothing has come since, it may have been of no use for long.
		if v.drop(least) && live(least.at, o.newest) {
			v.evicted()
		}
	}
}

// drop forgets a key or an id, unless it was used anew since.
func (v *view) drop(s slot) bool {
	var c *claim
	if s.key {
		e, ok := v.keys[s.sum]
		if !ok || e.at != s.at {
			return false
		}
		c = e.open
		v.count -= e.weight()
		delete(v.keys, s.sum)
	} else {
		e, ok := v.ids[s.sum]
		if !ok || e.at != s.at {
			return false
		}
		c = e.open
		v.count--
		delete(v.ids, s.sum)
	}
	if c == nil {
		return true
	}
	if c.leads--; c.leads == 0 {
		delete(v.open, c.id)
	}
	c.stir()
	return true
}

// order is a partition's keys and ids, oldest first. What follows from its records
// depends on them and on its own clock alone, so that one broker whose clock is
// wrong has nothing forgotten that others keep.
type order struct {
	ring
	newest int64 // time of its newest record, ms since 1970
}

// slot is where a key or an id stands in the order of the log.
type slot struct {
	sum sum
	at  int64
	key bool
}

// ring is a queue. What it has given stays in its memory until half of that is
// free.
type ring struct {
	slots []slot
	head  int
}

func (r *ring) push(s slot) {
	if r.head > 64 && r.head > len(r.slots)/2 {
		r.slots = r.slots[:copy(r.slots, r.slots[r.head:])]
		r.head = 0
	}
	r.slots = append(r.slots, s)
}

func (r *ring) first() (slot, bool) {
	if r.head == len(r.slots) {
		return slot{}, false
	}
	return r.slots[r.head], true
}

func (r *ring) pop() { r.head++ }
