package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sluice/pkg/datadir"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/kafka"
)

// migrateCmd brings what is in a data directory to brokers. The directory's lock
// proves that nobody runs on it, and that it doesn't change meanwhile.
//
//	data ─► topics are made, and marked ─► events, claims ─► control ─► what lanes owe ─► new incarnation ─► mark goes
//	                       │
//	                       └── from here on sluice serve refuses them, until the end
type migrateCmd struct {
	Data           string  `default:"./data" env:"SLUICE_DATA" placeholder:"DIR" group:"log" help:"Data directory to migrate; no process may run on it. It isn't changed. Default: ${default}."`
	Brokers        brokers `required:"" env:"SLUICE_BROKERS" placeholder:"HOST:PORT,…" group:"log" help:"Kafka or Redpanda brokers to migrate to."`
	Prefix         string  `default:"sluice." env:"SLUICE_PREFIX" placeholder:"TEXT" group:"log" help:"What names of topics shall begin with. Default: ${default}."`
	SecretsKeyFile string  `env:"SLUICE_SECRETS_KEY_FILE" placeholder:"FILE" group:"log" help:"Key that webhook secrets are sealed with. Default: secrets.key in --data."`
	Again          bool    `help:"Begin anew after a migration that was given up: first delete the topics that it made. Others are never deleted."`
	DryRun         bool    `help:"Say what would be migrated, and call no brokers."`

	kafkaFlags
}

// Help is shown by sluice migrate --help.
func (migrateCmd) Help() string {
	return `Carries events of both environments in their order and with their times, orgs, what they used, keys and
endpoints, the Idempotency-Keys and ids of the last 24 hours, and all that is owed: deliveries not made yet,
retries with their attempts and due times, what is held, dead letters. Events not yet fanned out are fanned
out there, and no other is. What past attempts were answered isn't carried. Secrets stay sealed with the key they are sealed with: every
node on the brokers needs a copy of its file.

The topics must be new: ones that have been used are refused. The brokers' user must be allowed to create topics
and to change and delete them (Create, AlterConfigs, Delete), beside what sluice serve needs. While it lasts, and
when it is interrupted, sluice serve refuses the topics; give the same command again, with --again.

Cursors from before expire: clients are told cursor_expired, and begin anew or read GET /v1/events. --data
stays as it is, so that you can go back to it. What was published on the brokers since isn't in it then, and
what was delivered since is delivered again: start only one of the two.

Examples:

    sluice migrate --data /var/lib/sluice --brokers kafka-1:9092,kafka-2:9092 --dry-run
    sluice migrate --data /var/lib/sluice --brokers kafka-1:9092,kafka-2:9092`
}

// Validate stops combinations that can't work.
func (c *migrateCmd) Validate() error { return c.check(true) }

func (c *migrateCmd) Run(ctx context.Context, s std) (err error) {
	began := time.Now()
	logger := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m := &migration{key: cmp.Or(c.SecretsKeyFile, filepath.Join(c.Data, secretsKeyFile)), dry: c.DryRun,
		said: migrationProgress{to: s.Err, terminal: isTerminal(s.Err)}}
	from, lock, err := c.open(ctx, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close(), lock.Release()) }()
	m.from = leaving{from}
	if err := m.readControl(ctx); err != nil {
		return err
	}
	defer m.control.Close()
	m.to = &counted{ends: make(map[eventlog.Partition]int64)}
	if !m.dry {
		to, err := c.fill(ctx, logger)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, to.Close()) }()
		m.to, m.filling = to, to
	}
	err = m.run(ctx)
	m.said.end()
	switch {
	case err == nil:
		return c.report(m, s, time.Since(began))
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	if !m.dry {
		err = fmt.Errorf("%w: the migration isn't finished, and sluice serve refuses its topics: give the same command again, with --again", err)
	}
	return err
}

// open takes the directory and opens the log that is left. Nothing in it grows too
// old meanwhile.
func (c *migrateCmd) open(ctx context.Context, logger *slog.Logger) (*embedded.Log, *datadir.Lock, error) {
	dir := filepath.Join(c.Data, logDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("--data: there is no log in %s: name the data directory of sluice serve", c.Data)
	}
	lock, err := takeData(c.Data)
	if err != nil {
		return nil, nil, err
	}
	kept := topics()
	for i := range kept {
		kept[i].Retention = 0
	}
	l, err := embedded.Open(ctx, embedded.Config{Dir: dir, Topics: kept, Logger: logger})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--data: %w", err), lock.Release())
	}
	return l, lock, nil
}

// fill makes the topics.
func (c *migrateCmd) fill(ctx context.Context, logger *slog.Logger) (*kafka.Filling, error) {
	cfg, err := c.config(c.Brokers, c.Prefix, logger)
	if err != nil {
		return nil, err
	}
	to, err := kafka.Fill(ctx, cfg, c.Again)
	if err != nil {
		return nil, c.brokersError(err)
	}
	return to, nil
}

// report says what was carried, and what is to be done now.
func (c *migrateCmd) report(m *migration, s std, took time.Duration) error {
	head := "Migrated %s to topics %s* on %s:\n\n"
	if m.dry {
		head = "Of %s this would be migrated to topics %s* on %s:\n\n"
	}
	fmt.Fprintf(s.Out, head, c.Data, c.Prefix, c.Brokers)
	var rows [][]string
	row := func(what string, n int64) { rows = append(rows, []string{thousands(n), what}) }
	for _, env := range event.Environments {
		row("events, "+env.String(), m.events[env])
		row("  of them not known to be fanned out yet", m.unfanned[env])
	}
	row("orgs", m.orgs)
	row("endpoints", m.endpoints)
	row("changes of orgs, keys and endpoints, from the first on", m.commands)
	row("requests with an Idempotency-Key or ids of their own, of the last day", m.claims)
	row("deliveries that are due", m.owed.First)
	row("retries that wait", m.owed.Retries)
	row("deliveries held for endpoints that can't take them", m.owed.Held)
	row("dead letters", m.owed.Dead)
	row("replays that go on there", m.owed.Replays)
	if err := printTable(s.Out, rows...); err != nil || m.dry {
		return err
	}
	fmt.Fprintf(s.Out, `
Took %v. Now:

  1. Give every node a copy of the sealing key, %s.
  2. Start them: sluice serve --brokers %s --prefix %s --secrets-key-file FILE

%s is as it was. Going back to it loses what is published from now on, and repeats what
is delivered from now on. Don't start it beside the others: everything owed would come twice.
`, took.Round(time.Millisecond), m.key, quoteShell(c.Brokers.String()), quoteShell(c.Prefix), c.Data)
	return nil
}

// leaving is a log that is left for another, and isn't written to any more.
type leaving struct{ *embedded.Log }

var errLeaving = errors.New("the log that is left isn't written to")

func (leaving) Append(context.Context, []eventlog.Record) ([]int64, error) { return nil, errLeaving }

func (leaving) Trim(context.Context, eventlog.Partition, int64) error { return errLeaving }

// counted takes records and gives them the offsets that they would get.
type counted struct{ ends map[eventlog.Partition]int64 }

func (c *counted) Append(_ context.Context, records []eventlog.Record) ([]int64, error) {
	offsets := make([]int64, len(records))
	for i := range records {
		offsets[i] = c.ends[records[i].Partition]
		c.ends[records[i].Partition]++
	}
	return offsets, nil
}
