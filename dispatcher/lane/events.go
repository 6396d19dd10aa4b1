package lane

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// EventCache reads events by offset, and keeps those read last: one that many
// endpoints are owed is read from the log about once. It is shared by all lanes.
type EventCache struct {
	log   eventlog.Reader
	limit int

	mu     sync.Mutex
	bytes  int
	recent list.List // of *cached, the latest first
	known  map[eventKey]*list.Element
}

type eventKey struct {
	env    event.Environment
	offset int64
}

type cached struct {
	key eventKey
	ev  *event.Event
}

// eventItself is about what an event takes beside its data.
const eventItself = 512

func (e *cached) bytes() int { return eventItself + len(e.ev.Data) }

// NewEventCache makes a cache of at most about limit bytes.
func NewEventCache(log eventlog.Reader, limit int) *EventCache {
	return &EventCache{log: log, limit: limit, known: make(map[eventKey]*list.Element)}
}

// Event gives the event at the offset; ErrGone when the log doesn't keep it any
// more.
func (c *EventCache) Event(ctx context.Context, env event.Environment, offset int64) (*event.Event, error) {
	key := eventKey{env, offset}
	if ev := c.get(key); ev != nil {
		return ev, nil
	}
	records, err := c.log.Read(ctx, eventlog.Partition{Topic: env.Topic()}, offset, 1)
	switch {
	case errors.Is(err, eventlog.ErrTooOld), errors.Is(err, eventlog.ErrPastEnd), err == nil && (len(records) == 0 || records[0].Offset != offset):
		return nil, fmt.Errorf("%w: offset %d", ErrGone, offset)
	case err != nil:
		return nil, err
	}
	ev, err := event.FromLog(records[0].Value, env, offset, records[0].Time)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	c.put(key, ev)
	return ev, nil
}

// Remember keeps an event that is about to be asked for. It mustn't change any more.
func (c *EventCache) Remember(ev *event.Event) { c.put(eventKey{ev.Environment, ev.Offset}, ev) }

func (c *EventCache) get(key eventKey) *event.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached).ev
}

func (c *EventCache) put(key eventKey, ev *event.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[key] != nil {
		return
	}
	e := &cached{key, ev}
	c.known[key] = c.recent.PushFront(e)
	c.bytes += e.bytes()
	for c.bytes > c.limit {
		last := c.recent.Remove(c.recent.Back()).(*cached)
		c.bytes -= last.bytes()
		delete(c.known, last.key)
	}
}
