package replay

import (
	"context"

	"sluice/pkg/event"
)

// Chunk gives the events of [from, to) that match, oldest first, out of about so
// many bytes of the log, and the place to go on from: to itself, at last. It is
// one read, for whoever goes through the past at a pace of its own.
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
	all, next, err := r.read(ctx, from, to, bytes)
	if err != nil {
		return nil, from, err
	}
	if next <= from { // the log ends before to
		next = to
	}
	for _, ev := range all {
		if match(ev) {
			events = append(events, ev)
		}
	}
	return events, next, nil
}
