// Package postgres keeps rows of deliveries in PostgreSQL: the store that all
// processes of a deployment share.
//
//	postgres.go  Store: who writes, and the tables
//	merge.go     what is written
//	read.go      what is asked
//
// One process writes at a time: who holds an advisory lock. Each that comes to hold
// it begins a new term, and a transaction of an earlier one fails: so a process that
// was stopped for a while, and takes itself for the writer, writes nothing.
//
//	<name>_state       the log that the rows are of, the term
//	<name>_position    how far each partition was read: moved with the rows, in one transaction
//	<name>_day         the tables of rows: from which event on each has them
//	<name>_<env>_<n>   a table a day: events n and later, up to the next table's
//
// A day's table has a range of events, not of times: a delivery's row is always in
// the same, whichever of its records comes first. It is dropped as a whole when the
// last of its events isn't shown any more.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"sluice/pkg/attempts"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Config says where the database is.
type Config struct {
	URL string // postgres://user:password@host/database
	// Name tells deployments apart that share a schema: what names of tables begin
	// with. Of other characters than letters and digits each is a _.
	Name   string
	Logger *slog.Logger // nil: none
}

// Store is the rows in a database. The database need not be there yet.
type Store struct {
	pool   *pgxpool.Pool
	name   string
	logger *slog.Logger
	term   atomic.Int64 // of ours, while we lead
}

var _ attempts.Store = (*Store)(nil)

const (
	connections  = 8
	connectIn    = 5 * time.Second
	leadAgain    = 2 * time.Second // between looks whether the lock is free, or still ours
	indexesBelow = 63              // bytes that a name may have
)

// Open makes a Store. An error says that the URL is none; it has no password in it.
func Open(cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database of deliveries: %w: give postgres://user:password@host/database", err)
	}
	pc.MaxConns = connections
	pc.ConnConfig.ConnectTimeout = connectIn
	// What is prepared is so by text, so that a pooler between may hand on any connection.
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("database of deliveries: %w", err)
	}
	return &Store{pool: pool, name: tableName(cfg.Name), logger: cfg.Logger}, nil
}

// tableName makes a deployment's name one that tables may begin with.
func tableName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, name)
	if name = strings.Trim(name, "_"); name == "" || name[0] <= '9' {
		name = "sluice_" + name
	}
	return name[:min(len(name), indexesBelow-40)] + "_deliveries"
}

// Close gives the connections up.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// Lead implements attempts.Store.
func (s *Store) Lead(ctx context.Context) (<-chan struct{}, func(), error) {
	taken, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the database of deliveries: %w", err)
	}
	conn := taken.Hijack() // the lock is the connection's
	shut := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectIn)
		defer cancel()
		conn.Close(ctx)
	}
	if err := s.lead(ctx, conn); err != nil {
		shut()
		return nil, nil, err
	}
	lost, done := make(chan struct{}), make(chan struct{})
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(done)
		for {
			select {
			case <-time.After(leadAgain):
			case <-watch.Done():
				return
			}
			if err := conn.Ping(watch); err != nil && watch.Err() == nil {
				s.logger.Warn("the database of deliveries is out of reach", "error", err)
				close(lost)
				return
			}
		}
	}()
	return lost, func() { stop(); <-done; shut() }, nil
}

// lead waits for the lock, and begins a term.
func (s *Store) lead(ctx context.Context, conn *pgx.Conn) error {
	hash := fnv.New64a()
	hash.Write([]byte(s.name))
	for {
		var ours bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(hash.Sum64())).Scan(&ours); err != nil {
			return fmt.Errorf("lock the table of deliveries: %w", err)
		}
		if ours {
			break
		}
		select {
		case <-time.After(leadAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, sql := range []string{
		`CREATE TABLE IF NOT EXISTS %s_state (one boolean PRIMARY KEY DEFAULT true CHECK (one), log text NOT NULL DEFAULT '', term bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE IF NOT EXISTS %s_position (topic text, number integer, next bigint NOT NULL, fence bigint NOT NULL, PRIMARY KEY (topic, number))`,
		`CREATE TABLE IF NOT EXISTS %s_day (env smallint, first bigint, name text NOT NULL, day date NOT NULL, PRIMARY KEY (env, first))`,
		`INSERT INTO %s_state DEFAULT VALUES ON CONFLICT DO NOTHING`,
	} {
		if _, err := conn.Exec(ctx, s.sql(sql)); err != nil {
			return fmt.Errorf("make the tables of deliveries: %w", err)
		}
	}
	var term int64
	if err := conn.QueryRow(ctx, s.sql(`UPDATE %s_state SET term = term + 1 RETURNING term`)).Scan(&term); err != nil {
		return fmt.Errorf("begin to write deliveries: %w", err)
	}
	s.term.Store(term)
	return nil
}

// sql puts the name of our tables where a statement has %s.
func (s *Store) sql(text string) string { return strings.ReplaceAll(text, "%s", s.name) }

// write runs a transaction of our term: ErrBehind says that another has begun.
func (s *Store) write(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var term int64
		if err := tx.QueryRow(ctx, s.sql(`SELECT term FROM %s_state FOR UPDATE`)).Scan(&term); err != nil {
			return err
		}
		if term != s.term.Load() {
			return attempts.ErrBehind
		}
		return do(tx)
	})
}

// Begin implements attempts.Store.
func (s *Store) Begin(ctx context.Context, log string) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		var has string
		if err := tx.QueryRow(ctx, s.sql(`SELECT log FROM %s_state`)).Scan(&has); err != nil || has == log {
			return err
		}
		days, err := s.days(ctx, tx)
		if err != nil {
			return err
		}
		for _, d := range days {
			if err := s.dropDay(ctx, tx, d); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, s.sql(`DELETE FROM %s_position`)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql(`UPDATE %s_state SET log = $1`), log)
		return err
	})
}

// Positions implements attempts.Store.
func (s *Store) Positions(ctx context.Context) (map[eventlog.Partition]attempts.Position, error) {
	rows, err := s.pool.Query(ctx, s.sql(`SELECT topic, number, next, fence FROM %s_position`))
	if err == nil {
		all := make(map[eventlog.Partition]attempts.Position)
		var pos attempts.Position
		var fence int64
		_, err = pgx.ForEachRow(rows, []any{&pos.Topic, &pos.Number, &pos.Next, &fence}, func() error {
			pos.Fence = attemptsFence(fence)
			all[pos.Partition] = pos
			return nil
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, readError(err)
}

// day is a table of rows.
type day struct {
	env   event.Environment
	first int64
	name  string
	day   time.Time
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// days lists the tables, those of the newest events of each environment first.
func (s *Store) days(ctx context.Context, q querier) ([]day, error) {
	rows, err := q.Query(ctx, s.sql(`SELECT env, first, name, day FROM %s_day ORDER BY env, first DESC`))
	if err != nil {
		return nil, readError(err)
	}
	var all []day
	var d day
	var env int16
	_, err = pgx.ForEachRow(rows, []any{&env, &d.first, &d.name, &d.day}, func() error {
		d.env = event.Environment(env)
		all = append(all, d)
		return nil
	})
	return all, readError(err)
}

func (s *Store) dropDay(ctx context.Context, tx pgx.Tx, d day) error {
	if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+d.name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.sql(`DELETE FROM %s_day WHERE env = $1 AND first = $2`), int16(d.env), d.first)
	return err
}

// undefinedTable is PostgreSQL's code for a table that isn't there.
const undefinedTable = "42P01"

// readError says that tables aren't made yet, where that is the matter.
func readError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == undefinedTable {
		return fmt.Errorf("%w: %w", attempts.ErrUnready, err)
	}
	return err
}
