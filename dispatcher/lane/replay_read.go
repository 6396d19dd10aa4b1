package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/filter"
	"sluice/replay"
)

// found is what was read for a replay.
type found struct {
	cursor    *cursor
	from, end int64 // of dead letters, looked up for the first chunk
	at, next  int64 // what was looked at
	jobs      []*job
	expired   []passed
}

// readReplay begins a replay's next chunk. Where memory is full of what others can't
// send yet, those whose turn comes last read theirs again.
func (l *Lane) readReplay(c *cursor) {
	r := &l.replays
	for r.bytes >= replayBytes {
		last := len(r.running) - 1
		for r.running[last].bytes == 0 {
			last--
		}
		l.rewind(r.running[last])
	}
	r.reading = true
	look := lookup{lane: l, replay: c.replay, ep: c.target.ep, marks: l.deadMarks, found: found{cursor: c, from: c.from, end: c.end, at: c.read, next: c.read}}
	l.run(look.run)
}

// lookup reads for a replay, outside the lane's goroutine.
type lookup struct {
	found
	lane   *Lane
	replay *control.Replay
	ep     *endpoint.Endpoint
	filter *filter.Filter // nil: none
	marks  marks          // of dead
}

func (k *lookup) run(ctx context.Context) {
	read := k.events
	if k.replay.FailedOnly {
		read = k.letters
	}
	if err := read(ctx); err != nil {
		if ctx.Err() == nil {
			k.lane.fail(fmt.Errorf("read for replay %s from %d: %w", k.replay.ID, k.at, err))
		}
		return
	}
	select {
	case k.lane.found <- k.found:
	case <-ctx.Done():
	}
}

// events reads what there was, as the org may see it. What was logged before the
// endpoint was made is sent, too: nobody is owed it, but its owner asked for it.
func (k *lookup) events(ctx context.Context) error {
	if text := k.ep.Options.Filter; text != "" {
		var err error
		if k.filter, err = filter.Of(text); err != nil {
			return err // control wouldn't have taken it
		}
	}
	past := k.lane.cfg.Past[k.ep.Environment]
	for range replayChunks {
		page, err := past.Forward(ctx, k.next, k.end, replay.Most{Looked: replayChunk}, k.wants)
		if errors.Is(err, replay.ErrCursorExpired) {
			return k.expire(ctx, past)
		}
		if err != nil {
			return err
		}
		k.next = page.Next
		for _, ev := range page.Events {
			k.add(ev.Offset, ev, false, ev.Logged)
		}
		if len(page.Events) > 0 || !page.More {
			break
		}
	}
	return nil
}

// expire passes over what isn't shown any more, or gone.
func (k *lookup) expire(ctx context.Context, past *replay.Reader) error {
	oldest, err := past.Oldest(ctx)
	if err != nil {
		return err
	}
	start, _, err := k.lane.cfg.Log.Bounds(ctx, eventlog.Partition{Topic: k.ep.Environment.Topic()})
	from := k.next
	k.next = max(from, min(max(oldest, start), k.end))
	k.expired = append(k.expired, passed{from, k.next - from})
	return err
}

func (k *lookup) wants(ev *event.Event) bool {
	patterns := k.replay.Patterns
	if patterns == nil {
		patterns = k.ep.Patterns
	}
	return ev.Audience.Includes(k.ep.Org) && patterns.Match(ev.Type) && (k.filter == nil || k.filter.Match(ev))
}

// letters reads the endpoint's dead letters, whose events lie in the span asked for:
// up to the newest that there was when the replay began.
func (k *lookup) letters(ctx context.Context) error {
	l, r := k.lane, k.replay
	p := l.partition(delivery.DeadTopic)
	start, end, err := l.cfg.Log.Bounds(ctx, p)
	if err != nil {
		return err
	}
	if k.end < 0 {
		// A letter is behind its event; a little earlier, for two clocks.
		from, err := l.cfg.Log.OffsetAt(ctx, p, r.Since.Add(-time.Minute))
		if err != nil {
			return err
		}
		k.from, k.end = from, end
		k.at = k.from
	}
	k.at = min(max(k.at, start), k.end) // older ones have expired
	if k.next = k.at; k.at == k.end {
		return nil
	}
	oldest, err := l.cfg.Past[k.ep.Environment].Oldest(ctx)
	if err != nil {
		return err
	}
	records, err := l.cfg.Log.Read(ctx, p, k.at, replayChunk)
	if err != nil && !errors.Is(err, eventlog.ErrTooOld) {
		return err
	}
	for i := range records {
		rec := &records[i]
		if rec.Offset >= k.end {
			break
		}
		k.next = rec.Offset + 1
		d, err := delivery.DecodeDelivery(rec.Value)
		if err != nil || d.Endpoint != k.ep.ID || d.Replay() == r.ID || d.Test || d.Event.ID == "" || len(d.Kept()) > 0 {
			continue
		}
		ev := &d.Event
		switch {
		case ev.Offset < r.From || ev.Offset >= r.To || r.Patterns != nil && !r.Patterns.Match(ev.Type):
		case !k.marks.count(rec.Offset, d.Generation):
		case ev.Offset < oldest:
			k.expired = append(k.expired, passed{rec.Offset, 1})
		default:
			k.add(rec.Offset, ev, d.Reference, rec.Time)
		}
	}
	if len(records) == 0 {
		k.next = k.end
	}
	return nil
}

func (k *lookup) add(offset int64, ev *event.Event, reference bool, logged time.Time) {
	d := delivery.NewReplay(ev, reference, k.ep.ID, k.replay.ID)
	k.jobs = append(k.jobs, &job{delivery: d, target: k.cursor.target, replay: k.cursor, offset: offset, logged: logged, bytes: len(ev.Data) + 400})
}

// foundReplay takes what was read for a replay.
func (l *Lane) foundReplay(f found) {
	c := f.cursor
	l.replays.reading = false
	if c.target.replay != c || c.replay.Cancelled {
		return
	}
	c.from, c.end, c.read = f.from, f.end, f.next
	for _, p := range f.expired {
		c.expire(p)
	}
	for _, j := range f.jobs {
		if _, done := c.done[j.offset]; !done {
			c.ready = append(c.ready, j)
			c.bytes += j.bytes
		}
	}
	l.replays.bytes += c.bytes
	if len(c.ready) == 0 {
		l.replays.served(c) // or nobody else would read before all is looked through
	}
	l.dirty = true
}
