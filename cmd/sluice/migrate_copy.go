package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"sluice/dispatcher"
	"sluice/dispatcher/lane"
	"sluice/gateway/idem"
	"sluice/pkg/control"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/kafka"
	"sluice/pkg/notice"
	"sluice/pkg/usage"
)

// migration is one on its way.
type migration struct {
	from    leaving
	control *control.Control // of the log that is left
	to      eventlog.Appender
	filling *kafka.Filling // to; nil: nothing is written
	key     string         // file of the sealing key
	sealer  *control.Sealer
	dry     bool
	said    migrationProgress

	starts map[event.Environment]int64 // first events here: the other log begins at 0

	events, unfanned map[event.Environment]int64
	orgs, endpoints  int64
	commands, claims int64
	owed             lane.Moved // of all lanes
}

// readControl reads the state that is left.
func (m *migration) readControl(ctx context.Context) (err error) {
	if m.sealer, err = loadSealer(m.key); err != nil {
		return err
	}
	start, end, err := m.from.Bounds(ctx, eventlog.Partition{Topic: control.Topic.Name})
	if err != nil {
		return err
	}
	if start == end {
		return errors.New("--data: nothing was ever written there: start sluice serve with --brokers, there is nothing to migrate")
	}
	m.control, err = control.Open(ctx, control.Config{Log: m.from, Sealer: m.sealer})
	if errors.Is(err, errLeaving) {
		err = fmt.Errorf("%s isn't the key that secrets are sealed with at last: start sluice serve on the directory with it once: %w", m.key, err)
	}
	return err
}

func (m *migration) run(ctx context.Context) error {
	m.starts, m.events, m.unfanned = make(map[event.Environment]int64), make(map[event.Environment]int64), make(map[event.Environment]int64)
	for _, step := range []func(context.Context) error{m.count, m.copyEvents, m.copyClaims, m.copyNotices, m.copyControl, m.copyUsage, m.moveLanes, m.begin} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// count looks up how much there is.
func (m *migration) count(ctx context.Context) error {
	for _, env := range event.Environments {
		start, end, err := m.from.Bounds(ctx, eventlog.Partition{Topic: env.Topic()})
		if err != nil {
			return err
		}
		m.starts[env], m.events[env] = start, end-start
		m.said.all += end - start
	}
	for _, t := range []struct {
		eventlog.Topic
		n *int64
	}{{idem.Topic, &m.claims}, {control.Topic, &m.commands}, {notice.Topic, new(int64)}} {
		for number := range t.Partitions {
			start, end, err := m.from.Bounds(ctx, eventlog.Partition{Topic: t.Name, Number: number})
			if err != nil {
				return err
			}
			*t.n += end - start
			m.said.all += end - start
		}
	}
	for _, org := range m.control.Orgs() {
		m.orgs++
		for _, env := range event.Environments {
			page, _ := m.control.Endpoints(org.ID, env, 0, control.MaxEndpoints)
			m.endpoints += int64(len(page))
		}
	}
	return nil
}

// place gives an event's offset in the other log, which begins with the oldest
// event that there is.
func (m *migration) place(env event.Environment, offset int64) int64 {
	return max(offset-m.starts[env], 0)
}

func (m *migration) copyEvents(ctx context.Context) error {
	for _, env := range event.Environments {
		if err := m.copy(ctx, eventlog.Partition{Topic: env.Topic()}, nil); err != nil {
			return err
		}
	}
	return nil
}

// copyClaims brings over what was published by key or id in the last day. On the
// log that is left claims and their events were one append: none is unfinished.
func (m *migration) copyClaims(ctx context.Context) error {
	for number := range idem.Topic.Partitions {
		if err := m.copy(ctx, eventlog.Partition{Topic: idem.Topic.Name, Number: number}, nil); err != nil {
			return err
		}
	}
	return nil
}

// copyNotices brings over what orgs were told, and are still to be told.
func (m *migration) copyNotices(ctx context.Context) error {
	return m.copy(ctx, eventlog.Partition{Topic: notice.Topic.Name}, nil)
}

func (m *migration) copyControl(ctx context.Context) error {
	p := eventlog.Partition{Topic: control.Topic.Name}
	switch start, _, err := m.from.Bounds(ctx, p); {
	case err != nil:
		return err
	case start != 0:
		return fmt.Errorf("the first %d commands of control are gone: what they made can't be carried", start)
	}
	mover := &control.Mover{Place: m.place}
	return m.copy(ctx, p, func(r *eventlog.Record) (err error) {
		r.Value, err = mover.Move(r)
		return err
	})
}

// copyBytes is about how much is read and appended at once.
const copyBytes = 4 << 20

// copy brings a partition over, record by record, changed by edit.
func (m *migration) copy(ctx context.Context, p eventlog.Partition, edit func(*eventlog.Record) error) error {
	start, end, err := m.from.Bounds(ctx, p)
	if err != nil || m.dry {
		return err
	}
	for at := start; at < end; {
		records, err := m.from.Read(ctx, p, at, copyBytes)
		if err != nil {
			return err
		}
		for i := range records {
			if edit != nil {
				if err := edit(&records[i]); err != nil {
					return err
				}
			}
		}
		offsets, err := m.to.Append(ctx, records)
		if err != nil {
			return err
		}
		for i, have := range offsets {
			if want := records[i].Offset - start; have != want {
				return fmt.Errorf("topic %s gave offset %d, not %d: somebody else appends there", p.Topic, have, want)
			}
		}
		at += int64(len(records))
		m.said.copied(p.Topic, len(records))
	}
	return nil
}

// copyUsage brings over what was counted of all orgs.
func (m *migration) copyUsage(ctx context.Context) error {
	if m.dry {
		return nil
	}
	return usage.Copy(ctx, m.from, m.to)
}

// moveLanes brings over what is owed.
func (m *migration) moveLanes(ctx context.Context) error {
	m.said.now("what is owed")
	d := dispatcher.New(dispatcher.Config{Log: m.from, Control: m.control, Dialects: all.Dialects, Logger: slog.New(slog.DiscardHandler)})
	return d.Move(ctx, m.to, m.place, func(number int32, moved lane.Moved) {
		m.owed.First += moved.First
		m.owed.Retries += moved.Retries
		m.owed.Held += moved.Held
		m.owed.Dead += moved.Dead
		m.owed.Replays += moved.Replays
		if int(number) < len(event.Environments) {
			env := event.Environments[number]
			m.unfanned[env] = m.events[env] - m.place(env, moved.FanOut)
		}
	})
}

// begin reads the state of the other log, as a node there will, and begins its
// incarnation. Then it is one that nodes may use.
func (m *migration) begin(ctx context.Context) error {
	if m.dry {
		return nil
	}
	c, err := control.Open(ctx, control.Config{Log: m.filling, Sealer: m.sealer})
	if err != nil {
		return err
	}
	defer c.Close()
	if have, want := c.Skipped(), m.control.Skipped(); have != want {
		return fmt.Errorf("%d commands can't be read there, and %d here", have, want)
	}
	if _, err := c.Do(ctx, &control.NewIncarnation{}); err != nil {
		return err
	}
	m.said.now("the end")
	return m.filling.Settle(ctx)
}

// migrationProgress tells how far it is: on a terminal all the time, else every
// ten seconds.
type migrationProgress struct {
	to       io.Writer
	terminal bool

	all, done    int64
	began, drawn time.Time
	shown        bool
}

func (p *migrationProgress) copied(topic string, records int) {
	now := time.Now()
	if p.began.IsZero() {
		p.began, p.drawn = now, now
	}
	p.done += int64(records)
	took := now.Sub(p.began)
	rate := perSecond(p.done, took)
	if took < time.Second || rate == 0 {
		return
	}
	left := time.Duration(float64(p.all-p.done) / float64(rate) * float64(time.Second))
	p.draw(now, fmt.Sprintf("%s: %s of %s (%d %%) · %s/s · %v left",
		topic, thousands(p.done), thousands(p.all), 100*p.done/max(p.all, 1), thousands(rate), left.Round(time.Second)))
}

func (p *migrationProgress) now(what string) {
	if p.terminal {
		p.drawn = time.Time{}
		p.draw(time.Now(), what)
	}
}

func (p *migrationProgress) draw(now time.Time, line string) {
	switch {
	case p.terminal && now.Sub(p.drawn) >= drawEvery:
		fmt.Fprintf(p.to, "\r\x1b[K%s", line)
		p.shown = true
	case !p.terminal && now.Sub(p.drawn) >= 10*time.Second:
		fmt.Fprintln(p.to, line)
	default:
		return
	}
	p.drawn = now
}

func (p *migrationProgress) end() {
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
