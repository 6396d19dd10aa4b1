package replay

import (
	"context"

	"sluice/pkg/event"
)

// CountBound is how many events Newest looks at, after it has what was asked
// for, only to count those that it leaves out.
const CountBound = 64 << 10

// logSpan is how many offsets Newest reads at a time where the window has none.
const logSpan = 1024

// Newest looks for where the newest few events of a span begin that match. If they
// exist it finds them, however far back; older ones it only counts, and not
// without end: CountBound. It goes a step at a time, so that others may come in
// between, and holds no event. It is one goroutine's.
type Newest struct {
	// What was found so far.
	From    int64 // the place of the oldest of them; the end of the span if there is none
	Found   int   // how many
	Skipped int64 // matches in the span that are older
	AtLeast bool  // there may be more than Skipped

	r       *Reader
	begin   int64
	end     int64 // of what wasn't looked at yet
	limit   int
	match   func(*event.Event) bool
	counted int64 // offsets looked at since limit was reached
}

// Newest begins to look for the newest events of [from, to) that match, at most
// limit.
func (r *Reader) Newest(ctx context.Context, from, to int64, limit int, match func(*event.Event) bool) (*Newest, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return nil, err
	}
	n := &Newest{From: to, r: r, begin: from, end: to, limit: limit, match: match}
	if from < oldest { // it expired since it was a place
		n.begin, n.AtLeast = oldest, true
	}
	return n, nil
}

// Step looks at the next part, from the end towards the beginning; false: there is
// nothing more to be looked at.
func (n *Newest) Step(ctx context.Context) (more bool, err error) {
	if n.end <= n.begin {
		return false, nil
	}
	if n.Found >= n.limit && n.counted >= CountBound {
		n.AtLeast = true
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	to := n.end
	var buf [windowStep]*event.Event
	if some, next, ok := n.r.cfg.Window.descend(buf[:], n.begin, to); ok {
		for _, ev := range buf[:some] {
			if n.match(ev) {
				n.add(ev.Offset)
			}
		}
		n.end = next
	} else if err := n.readBack(ctx); err != nil {
		return false, err
	}
	if n.Found >= n.limit {
		n.counted += to - n.end
	}
	return n.end > n.begin, nil
}

// readBack looks at a part of the log, which is read forwards only.
func (n *Newest) readBack(ctx context.Context) error {
	from := max(n.begin, n.end-logSpan)
	var matches [logSpan]bool // by the place
	_, err := n.r.ascend(ctx, from, n.end, func(ev *event.Event) bool {
		matches[ev.Offset-from] = n.match(ev)
		return true
	})
	for place := n.end - 1; place >= from; place-- {
		if matches[place-from] {
			n.add(place)
		}
	}
	n.end = from
	return err
}

func (n *Newest) add(place int64) {
	if n.Found == n.limit {
		n.Skipped++
		return
	}
	n.From = place
	n.Found++
}
