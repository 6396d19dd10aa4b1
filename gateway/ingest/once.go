package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/gateway/idem"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// taking is a request whose events are as they should be.
type taking struct {
	events []*event.Event
	given  []int  // members that each was given; nil where there is no key and no id
	key    string // Idempotency-Key; empty: none
	form   form
	body   []byte // what they were read from, if it was a body
	now    time.Time

	ids      []string // of the answer; nil: those of events
	replayed bool     // nothing was appended
}

// givenOf says what an event is given that this process makes.
func givenOf(ev *event.Event) (given int) {
	if ev.ID != "" {
		given |= hasID
	}
	if !ev.Timestamp.IsZero() {
		given |= hasTimestamp
	}
	return given
}

// recognisable reports whether the request would be known if it came again.
func (t *taking) recognisable() bool {
	if t.key != "" {
		return true
	}
	for _, given := range t.given {
		if given&hasID != 0 {
			return true
		}
	}
	return false
}

// take hands checked events to the log, those that aren't known yet, and returns
// once all of them are durable.
func (i *Ingest) take(ctx context.Context, t *taking) error {
	if !t.recognisable() {
		return i.append(ctx, t.events)
	}
	first := t.events[0]
	req := &idem.Request{Org: first.Org, Environment: first.Environment, Key: t.key, Batch: t.form.batch(), Now: t.now,
		Events: make([]idem.Event, len(t.events))}
	for n, ev := range t.events {
		if ev.Org != first.Org || ev.Environment != first.Environment {
			return badRequest("events with ids that are published together must be of one org and environment")
		}
		req.Events[n] = idem.Event{Event: ev, OwnID: t.given[n]&hasID != 0, OwnTime: t.given[n]&hasTimestamp != 0}
	}
	result, err := i.claims.Do(ctx, req)
	var other *idem.Conflict
	switch {
	case errors.As(err, &other):
		return t.conflict(other)
	case errors.Is(err, idem.ErrNotReady):
		return unavailable("the requests of the last day are still being looked through; nothing was taken, try again", 1)
	case errors.Is(err, idem.ErrCrowded):
		return errCrowded
	case errors.Is(err, idem.ErrUnderWay):
		return unavailable("the same request is under way, or was given up a moment ago: send it again, with the same "+KeyHeader+" or ids", 1)
	case err != nil:
		return i.refusal(err)
	}
	t.ids, t.replayed = result.IDs, result.Replayed
	return nil
}

// conflict tells which key or ids are taken.
func (t *taking) conflict(c *idem.Conflict) *dialect.Error {
	e := &dialect.Error{Status: 409, Code: dialect.Conflict}
	if c.Key {
		e.Message = "nothing was taken: this " + KeyHeader + " was used for another body in the last 24 hours; use a new one"
		return e
	}
	const message = "was used for another event in the last 24 hours; give this one a new id"
	e.Message = fmt.Sprintf("nothing was taken: the id %s %s", t.events[c.Events[0]].ID, message)
	for _, n := range c.Events[:min(len(c.Events), maxIssues)] {
		e.Issues = append(e.Issues, dialect.Issue{Path: append(t.form.path(t.body, n), "id"), Message: message})
	}
	return e
}

// path names the n-th event of a body in this form, as the parser does.
func (f form) path(body []byte, n int) []string {
	switch f {
	case formBatch:
		return []string{"events", strconv.Itoa(n)}
	case formCloudBatch:
		return []string{strconv.Itoa(n)}
	case formLines:
		line := 0
		for text := range bytes.Lines(body) {
			line++
			if len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			if n--; n < 0 {
				break
			}
		}
		return []string{"line", strconv.Itoa(line)}
	}
	return nil
}

// appendAnswer adds {"id":"…"}, or {"ids":[…]} for a batch. Ids need no escapes.
func (t *taking) appendAnswer(dst []byte) []byte {
	id := func(n int) string {
		if t.ids != nil {
			return t.ids[n]
		}
		return t.events[n].ID
	}
	if !t.form.batch() {
		return append(append(append(dst, `{"id":"`...), id(0)...), `"}`...)
	}
	dst = append(dst, `{"ids":[`...)
	for n := range t.events {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), id(n)...), '"')
	}
	return append(dst, `]}`...)
}
