package replay

import (
	"context"

	"sluice/pkg/event"
)

// The bounds of what one call of Forward looks at.
const (
	ForwardEvents = 64 << 10
	ForwardBytes  = 64 << 20
)

// Page is what Forward found.
type Page struct {
	Events []*event.Event // oldest first
	Next   int64          // where to go on: behind everything that was looked at and isn't in a later page
	More   bool           // there may be more before the end of the span
}

// Forward gives the oldest events of [from, to) that match: at most limit, and but
// for the first no more than so many bytes of data. The work of one call is
// bounded: a page may hold fewer, even none, and have More all the same; the next
// call goes on at Next. Nothing is ever passed over. More is false only if nothing
// else in the span matches.
//
// ErrCursorExpired says that from isn't shown any more.
func (r *Reader) Forward(ctx context.Context, from, to int64, limit, bytes int, match func(*event.Event) bool) (Page, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return Page{}, err
	}
	if from < oldest {
		return Page{}, ErrCursorExpired
	}
	page := Page{Next: from}
	events, looked, held := 0, 0, 0
	full := false
	next, err := r.ascend(ctx, from, to, func(ev *event.Event) bool {
		if match(ev) {
			if len(page.Events) > 0 && (len(page.Events) >= limit || held+len(ev.Data) > bytes) {
				full = true // this one is the next page's
				page.Next = ev.Offset
				return false
			}
			page.Events = append(page.Events, ev)
			held += len(ev.Data)
		}
		events++
		looked += weight(ev)
		return events < ForwardEvents && looked < ForwardBytes
	})
	if err != nil {
		return Page{}, err
	}
	if full {
		page.More = true
		return page, nil
	}
	page.Next = max(next, from)
	page.More = next < to
	return page, nil
}
