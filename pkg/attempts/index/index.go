// Package index keeps rows of deliveries in a directory of ours, on Pebble: the
// store of a process that shares its rows with nobody.
//
//	index.go   Store: what is written
//	read.go    what is asked
//	key.go     how rows lie in Pebble
//
// It has a Pebble of its own, beside the log's: nothing here is synced, a damaged
// index is removed and made anew, and the log's room and its backups are without
// it. A batch is in the index whole or not at all, a kill included, and what is
// missing behind a power cut is read again, since positions are in the same batch.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/attempts"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Config says where the index lies.
type Config struct {
	Dir    string       // made where there is none; this process's alone
	Logger *slog.Logger // nil: none
	FS     vfs.FS       // replaces the disk, in tests
}

const (
	memTableBytes = 8 << 20
	cacheBytes    = 4 << 20
)

// Store is an open index.
type Store struct {
	db     *pebble.DB
	logger *slog.Logger
	use    sync.RWMutex // held for reading while Pebble is used
	closed bool
}

var _ attempts.Store = (*Store)(nil)

// Open opens the index, or makes it anew where it can't be read.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	fs := cfg.FS
	if fs == nil {
		fs = vfs.Default
		if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o700); err != nil {
			return nil, fmt.Errorf("open index of deliveries in %s: %w", cfg.Dir, err)
		}
	}
	db, err := open(cfg.Dir, fs)
	if err != nil && damaged(err) {
		cfg.Logger.Error("the index of deliveries is damaged and made anew", "dir", cfg.Dir, "error", err)
		if err = fs.RemoveAll(cfg.Dir); err == nil {
			db, err = open(cfg.Dir, fs)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open index of deliveries in %s: %w; it holds nothing of its own: remove it, and it is made anew", cfg.Dir, err)
	}
	return &Store{db: db, logger: cfg.Logger}, nil
}

// damaged reports whether the index itself is the matter, and not its disk.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) || errors.Is(err, errPanic)
}

var errPanic = errors.New("it can't be read")

func open(dir string, fs vfs.FS) (db *pebble.DB, err error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	defer func() {
		if p := recover(); p != nil { // as Pebble does of some damage
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	opts := &pebble.Options{
		Cache: cache, FS: fs, Logger: quiet{}, MemTableSize: memTableBytes, MaxOpenFiles: 128,
		FormatMajorVersion: pebble.FormatNewest, L0CompactionThreshold: 4, LBaseMaxBytes: 64 << 20,
	}
	opts.Experimental.ReadSamplingMultiplier = -1
	return pebble.Open(dir, opts)
}

// quiet leaves out what Pebble tells of its work.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("index of deliveries: "+format, args...))
}

// errClosed is returned by everything after Close.
var errClosed = errors.New("index of deliveries is closed")

func (s *Store) enter() error {
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return errClosed
	}
	return nil
}

// Close gives the directory up.
func (s *Store) Close() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.db.Close()
}

// Lead implements attempts.Store: the directory is this process's alone.
func (s *Store) Lead(context.Context) (<-chan struct{}, func(), error) { return nil, func() {}, nil }

// Begin implements attempts.Store.
func (s *Store) Begin(_ context.Context, log string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.use.RUnlock()
	want := format + " " + log
	got, _, err := s.get(logKey)
	if err != nil || string(got) == want {
		return err
	}
	b := s.db.NewBatch()
	if err := errors.Join(b.DeleteRange([]byte{0}, []byte{0xff}, nil), b.Set(logKey, []byte(want), nil)); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// Positions implements attempts.Store.
func (s *Store) Positions(context.Context) (map[eventlog.Partition]attempts.Position, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.use.RUnlock()
	all := make(map[eventlog.Partition]attempts.Position)
	err := s.scan([]byte{kindPosition}, []byte{kindPosition + 1}, func(key, value []byte) bool {
		if pos, ok := decodePosition(key, value); ok {
			all[pos.Partition] = pos
		}
		return true
	})
	return all, err
}

// Merge implements attempts.Store.
func (s *Store) Merge(_ context.Context, parts []attempts.Row, to []attempts.Position) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.use.RUnlock()
	b := s.db.NewBatch()
	for i := range parts {
		if err := s.merge(b, &parts[i]); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	for _, pos := range to {
		if err := b.Set(positionKey(pos.Partition), encodePosition(pos), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return b.Commit(pebble.NoSync)
}

func (s *Store) merge(b *pebble.Batch, part *attempts.Row) error {
	key := rowKey(&part.Key)
	value, found, err := s.get(key)
	if err != nil {
		return err
	}
	row, before := part, attempts.Delivered
	if found {
		old, ok := decodeRow(key, value)
		if ok {
			before = old.Step.Status()
			old.Merge(part)
			row = old
		}
	}
	err = b.Set(key, encodeRow(row), nil)
	if !found {
		err = errors.Join(err, b.Set(idKey(&row.Key), eventValue(row.Event), nil),
			b.Set(eventKey(row.Environment, &row.Key), []byte(row.Endpoint), nil))
	}
	switch now := row.Step.Status(); {
	case now != attempts.Delivered:
		err = errors.Join(err, b.Set(openKey(&row.Key), []byte{byte(now)}, nil))
	case before != attempts.Delivered:
		err = errors.Join(err, b.Delete(openKey(&row.Key), nil))
	}
	return err
}

// Forget implements attempts.Store.
func (s *Store) Forget(_ context.Context, endpoint string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.use.RUnlock()
	from, to := span(kindRow, endpoint)
	if err := s.drop(from, to); err != nil {
		return err
	}
	from, to = span(kindOpen, endpoint)
	return s.db.DeleteRange(from, to, pebble.NoSync)
}

// dropAtOnce bounds the keys of one batch of deletes.
const dropAtOnce = 10_000

// drop takes out the rows in a range of their keys, and what points at them.
func (s *Store) drop(from, to []byte) error {
	for {
		b, n := s.db.NewBatch(), 0
		var failed error
		err := s.scan(from, to, func(key, value []byte) bool {
			row, ok := decodeRow(key, value)
			if ok {
				failed = errors.Join(b.Delete(idKey(&row.Key), nil), b.Delete(eventKey(row.Environment, &row.Key), nil), b.Delete(openKey(&row.Key), nil))
			}
			failed = errors.Join(failed, b.Delete(key, nil))
			n++
			return failed == nil && n < dropAtOnce
		})
		if err = errors.Join(err, failed); err != nil {
			return errors.Join(err, b.Close())
		}
		if err := b.Commit(pebble.NoSync); err != nil || n < dropAtOnce {
			return err
		}
	}
}

// Endpoints implements attempts.Store.
func (s *Store) Endpoints(_ context.Context, after string, limit int) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.use.RUnlock()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindRow}, UpperBound: []byte{kindRow + 1}})
	if err != nil {
		return nil, err
	}
	var all []string
	from := []byte{kindRow}
	if after != "" {
		_, from = span(kindRow, after)
	}
	for ok := it.SeekGE(from); ok && len(all) < limit; ok = it.SeekGE(from) {
		k, known := decodeKey(it.Key())
		if !known {
			break
		}
		all = append(all, k.Endpoint)
		_, from = span(kindRow, k.Endpoint)
	}
	return all, errors.Join(it.Error(), it.Close())
}

// Expire implements attempts.Store.
func (s *Store) Expire(_ context.Context, env event.Environment, before int64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.use.RUnlock()
	from, to := eventSpan(env, 0, before)
	for at := from; ; {
		var rows [][]byte
		err := s.scan(at, to, func(key, value []byte) bool {
			if k, ok := decodeEventKey(key, value); ok {
				rows = append(rows, rowKey(&k))
			}
			at = append(append([]byte(nil), key...), 0)
			return len(rows) < dropAtOnce
		})
		for _, key := range rows {
			err = errors.Join(err, s.drop(key, append(key, 0)))
		}
		if err != nil || len(rows) < dropAtOnce {
			return errors.Join(err, s.db.DeleteRange(from, to, pebble.NoSync))
		}
	}
}

func (s *Store) get(key []byte) ([]byte, bool, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	v = append([]byte(nil), v...)
	return v, true, closer.Close()
}

// scan shows what lies in a range, until each says that it has seen enough.
func (s *Store) scan(from, to []byte, each func(key, value []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !each(it.Key(), v) {
			break
		}
	}
	return errors.Join(it.Error(), it.Close())
}
