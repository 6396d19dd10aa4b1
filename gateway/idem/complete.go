package idem

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// completion is an unfinished claim, and those of its events that a request has.
type completion struct {
	*unfinished
	partition eventlog.Partition
	by        event.ClaimID
	events    map[int]eventlog.Record
}

// newCompletion encodes what the request has of the claim's events, as its first
// request would have.
func newCompletion(d *digest, c *unfinished) *completion {
	j := &completion{unfinished: c, partition: d.partition, by: newID(), events: make(map[int]eventlog.Record)}
	for i := range d.Events {
		at := -1
		switch {
		case c.key != (sum{}) && c.key == d.key:
			at = i // the whole is the same, or it would be a conflict
		case d.ids[i] != (sum{}):
			at = slices.Index(c.sums, d.ids[i])
		}
		if at < 0 || !c.left[at] {
			continue
		}
		ev := &d.Events[i]
		logged := *ev.Event
		logged.ID, logged.Claim = c.ids[at], event.Claim{ID: c.id, Index: uint16(at)}
		if !ev.OwnTime {
			logged.Timestamp = c.now
		}
		j.events[at] = eventRecord(&logged)
	}
	return j
}

// complete takes a claim over and appends what is missing of it.
func (c *Claims) complete(j *completion, w *work) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	// What it has to read may be much, and what it has read stays read: it begins
	// before the claim is its own.
	err := c.find(ctx, j)
	cancel()
	var done *doneRecord
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), giveUp)
		done, err = c.takeOver(ctx, j, w)
		cancel()
	}
	c.view.free(j.claim)
	w.err = err
	close(w.ended)
	if done != nil {
		c.finish(j.partition, done)
	}
}

// takeOver tells what is in the log in the end; nil, if somebody else has the
// claim.
func (c *Claims) takeOver(ctx context.Context, j *completion, w *work) (*doneRecord, error) {
	came, forget := c.view.await(j.by)
	defer forget()
	begun := time.Now()
	take := &takeRecord{id: j.id, seq: len(j.spans), by: j.by}
	if _, err := c.cfg.Append(ctx, []eventlog.Record{{Partition: j.partition, Value: take.encode()}}); err != nil {
		return nil, err
	}
	said, err := c.hear(ctx, came)
	if err != nil || !said.won {
		return nil, err
	}
	c.metrics.completed.Inc()
	if err := c.find(ctx, j); err != nil {
		return nil, err
	}
	if time.Since(begun) > beginBy {
		return nil, errLate
	}
	found := maps.Clone(j.sought.found)
	var missing []eventlog.Record
	for _, i := range slices.Sorted(maps.Keys(j.events)) { // in the request's order
		if !found[i] {
			missing = append(missing, j.events[i])
		}
		found[i] = true
	}
	if len(missing) > 0 {
		if _, err := c.cfg.Append(ctx, missing); err != nil {
			return nil, err
		}
	}
	w.note(len(missing))
	if len(found) == 0 {
		return nil, nil // its own were appended by somebody else
	}
	done := &doneRecord{id: j.id, seq: take.seq, indexes: slices.Sorted(maps.Keys(found))}
	c.view.settle(done)
	return done, nil
}

const (
	// slack is how far the clocks of two partitions may lie apart.
	slack = 10 * time.Second
	// held is how long a broker that hangs may have what it was sent before it is in
	// the log, for the search to find it.
	held      = 2 * time.Minute
	readBytes = 1 << 20
)

// sought is how far a node has looked for the events of a claim. Whoever has it
// busy uses it.
type sought struct {
	next  int64        // all that is to be read below is read
	found map[int]bool // events that are in the log
}

// find looks for events of the claim wherever somebody who had it may have
// appended some.
func (c *Claims) find(ctx context.Context, j *completion) error {
	if j.sought.found == nil {
		j.sought.found = make(map[int]bool)
	}
	for _, at := range j.spans {
		if err := c.findAt(ctx, j, at); err != nil {
			return fmt.Errorf("look for events of an unfinished claim: %w", err)
		}
	}
	return nil
}

// findAt reads what is new where somebody who had the claim at that time may have
// appended.
func (c *Claims) findAt(ctx context.Context, j *completion, at time.Time) error {
	p := eventlog.Partition{Topic: j.env.Topic()}
	from, err := c.cfg.Log.OffsetAt(ctx, p, at.Add(-slack))
	if err != nil {
		return err
	}
	to, err := c.cfg.Log.OffsetAt(ctx, p, at.Add(held+slack))
	if err != nil {
		return err
	}
	s := &j.sought
	for s.next = max(s.next, from); s.next < to; {
		records, err := c.cfg.Log.Read(ctx, p, s.next, readBytes)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return nil
		}
		for i := range records {
			if ev, err := event.DecodeRecord(records[i].Value); err == nil && ev.Claim.ID == j.id {
				s.found[int(ev.Claim.Index)] = true
			}
		}
		s.next = records[len(records)-1].Offset + 1
	}
	return nil
}

// free gives a claim back that this node took over, or tried to.
func (v *view) free(c *claim) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.busy = false
	c.stir()
}
