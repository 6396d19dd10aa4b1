package notice

import (
	"context"
	"slices"
	"sync"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// change is what happened to an endpoint since it was looked at last.
type change struct {
	endpoint *endpoint.Endpoint // when it was disabled; nil: it wasn't
	reset    bool               // its count of missed ones began anew
}

// changes gathers what control tells, and never makes it wait.
type changes struct {
	news chan struct{} // capacity 1

	mu sync.Mutex
	of map[string]change // by endpoint
}

func (c *changes) note(ch control.Change) {
	ep, before := ch.Endpoint, ch.EndpointBefore
	if ep == nil || before == nil {
		return
	}
	off := ep.Status == endpoint.Disabled && !ep.DisabledAt.Equal(before.DisabledAt)
	if !off && ep.Missed == before.Missed {
		return
	}
	c.mu.Lock()
	now := c.of[ep.ID]
	now.reset = now.reset || ep.Missed < before.Missed || before.Missed == 0
	if off {
		now.endpoint = ep
	}
	c.of[ep.ID] = now
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *changes) take() map[string]change {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of
	c.of = make(map[string]change)
	return of
}

// survey finds what is owed by control's state. What was disabled before there
// were notices isn't.
func (l *life) survey(ctx context.Context) error {
	var before []record
	var since []*endpoint.Endpoint
	for _, org := range l.cfg.Control.Orgs() {
		for _, ep := range l.cfg.Control.Unwell(org.ID) {
			if !l.begun && ep.DisabledAt.Before(l.began) {
				t := told{Published: ep.DisabledAt, Mailed: ep.DisabledAt, Missed: ep.Missed}
				l.told[ep.ID] = t
				before = append(before, record{Kind: kindTold, Endpoint: ep.ID, told: t})
				continue
			}
			if ep.Status == endpoint.Disabled {
				since = append(since, ep)
			}
			l.misses(ep)
		}
	}
	if !l.begun {
		before = append(before, record{Kind: kindBegin})
	}
	if err := l.put(ctx, before...); err != nil {
		return err
	}
	return l.note(ctx, since)
}

// change looks at what control told of.
func (l *life) change(ctx context.Context) {
	var off []*endpoint.Endpoint
	for id, c := range l.changes.take() {
		if c.endpoint != nil {
			off = append(off, c.endpoint)
		}
		ep := l.cfg.Control.Endpoint(id)
		if ep == nil {
			continue
		}
		if t := l.told[id]; c.reset && t.Missed > 0 {
			t.Missed = 0
			l.told[id] = t
		}
		l.misses(ep)
	}
	_ = l.note(ctx, off) // ctx has ended: the next owner sees the same
}

// note has the topic know of endpoints that were disabled: then it is told even if
// they are enabled before. An endpoint that was enabled again before this owes
// nothing.
func (l *life) note(ctx context.Context, off []*endpoint.Endpoint) error {
	var records []record
	for _, ep := range off {
		if t := l.told[ep.ID]; ep.DisabledAt.After(later(l.recorded[ep.ID], t.Mailed)) {
			records = append(records, record{Kind: kindDisabled, Endpoint: ep.ID, Org: ep.Org, Environment: ep.Environment.String(),
				URL: address(ep.URL), Reason: ep.Reason, Since: ep.DisabledAt})
		}
	}
	if err := l.put(ctx, records...); err != nil {
		return err
	}
	for i := range records {
		l.disables(&records[i])
	}
	return nil
}

// disables takes what the topic knows of an endpoint that was disabled.
func (l *life) disables(r *record) {
	env, ok := event.ParseEnvironment(r.Environment)
	if !ok || !r.Since.After(l.recorded[r.Endpoint]) {
		return
	}
	l.recorded[r.Endpoint] = r.Since
	now, t := time.Now(), l.told[r.Endpoint]
	it := item{about: disabled, endpoint: r.Endpoint, org: r.Org, env: env, url: r.URL, reason: r.Reason, at: r.Since, times: 1,
		noticed: now, ready: now.Add(gather)}
	if it.at.After(t.Published) {
		l.unpublished[event.DisabledID(it.endpoint, it.at)] = it
	}
	if it.at.After(t.Mailed) {
		l.drop(r.Endpoint, failing) // it is more than that now
		l.owe(it)
	}
}

// misses sees that deliveries of an endpoint expired. There may be more every
// minute: a mail tells of them once a day.
func (l *life) misses(ep *endpoint.Endpoint) {
	t := l.told[ep.ID]
	if ep.Missed < t.Missed {
		t.Missed = 0
		l.told[ep.ID] = t
	}
	if ep.Missed <= t.Missed {
		return
	}
	it := itemOf(missed, ep)
	it.count, it.more = ep.Missed, ep.Missed-t.Missed
	if at := t.MissedAt.Add(daily); at.After(it.ready) {
		it.ready = at
	}
	l.owe(it)
}

func (l *life) fails(ctx context.Context, r *record) {
	ep := l.cfg.Control.Endpoint(r.Endpoint)
	if ep != nil && ep.Epoch < r.Epoch && l.cfg.Control.Fresh(ctx) == nil {
		ep = l.cfg.Control.Endpoint(r.Endpoint)
	}
	if !warnable(ep, r.Epoch) || time.Since(l.told[r.Endpoint].WarnedAt) < daily {
		return
	}
	it := itemOf(failing, ep)
	it.reason, it.at, it.epoch = r.Reason, r.Since, r.Epoch
	l.owe(it)
}

// warnable reports whether it is still so that an endpoint fails which did in
// that epoch, as far as control knows.
func warnable(ep *endpoint.Endpoint, epoch uint64) bool {
	return ep != nil && ep.Status == endpoint.Active && ep.Epoch == epoch
}

func itemOf(a about, ep *endpoint.Endpoint) item {
	now := time.Now()
	return item{about: a, endpoint: ep.ID, org: ep.Org, env: ep.Environment, url: address(ep.URL), noticed: now, ready: now.Add(settled)}
}

// owe puts an item into its org's letter.
func (l *life) owe(it item) {
	if l.sending != nil && slices.ContainsFunc(l.parts, it.same) {
		return // a mail that says so is on its way
	}
	letter := l.letters[it.org]
	if letter == nil {
		letter = newLetter(it.org)
		l.letters[it.org] = letter
	}
	letter.add(it)
}

// drop takes an item back that isn't so any more.
func (l *life) drop(id string, a about) {
	if ep := l.cfg.Control.Endpoint(id); ep != nil && l.take(ep.Org, itemKey{a, id}) {
		l.metrics.ended(a, outcomeMoot)
	}
}

// take takes an item out of the org's letter.
func (l *life) take(org string, key itemKey) bool {
	letter := l.letters[org]
	if letter == nil {
		return false
	}
	_, had := letter.items[key]
	if delete(letter.items, key); len(letter.items) == 0 {
		delete(l.letters, org)
	}
	return had
}
