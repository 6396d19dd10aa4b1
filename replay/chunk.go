package replay

import (
	"context"

	"sluice/pkg/event"
)

// Chunk gives the events of [from, to) that match, oldest first, out of about so
// many bytes, and the place to go on from: to itself, at last. It is for whoever goes
// through the past at a pace of its own.
//
// ErrCursorExpired says that from isn't shown any more.
func (r *Reader) Chunk(ctx context.Context, from, to int64, bytes int, match func(*event.Event) bool) (events []*event.Event, next int64, err error) {
	oldest, err := r.Oldest(ctx)
	switch {
	case err != nil:
		return nil, from, err
	case from < oldest:
		return nil, from, ErrCursorExpired
	case from >= to:
		return nil, to, nil
	}
	looked := 0
	next, err = r.ascend(ctx, from, to, func(ev *event.Event) bool {
		if match(ev) {
			events = append(events, ev)
		}
		looked += weight(ev)
		return looked < bytes
	})
	if err != nil {
		return nil, from, err
	}
	if next <= from { // the log ends before to
		next = to
	}
	return events, next, nil
}
