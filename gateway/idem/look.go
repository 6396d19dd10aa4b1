package idem

import (
	"slices"
	"strings"
	"time"
)

// step is what is to be done next for a request: the first of these that is set,
// in this order; none, and it is in the log.
type step struct {
	crowded  bool // nothing more can be begun now
	conflict *Conflict
	fresh    []bool          // to be claimed and appended
	take     *unfinished     // to be completed
	wait     <-chan struct{} // to be waited for, and looked again
	until    time.Time       // no longer than; zero: however long
	ids      []string        // the answer that the key's first request was given
}

// unfinished is where a claim stood when it was looked at.
type unfinished struct {
	*claim
	left  []bool      // events that may not be in the log
	spans []time.Time // when those who had it so far began
}

// look says what the view has on a request. v.mu is held.
func (v *view) look(d *digest, now time.Time) step {
	keyed := d.key != (sum{}) && !d.claimed
	if keyed {
		if e, ok := v.keys[d.key]; ok && d.counts(e.at, now) {
			return v.lookKey(d, &e, now)
		}
		if w := v.running[d.key]; w != nil {
			return step{wait: w.ended}
		}
	}
	s := v.lookIDs(d, now)
	if s.conflict != nil || s.wait != nil && s.until.IsZero() {
		return s // nothing is begun while an id is under way here: it may be taken
	}
	var fresh []bool
	if keyed {
		fresh = make([]bool, len(d.Events)) // the key is claimed even where all ids are known
	}
	for i := range d.Events {
		if d.placed[i] {
			continue
		}
		if e, ok := v.ids[d.ids[i]]; ok && d.counts(e.at, now) {
			continue
		}
		if fresh == nil {
			fresh = make([]bool, len(d.Events))
		}
		fresh[i] = true
	}
	if fresh != nil {
		return step{fresh: fresh}
	}
	return s
}

// counts reports whether an entry still says something. Once the log has judged
// a claim of the request, what it left standing does, whatever our clock says.
func (d *digest) counts(at int64, now time.Time) bool {
	return d.judged || live(at, now.UnixMilli())
}

// lookKey looks at a request whose key is known.
func (v *view) lookKey(d *digest, e *keyEntry, now time.Time) step {
	if e.whole != d.whole {
		return step{conflict: &Conflict{Key: true}}
	}
	if e.open != nil {
		return e.open.step(now)
	}
	// Its first request may have relied on claims of others.
	if s := v.lookIDs(d, now); s.conflict == nil && (s.wait != nil || s.take != nil) {
		return s
	}
	return step{ids: strings.Split(e.ids, " ")}
}

// lookIDs looks at the ids that are known: a conflict, else one under way on this
// node, else an unfinished one.
func (v *view) lookIDs(d *digest, now time.Time) (s step) {
	var other []int
	running := false
	for i, id := range d.ids {
		if id == (sum{}) || d.placed[i] {
			continue
		}
		e, ok := v.ids[id]
		switch {
		case ok && d.counts(e.at, now):
			if e.content != d.contents[i] {
				other = append(other, i)
			} else if e.open != nil && s.wait == nil && s.take == nil {
				s = e.open.step(now)
			}
		case !running:
			if w := v.running[id]; w != nil {
				running, s = true, step{wait: w.ended}
			}
		}
	}
	if other != nil {
		return step{conflict: &Conflict{Events: other}}
	}
	return s
}

// step waits for an unfinished claim, or takes it over.
func (c *claim) step(now time.Time) step {
	switch {
	case c.busy:
		return step{wait: c.changed, until: now.Add(takeOver)}
	case now.Before(c.due):
		return step{wait: c.changed, until: c.due}
	}
	return step{take: &unfinished{claim: c, left: slices.Clone(c.left), spans: slices.Clone(c.spans)}}
}

// reserve keeps other requests of this node from beginning the same. v.mu is
// held.
func (v *view) reserve(d *digest, fresh []bool, w *work) {
	if d.key != (sum{}) {
		v.running[d.key] = w
	}
	for i, id := range d.ids {
		if fresh[i] && id != (sum{}) {
			v.running[id] = w
		}
	}
}

// release ends a work that was reserved for.
func (v *view) release(d *digest, fresh []bool, w *work) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d.key != (sum{}) {
		delete(v.running, d.key)
	}
	for i, id := range d.ids {
		if fresh[i] && id != (sum{}) {
			delete(v.running, id)
		}
	}
	close(w.ended)
}
