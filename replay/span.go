package replay

import (
	"context"
	"errors"
	"fmt"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

const windowStep = 256 // events of the window, at a time

// ascend visits the events of [from, to), oldest first, until visit returns
// false, and gives the place behind the last one visited.
func (r *Reader) ascend(ctx context.Context, from, to int64, visit func(*event.Event) bool) (next int64, err error) {
	var buf [windowStep]*event.Event
	for from < to {
		if err := ctx.Err(); err != nil {
			return from, err
		}
		events, next, err := r.some(ctx, buf[:], from, to)
		if err != nil {
			return from, err
		}
		for _, ev := range events {
			if !visit(ev) {
				return ev.Offset + 1, nil
			}
		}
		if next <= from { // the log ends before to
			return from, nil
		}
		from = next
	}
	return from, nil
}

// some gives some events of [from, to), of the window in buf, or of a page; and the
// place behind what it looked at, from itself if the log ends there.
func (r *Reader) some(ctx context.Context, buf []*event.Event, from, to int64) ([]*event.Event, int64, error) {
	if n, next, ok := r.cfg.Window.ascend(buf, from, to); ok {
		return buf[:n], next, nil
	}
	return r.page(ctx, from, to)
}

// read gives some events of [from, to) out of the log, and the place behind what it
// looked at; from itself if the log ends there.
func (r *Reader) read(ctx context.Context, from, to int64) ([]*event.Event, int64, error) {
	records, err := r.cfg.Log.Read(ctx, r.partition, from, readBytes)
	if errors.Is(err, eventlog.ErrTooOld) {
		return nil, from, ErrCursorExpired
	}
	if err != nil {
		return nil, from, fmt.Errorf("read %s at %d: %w", r.partition.Topic, from, err)
	}
	events := make([]*event.Event, 0, len(records))
	for i := range records {
		if records[i].Offset >= to {
			return events, to, nil
		}
		rec := &records[i]
		if ev, err := event.FromLog(rec.Value, r.cfg.Environment, rec.Offset, rec.Time); err != nil {
			r.poisoned.Inc()
		} else {
			events = append(events, ev)
		}
		from = rec.Offset + 1
	}
	return events, from, nil
}
