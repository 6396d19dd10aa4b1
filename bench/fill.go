package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
)

// What a filled directory holds, beside the product's data directory.
const (
	keyFile    = "key"    // of its first org, live
	filledFile = "filled" // says with what
)

// fillStart fills the directory that the row start begins with, unless that was
// done before: events through the log, endpoints through control. Then the
// product runs over it once, for fan-out to come to the end.
func fillStart(ctx context.Context, cfg *Config) (undo func(), err error) {
	undo = func() {}
	if cfg.Start.Dir == "" {
		if cfg.Start.Dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
			return undo, err
		}
		dir := cfg.Start.Dir
		undo = func() { os.RemoveAll(dir) }
	}
	f := filling{cfg: cfg, size: fmt.Sprintf("%d endpoints, %d events", cfg.Start.Endpoints, cfg.Start.Events)}
	switch has, err := os.ReadFile(f.path(filledFile)); {
	case errors.Is(err, fs.ErrNotExist):
		return undo, f.run(ctx)
	case err != nil:
		return undo, err
	case string(has) != f.size:
		return undo, fmt.Errorf("%s holds %s, not %s: name another directory", cfg.Start.Dir, has, f.size)
	}
	return undo, nil
}

type filling struct {
	cfg  *Config
	size string
}

func (f *filling) path(name string) string { return filepath.Join(f.cfg.Start.Dir, name) }

func (f *filling) run(ctx context.Context) error {
	token := string(key.New(event.Live))
	if err := os.MkdirAll(f.path("data"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(f.path(keyFile), []byte(token), 0o600); err != nil {
		return err
	}
	for _, step := range []func(context.Context, string) error{f.log, f.settle} {
		if err := step(ctx, token); err != nil {
			return fmt.Errorf("fill %s: %w", f.cfg.Start.Dir, err)
		}
	}
	return os.WriteFile(f.path(filledFile), []byte(f.size), 0o600)
}

// log puts events and endpoints into a log of which nobody else knows yet.
func (f *filling) log(ctx context.Context, token string) error {
	return sow(ctx, f.cfg.Out, f.path("data"), token, nil, func(s *seed) error {
		if err := s.orgs(ctx, f.orgs()); err != nil {
			return err
		}
		// Events first: endpoints are owed nothing from before they were made.
		if err := f.events(ctx, s); err != nil {
			return err
		}
		return inParallel(ctx, s.out, "endpoints", f.cfg.Start.Endpoints, 128, 1, func(from, _ int) error {
			_, err := s.endpoint(ctx, from/startOrgSize, fmt.Sprintf("https://hooks.example.com/receivers/%08d/in", from),
				fmt.Sprintf("kind%d.*", from%100), "settlement.completed")
			return err
		})
	})
}

func (f *filling) orgs() int { return (f.cfg.Start.Endpoints + startOrgSize - 1) / startOrgSize }

// fillBatch is how many events one append has.
const fillBatch = 10_000

func (f *filling) events(ctx context.Context, s *seed) error {
	const recordBytes, own = 300, 130 // of which what isn't padding takes about so many
	noise := noise(1 << 20)
	orgs := max(f.orgs(), 1)
	return inParallel(ctx, s.out, "events", f.cfg.Start.Events, 2, fillBatch, func(from, to int) error {
		records := make([]eventlog.Record, 0, fillBatch)
		now := time.Now()
		for i := from; i < to; i++ {
			org := orgID(i % orgs)
			pad := rand.IntN(len(noise) - recordBytes)
			ev := event.Event{
				ID: event.NewID(now), Type: "bench.tick", Timestamp: now.UTC(), Environment: s.env, Org: org, Key: org,
				Audience: event.Audience{Orgs: []string{org}}, Data: []byte(`{"pad":"` + noise[pad:pad+recordBytes-own] + `"}`),
			}
			records = append(records, eventlog.Record{Partition: eventlog.Partition{Topic: s.env.Topic()}, Key: []byte(org), Value: ev.AppendRecord(nil)})
		}
		_, err := s.log.Append(ctx, records)
		return err
	})
}

// noise is text that doesn't compress to nothing.
func noise(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	var b strings.Builder
	for range n {
		b.WriteByte(letters[rand.IntN(len(letters))])
	}
	return b.String()
}

// settle runs the product over what was filled until fan-out has seen all of it,
// and stops it.
func (f *filling) settle(ctx context.Context, token string) error {
	p, err := serve(ctx, f.cfg, f.path("data"), token, startWithin)
	if err != nil {
		return err
	}
	defer p.stop()
	seen := func() int64 { return int64(p.metric("sluice_fanout_events_total")) }
	stop := progress(f.cfg.Out, "events fanned out", int64(f.cfg.Start.Events), seen)
	defer stop()
	for begun := time.Now(); seen() < int64(f.cfg.Start.Events); {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Since(begun) > time.Hour {
			return fmt.Errorf("fan-out came to %d of %d events in an hour; sluice said: %s", seen(), f.cfg.Start.Events, p.stderr.String())
		}
	}
	return nil
}
