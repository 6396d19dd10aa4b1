package idem

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// carrying is a claim and its events, as records.
type carrying struct {
	id     event.ClaimID
	claim  eventlog.Record
	events []eventlog.Record // those claimed
	index  []int             // of each in the claim
}

// newCarrying encodes what a request is about to append. Alone, its events lie
// in the log together with their claim and needn't say which it is.
func newCarrying(d *digest, fresh []bool, alone bool) *carrying {
	j := &carrying{id: newID()}
	r := &claimRecord{id: j.id, keyed: d.key != (sum{}) && !d.claimed, along: alone, env: d.Environment, now: d.Now, org: d.Org,
		key: d.key, whole: d.whole, events: make([]claimedEvent, len(d.Events))}
	for i := range d.Events {
		ev := &d.Events[i]
		r.events[i] = claimedEvent{own: ev.OwnID, claimed: fresh[i], content: d.contents[i], id: ev.ID}
		if !fresh[i] {
			continue
		}
		logged := *ev.Event
		if !alone {
			logged.Claim = event.Claim{ID: j.id, Index: uint16(i)}
		}
		j.index = append(j.index, i)
		j.events = append(j.events, eventRecord(&logged))
	}
	j.claim = eventlog.Record{Partition: d.partition, Value: r.encode()}
	return j
}

func newID() (id event.ClaimID) {
	rand.Read(id[:])
	return id
}

func eventRecord(ev *event.Event) eventlog.Record {
	return eventlog.Record{
		Partition: eventlog.Partition{Topic: ev.Environment.Topic()},
		Key:       []byte(ev.Key),
		Value:     ev.AppendRecord(nil),
	}
}

// carry appends a claim and its events, and calls end once whoever asked for it
// can know what came of it.
func (c *Claims) carry(j *carrying, end func(error), w *work) {
	came, forget := c.view.await(j.id)
	defer forget()
	if c.cfg.Private {
		end(c.together(j, came, w))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	err := c.inTurn(ctx, j, came, w)
	cancel()
	end(err)
	if err == nil && w.appended > 0 {
		c.finish(j.claim.Partition, &doneRecord{id: j.id})
	}
}

// together appends claim and events at once. It waits for the log however long
// that takes: until then nobody can know whether they are in it.
func (c *Claims) together(j *carrying, came <-chan verdict, w *work) error {
	n := len(j.events)
	if _, err := c.cfg.Append(context.Background(), append([]eventlog.Record{j.claim}, j.events...)); err != nil {
		return err
	}
	j.events = nil // they may take long to be read
	said, err := c.hear(context.Background(), came)
	if err != nil {
		return err
	}
	w.verdict = said
	w.note(n)
	return nil
}

// inTurn appends the claim, then those of its events that the log gives it.
func (c *Claims) inTurn(ctx context.Context, j *carrying, came <-chan verdict, w *work) error {
	begun := time.Now()
	if _, err := c.cfg.Append(ctx, []eventlog.Record{j.claim}); err != nil {
		return err
	}
	said, err := c.hear(ctx, came)
	if err != nil {
		return fmt.Errorf("read own claim: %w", err)
	}
	if said.won {
		if time.Since(begun) > beginBy {
			return errLate
		}
		var mine []eventlog.Record
		for n, i := range j.index {
			if said.owned[i] {
				mine = append(mine, j.events[n])
			}
		}
		if len(mine) > 0 {
			if _, err := c.cfg.Append(ctx, mine); err != nil {
				return err
			}
		}
		c.view.settle(&doneRecord{id: j.id})
		w.note(len(mine))
	}
	w.verdict = said
	return nil
}

// hear waits for the log's verdict.
func (c *Claims) hear(ctx context.Context, came <-chan verdict) (*verdict, error) {
	select {
	case said := <-came:
		return &said, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.over:
		return nil, eventlog.ErrClosed
	}
}

// finish tells the other nodes what of a claim is in the log. Should that fail,
// one of them will look.
func (c *Claims) finish(p eventlog.Partition, r *doneRecord) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	if _, err := c.cfg.Append(ctx, []eventlog.Record{{Partition: p, Value: r.encode()}}); err != nil {
		c.cfg.Logger.Warn("end of a claim not appended, others will look for its events", "error", err)
	}
}

// note takes what came of a work into account.
func (d *digest) note(w *work) {
	if w.verdict == nil {
		return
	}
	d.judged = true
	if !w.verdict.won {
		return
	}
	d.claimed = true
	for i, owned := range w.verdict.owned {
		d.placed[i] = d.placed[i] || owned
	}
}
