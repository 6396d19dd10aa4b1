package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/key"
)

// seed is a data directory on which nothing runs yet. What is put there goes past
// the API, so that there may be much of it, and the product finds it when it starts.
type seed struct {
	env     event.Environment // of the token, and of all that is made
	out     io.Writer
	log     eventlog.Log
	control *control.Control
}

// sow lets put fill a data directory, whose default org has the token's key. It has
// the topics of events, and those.
func sow(ctx context.Context, out io.Writer, dir, token string, topics []eventlog.Topic, put func(*seed) error) (err error) {
	env, err := key.Check(token)
	if err != nil {
		return err
	}
	topics = append([]eventlog.Topic{control.Topic}, topics...)
	for _, env := range event.Environments {
		topics = append(topics, eventlog.Topic{Name: env.Topic(), Partitions: 1})
	}
	log, err := embedded.Open(ctx, embedded.Config{Dir: filepath.Join(dir, "log"), Topics: topics})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	sealer, err := control.CreateSealer(filepath.Join(dir, "secrets.key"))
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
	return put(&seed{env: env, out: out, log: log, control: c})
}

// startSown starts a product on a directory of its own that put has filled.
func startSown(ctx context.Context, cfg *Config, topics []eventlog.Topic, put func(*seed) error) (*product, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	token, data := string(key.New(event.Sandbox)), filepath.Join(dir, "data")
	err = os.Mkdir(data, 0o700)
	if err == nil {
		err = sow(ctx, cfg.Out, data, token, topics, put)
	}
	var p *product
	if err == nil {
		p, err = serve(ctx, cfg, data, token, startWithin)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	p.dir = dir
	return p, nil
}

// orgID gives the id of the org with that number.
func orgID(n int) string { return fmt.Sprintf("org_bench%013d", n) }

// allOrgs gives the audience of the first n orgs.
func allOrgs(n int) []byte {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = orgID(i)
	}
	audience, err := json.Marshal(ids)
	if err != nil {
		panic(err) // of strings
	}
	return audience
}

// orgs makes n orgs.
func (s *seed) orgs(ctx context.Context, n int) error {
	for i := range n {
		if _, err := s.control.Do(ctx, &control.CreateOrg{ID: orgID(i), Name: "Some Org", Plan: control.Enterprise}); err != nil {
			return err
		}
	}
	return nil
}

var seedSecret = endpoint.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")

// endpoint makes one and gives its id.
func (s *seed) endpoint(ctx context.Context, org int, url string, patterns ...string) (string, error) {
	cmd := control.CreateEndpoint{Org: orgID(org), Environment: s.env, Dialect: "tetrafi", URL: url, Patterns: patterns, Secret: seedSecret}
	_, err := s.control.Do(ctx, &cmd)
	return cmd.ID, err
}

// inParallel does n things, so many at a time, and tells how far it is and how
// long it took.
func inParallel(ctx context.Context, out io.Writer, what string, n, workers, size int, do func(from, to int) error) error {
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
	stop := progress(out, what, int64(n), done.Load)
	running.Wait()
	stop()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	fmt.Fprintf(out, "  filled with %d %s in %.1f s\n", n, what, time.Since(begun).Seconds())
	return ctx.Err()
}

// progress tells every few seconds how much is done, until stop is called.
func progress(out io.Writer, what string, n int64, done func() int64) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(out, "  %d of %d %s\n", done(), n, what)
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}
