package usage

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// A checkpoint is due when the deltas behind the one before are so many times its
// bytes, so that making them costs little beside the deltas, and a start reads
// little beside the checkpoint; and once a day in which something was counted.
const (
	checkpointEvery = 30 * time.Second // looked for; as long again at most, so that one of many nodes is first
	checkpointBytes = 1 << 20
	checkpointTimes = 4
)

func (b *book) due() bool {
	return b.since >= max(checkpointBytes, checkpointTimes*b.size) || b.since > 0 && b.day != b.checkpointed
}

// keep makes checkpoints until ctx ends.
func (t *Totals) keep(ctx context.Context) {
	for {
		select {
		case <-time.After(checkpointEvery + mathrand.N(checkpointEvery)):
		case <-ctx.Done():
			return
		}
		if err := t.checkpoint(ctx); err != nil && ctx.Err() == nil {
			t.logger.Warn("usage has no newer checkpoint, the next start reads more of its log", "error", err)
		}
	}
}

// checkpoint appends the book, if it is due, and gives up what lies before: all
// that is in it, but for the last two minutes.
func (t *Totals) checkpoint(ctx context.Context) error {
	t.mu.RLock()
	if t.book == nil || !t.book.due() || t.book.next == t.kept {
		t.mu.RUnlock()
		return nil
	}
	parts, before := t.book.parts(), t.book.next
	t.mu.RUnlock()
	if err := appendParts(ctx, t.log, parts); err != nil {
		return err
	}
	t.kept = before
	// Who starts now hears of windows that aren't over from the deltas themselves.
	open, err := t.log.OffsetAt(ctx, partition, time.Now().Add(-2*windowLen))
	if err != nil {
		return fmt.Errorf("look up what has open minutes: %w", err)
	}
	before = min(before, open)
	if err := t.log.Trim(ctx, partition, before); err != nil {
		return fmt.Errorf("trim up to %d: %w", before, err)
	}
	return nil
}

func appendParts(ctx context.Context, log eventlog.Appender, parts []*part) error {
	for _, p := range parts {
		ctx, cancel := context.WithTimeout(ctx, appendWithin)
		_, err := log.Append(ctx, []eventlog.Record{{Partition: partition, Value: encode(&record{Checkpoint: p})}})
		cancel()
		if err != nil {
			return fmt.Errorf("append part %d of %d: %w", p.Part, p.Parts, err)
		}
	}
	return nil
}

// Copy brings what was counted into another log, as a checkpoint. Nobody counts
// on either meanwhile.
func Copy(ctx context.Context, from Log, to eventlog.Appender) error {
	f := follower{Totals: NewTotals(TotalsConfig{Log: from})}
	if err := f.begin(ctx); err != nil {
		return err
	}
	for f.book.next < f.goal {
		records, err := from.Read(ctx, partition, f.book.next, readBytes)
		if err != nil {
			return fmt.Errorf("read %s from %d: %w", Topic.Name, f.book.next, err)
		}
		if err := f.fold(records); err != nil {
			return err
		}
	}
	return appendParts(ctx, to, f.book.parts())
}

// parts writes the book down.
func (b *book) parts() []*part {
	id := rand.Text()
	var all []*part
	size := maxRecord + 1 // of the newest part; there is none
	room := func(bytes int) *part {
		if size += bytes; size > maxRecord {
			all = append(all, &part{ID: id, Part: len(all), Deltas: b.deltas})
			size = bytes
		}
		return all[len(all)-1]
	}
	for writer, s := range b.writers {
		p := room(len(writer) + 30)
		if p.Writers == nil {
			p.Writers = make(map[string][2]int64)
		}
		p.Writers[writer] = [2]int64{int64(s.number), s.day}
	}
	for at, u := range b.accounts {
		p := room(len(at.org) + 50 + (len(u.months)+len(u.days))*(8+10*int(kinds)))
		p.Accounts = append(p.Accounts, accountJSON{Org: at.org, Env: at.env.String(), Months: numbers(u.months), Days: numbers(u.days)})
	}
	room(0)
	for _, p := range all {
		p.Parts = len(all)
	}
	return all
}

func numbers(spans []span) [][]int64 {
	out := make([][]int64, len(spans))
	for i := range spans {
		out[i] = append([]int64{spans[i].period}, trimmed(&spans[i].counts)...)
	}
	return out
}

// restore makes a book of a whole checkpoint.
func restore(parts []*part) *book {
	b := newBook()
	for _, p := range parts {
		b.deltas = p.Deltas
		for writer, s := range p.Writers {
			b.writers[writer] = seen{uint64(s[0]), s[1]}
		}
		for i := range p.Accounts {
			a := &p.Accounts[i]
			if env, known := event.ParseEnvironment(a.Env); known {
				b.accounts[account{a.Org, env}] = &use{months: spans(a.Months), days: spans(a.Days)}
			}
		}
	}
	return b
}

func spans(numbers [][]int64) []span {
	out := make([]span, len(numbers))
	for i, n := range numbers {
		out[i] = span{period: n[0], counts: counts(n[1:])}
	}
	slices.SortFunc(out, func(a, b span) int { return byPeriod(a, b.period) })
	return out
}

// gather collects the parts of checkpoints as they are read.
type gather struct {
	open map[string][]*part // by id
	best []*part            // the whole one that has the most deltas
}

func (g *gather) add(p *part) {
	if g.open == nil {
		g.open = make(map[string][]*part)
	}
	parts := append(g.open[p.ID], p)
	if p.Part != len(parts)-1 {
		delete(g.open, p.ID) // its beginning is gone
		return
	}
	if g.open[p.ID] = parts; len(parts) < p.Parts {
		return
	}
	delete(g.open, p.ID)
	// The newest isn't it where a node slept between making one and appending it,
	// and what that one lacks is given up.
	if g.best == nil || p.Deltas >= g.best[0].Deltas {
		g.best = parts
	}
}
