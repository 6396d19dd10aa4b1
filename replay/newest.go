package replay

import (
	"context"
	"slices"

	"sluice/pkg/event"
)

// CountBound is how many events Newest looks at, after it has what was asked
// for, only to count those that it leaves out.
const CountBound = 64 << 10

// logSpan is how many offsets Newest reads at a time where the window has none.
const logSpan = 1024

// Last is what Newest found.
type Last struct {
	Events  []*event.Event // oldest first
	Skipped int64          // matches in the span that are older than these
	AtLeast bool           // there may be more than Skipped
}

// Newest gives the newest events of [from, to) that match, at most limit. If
// they exist it finds them, however far back; older ones it only counts, and
// not without end: CountBound.
func (r *Reader) Newest(ctx context.Context, from, to int64, limit int, match func(*event.Event) bool) (Last, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return Last{}, err
	}
	var last Last
	if from < oldest { // it expired since it was a place
		from, last.AtLeast = oldest, true
	}
	counted := int64(0) // offsets looked at since limit was reached
	for to > from {
		if len(last.Events) >= limit && counted >= CountBound {
			last.AtLeast = true
			break
		}
		next, err := r.before(ctx, from, to, limit, match, &last)
		if err != nil {
			return Last{}, err
		}
		if len(last.Events) >= limit {
			counted += to - next
		}
		to = next
	}
	slices.Reverse(last.Events)
	return last, nil
}

// before looks at a part of [from, to) that ends at to, and gives the place
// where it begins. last.Events is newest first meanwhile.
func (r *Reader) before(ctx context.Context, from, to int64, limit int, match func(*event.Event) bool, last *Last) (int64, error) {
	if err := ctx.Err(); err != nil {
		return to, err
	}
	var buf [windowStep]*event.Event
	if n, next, ok := r.cfg.Window.descend(buf[:], from, to); ok {
		for _, ev := range buf[:n] {
			last.add(ev, limit, match)
		}
		return next, nil
	}
	// The log is read forwards only. Of what matches, no more is held than wanted.
	begin := max(from, to-logSpan)
	want := limit - len(last.Events)
	var found []*event.Event
	_, err := r.ascend(ctx, begin, to, func(ev *event.Event) bool {
		if !match(ev) {
			return true
		}
		if found = append(found, ev); len(found) > want {
			found[0] = nil
			found = found[1:]
			last.Skipped++
		}
		return true
	})
	slices.Reverse(found)
	last.Events = append(last.Events, found...)
	return begin, err
}

func (l *Last) add(ev *event.Event, limit int, match func(*event.Event) bool) {
	switch {
	case !match(ev):
	case len(l.Events) < limit:
		l.Events = append(l.Events, ev)
	default:
		l.Skipped++
	}
}
