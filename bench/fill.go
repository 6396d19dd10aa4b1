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
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
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
func (f *filling) log(ctx context.Context, token string) (err error) {
	topics := []eventlog.Topic{control.Topic}
	for _, env := range event.Environments {
		topics = append(topics, eventlog.Topic{Name: env.Topic(), Partitions: 1})
	}
	log, err := embedded.Open(ctx, embedded.Config{Dir: f.path("data/log"), Topics: topics})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	sealer, err := control.CreateSealer(f.path("data/secrets.key"))
	if err != nil {
		return err
	}
	c, err := control.Open(ctx, control.Config{Log: log, Sealer: sealer, Lanes: delivery.Lanes})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err := control.Bootstrap(ctx, c, token); err != nil {
		return err
	}
	if err := f.orgs(ctx, c); err != nil {
		return err
	}
	// Events first: endpoints are owed nothing from before they were made.
	if err := f.events(ctx, log); err != nil {
		return err
	}
	return f.endpoints(ctx, c)
}

func (f *filling) org(n int) string { return fmt.Sprintf("org_bench%013d", n) }

func (f *filling) orgs(ctx context.Context, c *control.Control) error {
	for n := range f.orgCount() {
		if _, err := c.Do(ctx, &control.CreateOrg{ID: f.org(n), Name: "Some Org", Plan: control.Enterprise}); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) orgCount() int { return (f.cfg.Start.Endpoints + startOrgSize - 1) / startOrgSize }

// fillBatch is how many events one append has.
const fillBatch = 10_000

func (f *filling) events(ctx context.Context, log eventlog.Log) error {
	const recordBytes, own = 300, 130 // of which what isn't padding takes about so many
	noise := noise(1 << 20)
	orgs := max(f.orgCount(), 1)
	return f.inParallel(ctx, "events", f.cfg.Start.Events, 2, fillBatch, func(from, to int) error {
		records := make([]eventlog.Record, 0, fillBatch)
		now := time.Now()
		for i := from; i < to; i++ {
			org := f.org(i % orgs)
			pad := rand.IntN(len(noise) - recordBytes)
			ev := event.Event{
				ID: event.NewID(now), Type: "bench.tick", Timestamp: now.UTC(), Environment: event.Live, Org: org, Key: org,
				Audience: event.Audience{Orgs: []string{org}}, Data: []byte(`{"pad":"` + noise[pad:pad+recordBytes-own] + `"}`),
			}
			records = append(records, eventlog.Record{Partition: eventlog.Partition{Topic: event.Live.Topic()}, Key: []byte(org), Value: ev.AppendRecord(nil)})
		}
		_, err := log.Append(ctx, records)
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

func (f *filling) endpoints(ctx context.Context, c *control.Control) error {
	secret := []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")
	return f.inParallel(ctx, "endpoints", f.cfg.Start.Endpoints, 128, 1, func(from, _ int) error {
		_, err := c.Do(ctx, &control.CreateEndpoint{
			Org: f.org(from / startOrgSize), Environment: event.Live, Dialect: "tetrafi",
			URL:      fmt.Sprintf("https://hooks.example.com/receivers/%08d/in", from),
			Patterns: []string{fmt.Sprintf("kind%d.*", from%100), "settlement.completed"}, Secret: secret,
		})
		return err
	})
}

// inParallel does n things, so many at a time, and tells how far it is and how
// long it took.
func (f *filling) inParallel(ctx context.Context, what string, n, workers, size int, do func(from, to int) error) error {
	begun := time.Now()
	var next, done atomic.Int64
	var running sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		running.Go(func() {
			for from := int(next.Add(int64(size))) - size; from < n && ctx.Err() == nil; from = int(next.Add(int64(size))) - size {
				to := min(from+size, n)
				if err := do(from, to); err != nil {
					errs <- err
					return
				}
				done.Add(int64(to - from))
			}
		})
	}
	stop := f.progress(what, int64(n), done.Load)
	running.Wait()
	stop()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	fmt.Fprintf(f.cfg.Out, "  filled with %d %s in %.1f s\n", n, what, time.Since(begun).Seconds())
	return ctx.Err()
}

// progress tells every few seconds how much is done, until stop is called.
func (f *filling) progress(what string, n int64, done func() int64) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(f.cfg.Out, "  %d of %d %s\n", done(), n, what)
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// settle runs the product over what was filled until fan-out has seen all of it,
// and stops it.
func (f *filling) settle(ctx context.Context, token string) error {
	p, err := serve(ctx, f.cfg.Binary, f.path("data"), token, startWithin)
	if err != nil {
		return err
	}
	defer p.stop()
	seen := func() int64 { return int64(p.metric("sluice_fanout_events_total")) }
	stop := f.progress("events fanned out", int64(f.cfg.Start.Events), seen)
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
