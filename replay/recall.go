package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// What Recall looks at, at most. A copy comes no later behind its original than
// whoever completes a claim looks for it; bytes bound what a start may cost.
const (
	recallFor   = 2*time.Minute + 10*time.Second
	recallBytes = 64 << 20
	recallSpan  = 1024
)

// Recall has d know the events right before next as if it had followed them, so
// that the copy of one of them is told from now on: those of the last 2 min 10 s
// before, at most event.DoublesEvents, and about 64 MiB of them, and nothing from
// before what is damaged.
func Recall(ctx context.Context, log eventlog.Reader, env event.Environment, next int64, d *event.Doubles) error {
	p := eventlog.Partition{Topic: env.Topic()}
	from, end, err := log.Bounds(ctx, p)
	if err != nil {
		return fmt.Errorf("look for the events before %d: %w", next, err)
	}
	if next = min(next, end); next <= from {
		return nil
	}
	last, err := log.Read(ctx, p, next-1, 1)
	if err == nil && len(last) > 0 {
		var since int64
		since, err = log.OffsetAt(ctx, p, last[0].Time.Add(-recallFor))
		from = max(from, since, next-event.DoublesEvents)
	}
	// The newest first, for the bound in bytes; each span in its order.
	var spans [][]*event.Event
	bytes := 0
	for to := next; err == nil && to > from && bytes < recallBytes; {
		at := max(from, to-recallSpan)
		var claimed []*event.Event
		var n int
		claimed, n, err = claims(ctx, log, env, at, to)
		spans, bytes, to = append(spans, claimed), bytes+n, at
	}
	// The oldest of them may expire meanwhile. And who follows what comes doesn't stop
	// for damage that lies before it: rather a copy comes twice.
	if err != nil && !errors.Is(err, eventlog.ErrTooOld) && !errors.Is(err, eventlog.ErrDamaged) {
		return fmt.Errorf("read the events before %d: %w", next, err)
	}
	for i := len(spans) - 1; i >= 0; i-- {
		for _, ev := range spans[i] {
			d.Double(ev)
		}
	}
	return nil
}

// claims reads the events of [from, to) that carry a claim, without the rest of
// them, and tells how many bytes it read.
func claims(ctx context.Context, log eventlog.Reader, env event.Environment, from, to int64) (claimed []*event.Event, bytes int, err error) {
	for from < to {
		records, err := log.Read(ctx, eventlog.Partition{Topic: env.Topic()}, from, 1<<20)
		if err != nil || len(records) == 0 {
			return claimed, bytes, err
		}
		for i := range records {
			r := &records[i]
			if from = r.Offset + 1; from > to {
				break
			}
			bytes += len(r.Value)
			if ev, err := event.FromLog(r.Value, env, r.Offset, r.Time); err == nil && ev.Claim != (event.Claim{}) {
				claimed = append(claimed, &event.Event{Offset: ev.Offset, Claim: ev.Claim})
			}
		}
	}
	return claimed, bytes, nil
}
