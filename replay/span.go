package replay

import (
	"context"
	"errors"
	"fmt"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

const (
	readBytes  = 1 << 20 // of the log, at a time
	windowStep = 256     // events of the window, at a time
)

// ascend visits the events of [from, to), oldest first, until visit returns
// false, and gives the place behind the last one visited.
func (r *Reader) ascend(ctx context.Context, from, to int64, visit func(*event.Event) bool) (next int64, err error) {
	var buf [windowStep]*event.Event
	for from < to {
		if err := ctx.Err(); err != nil {
			return from, err
		}
		var events []*event.Event
		n, next, ok := r.cfg.Window.ascend(buf[:], from, to)
		if ok {
			events = buf[:n]
		} else if events, next, err = r.read(ctx, from, to, readBytes); err != nil {
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

// read gives some events of [from, to), out of about so many bytes of the log, and
// the place behind what it looked at; from itself if the log ends there.
func (r *Reader) read(ctx context.Context, from, to int64, bytes int) ([]*event.Event, int64, error) {
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	case <-ctx.Done():
		return nil, from, ctx.Err()
	}
	records, err := r.cfg.Log.Read(ctx, r.partition, from, bytes)
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
