package notice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// publish publishes the events that are owed. One that can't be now is owed on.
func (l *life) publish(ctx context.Context, now time.Time) {
	if now.Before(l.publishAt) {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(l.unpublished)) {
		it := l.unpublished[id]
		if !l.share.Ours() {
			l.publishAt = now.Add(time.Second)
			return
		}
		if l.cfg.Control.Org(it.org) != nil {
			if err := l.cfg.Publish(ctx, disabledEvent(&it)); err != nil {
				l.publishWait = min(max(2*l.publishWait, time.Second), time.Minute)
				l.publishAt = now.Add(l.publishWait)
				l.log.Error("event "+event.EndpointDisabled+" can't be published yet", "endpoint", it.endpoint, "error", err, "again", l.publishWait)
				return
			}
			l.metrics.events.Inc()
		}
		l.publishWait = 0
		delete(l.unpublished, id)
		l.tell(ctx, []item{it}, func(t *told, it *item) { t.Published = later(t.Published, it.at) })
	}
}

// disabledEvent makes the event for the item. Made again it is the same, so that
// it is known.
func disabledEvent(it *item) *event.Event {
	data, err := json.Marshal(struct {
		EndpointID string `json:"endpointId"`
		URL        string `json:"url"`
		Reason     string `json:"reason"`
		DisabledAt string `json:"disabledAt"`
	}{it.endpoint, it.url, it.reason, it.at.UTC().Format(event.TimestampLayout)})
	if err != nil {
		panic(fmt.Sprintf("notice: %v", err)) // texts that control read from JSON
	}
	return &event.Event{ID: event.DisabledID(it.endpoint, it.at), Type: event.EndpointDisabled, Timestamp: it.at.UTC(),
		Environment: it.env, Org: it.org, Data: data}
}

// tell notes, for good, what the items' endpoints were told.
func (l *life) tell(ctx context.Context, items []item, note func(t *told, it *item)) {
	var records []record
	for i := range items {
		t := l.told[items[i].endpoint]
		note(&t, &items[i])
		l.told[items[i].endpoint] = t
		records = append(records, record{Kind: kindTold, Endpoint: items[i].endpoint, told: t})
	}
	if err := l.put(ctx, records...); err != nil {
		l.log.Warn("what an org was told isn't in the log: it may be told again", "endpoints", len(items), "error", err)
	}
}

// putAtOnce bounds the records of an append.
const putAtOnce = 1000

// put appends records until they are durable, or ctx has ended. One that is in the
// log twice says the same.
func (l *life) put(ctx context.Context, records ...record) error {
	for chunk := range slices.Chunk(records, putAtOnce) {
		made := make([]eventlog.Record, len(chunk))
		for i := range chunk {
			made[i] = encode(&chunk[i])
		}
		for {
			_, err := l.cfg.Log.Append(ctx, made)
			if err == nil {
				break
			}
			if ctx.Err() != nil || errors.Is(err, eventlog.ErrClosed) {
				return err
			}
			l.log.Error("notices not appended, trying again", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// refresh says again, once a day, what is told of endpoints that are still unwell:
// the topic forgets, and they aren't to be told of twice. What is told of others
// is forgotten.
func (l *life) refresh(ctx context.Context, now time.Time) {
	if now.Before(l.refreshAt) {
		return
	}
	first := l.refreshAt.IsZero()
	l.refreshAt = now.Add(daily)
	var records []record
	for id, t := range l.told {
		ep := l.cfg.Control.Endpoint(id)
		if ep == nil || ep.Status != endpoint.Disabled && ep.Missed == 0 && now.Sub(t.WarnedAt) > daily {
			delete(l.told, id)
			delete(l.recorded, id)
			continue
		}
		records = append(records, record{Kind: kindTold, Endpoint: id, told: t})
	}
	maps.DeleteFunc(l.lastMail, func(_ string, at time.Time) bool { return now.Sub(at) > pause })
	if !first && len(records) > 0 {
		if err := l.put(ctx, records...); err != nil {
			l.log.Warn("what orgs were told isn't said again", "error", err)
		}
	}
}
