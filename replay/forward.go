package replay

import (
	"cmp"
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

// Most bounds a page. A member that is 0 doesn't.
type Most struct {
	Events int // in the page
	Data   int // bytes of their data, but for the first
	Looked int // bytes of what is looked at, whether it matches or not: about so many, and never more than ForwardBytes

	Into []*event.Event // empty, with room for the page's events; what it has no room for is allocated
}

// Forward gives the oldest events of [from, to) that match, as many as most allows. The
// work of one call is bounded in any case: a page may hold fewer, even none, and have
// More all the same; the next call goes on at Next. Nothing is ever passed over. More is
// false only if nothing else in the span matches, or is logged yet: Next is to then.
//
// ErrCursorExpired says that from isn't shown any more.
func (r *Reader) Forward(ctx context.Context, from, to int64, most Most, match func(*event.Event) bool) (Page, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return Page{}, err
	}
	if from < oldest {
		return Page{}, ErrCursorExpired
	}
	page := Page{Events: most.Into, Next: from}
	look := cmp.Or(most.Looked, ForwardBytes)
	events, looked, held := 0, 0, 0
	full := false
	next, err := r.ascend(ctx, from, to, func(ev *event.Event) bool {
		if match(ev) {
			if n := len(page.Events); n > 0 && (most.Events > 0 && n >= most.Events || most.Data > 0 && held+len(ev.Data) > most.Data) {
				full = true // this one is the next page's
				page.Next = ev.Offset
				return false
			}
			page.Events = append(page.Events, ev)
			held += len(ev.Data)
		}
		events++
		looked += weight(ev)
		return events < ForwardEvents && looked < min(look, ForwardBytes)
	})
	if err != nil {
		return Page{}, err
	}
	if full {
		page.More = true
		return page, nil
	}
	if next <= from { // the log ends before to
		next = max(from, to)
	}
	page.Next = next
	page.More = next < to
	return page, nil
}
