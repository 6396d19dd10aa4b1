package replay

import (
	"context"
	"time"

	"sluice/pkg/event"
)

// An id of ours tells when it was made. The log's clock and its maker's differ,
// and a publisher may have tried for a while before the log took the event.
const (
	findBefore = 10 * time.Second
	findAfter  = time.Minute
)

// Find gives the event with that id which org may see: the newest one that org
// published itself, else the newest one whose audience includes it; nil if there
// is none.
//
// It looks into the window; then, for an id of ours, around the time it was made
// at; then through all that is shown, of which few such searches run at a time.
func (r *Reader) Find(ctx context.Context, id, org string) (*event.Event, error) {
	oldest, err := r.Oldest(ctx)
	if err != nil {
		return nil, err
	}
	end, err := r.End(ctx)
	if err != nil {
		return nil, err
	}
	s := search{id: id, org: org}
	if start, stop := r.cfg.Window.Bounds(); stop > start {
		if _, err := r.ascend(ctx, max(start, oldest), end, s.visit); err != nil || s.own != nil {
			return s.own, err
		}
	}
	made, ours := event.IDTime(id)
	if ours {
		if err := r.findAround(ctx, made, end, &s); err != nil || s.best() != nil {
			return s.best(), err
		}
	}
	select {
	case r.finds <- struct{}{}:
		defer func() { <-r.finds }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if _, err := r.ascend(ctx, oldest, end, s.visit); err != nil {
		return nil, err
	}
	return s.best(), nil
}

func (r *Reader) findAround(ctx context.Context, made time.Time, end int64, s *search) error {
	from, err := r.At(ctx, made.Add(-findBefore))
	if err != nil {
		return err
	}
	to, err := r.At(ctx, made.Add(findAfter))
	if err != nil {
		return err
	}
	_, err = r.ascend(ctx, from, min(to, end), s.visit)
	return err
}

// search is what was found of an id so far.
type search struct {
	id, org      string
	own, foreign *event.Event
}

func (s *search) visit(ev *event.Event) bool {
	switch {
	case ev.ID != s.id:
	case ev.Org == s.org:
		s.own = newer(s.own, ev)
	case ev.Audience.Includes(s.org):
		s.foreign = newer(s.foreign, ev)
	}
	return true
}

func newer(a, b *event.Event) *event.Event {
	if a == nil || b.Offset > a.Offset {
		return b
	}
	return a
}

func (s *search) best() *event.Event {
	if s.own != nil {
		return s.own
	}
	return s.foreign
}
