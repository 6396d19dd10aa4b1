// Package index keeps rows of deliveries in a directory of ours, on Pebble: the
// store of a process that shares its rows with nobody.
//
//	index.go   Store: what is written
//	merger.go  what was said of a delivery, brought together
//	read.go    what is asked
//	key.go     how rows lie in Pebble
//
// It has a Pebble of its own, beside the log's: nothing here is synced, a damaged
// index is removed and made anew, and the log's room and its backups are without
// it. There is no journal either. A batch is in the index whole or not at all, and
// none without those before it; what a kill takes, at most what gathers in memory,
// is read again, since positions are in the same batch.
//
// A row most often is new, so nothing is looked up to write it: parts of rows are
// written as they come, and Pebble merges them when they are read or rewritten.
package index

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Memory is bounded by cacheBytes and twice memTableBytes. Tables wait for
// rewriting until there are tablesWaiting, since ids lie anywhere: whenever some are
// brought in, all that there are are rewritten.
const (
	memTableBytes = 12 << 20
	cacheBytes    = 4 << 20
	tablesWaiting = 16
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
		Merger: merger, DisableWAL: true,
		FormatMajorVersion: pebble.FormatNewest, LBaseMaxBytes: 64 << 20,
		L0CompactionThreshold: tablesWaiting, L0StopWritesThreshold: 3 * tablesWaiting,
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
	return errors.Join(s.db.Flush(), s.db.Close())
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
	return b.Commit(pebble.NoSync)
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

// Merge implements attempts.Store. What is there isn't looked at: see merger.
func (s *Store) Merge(_ context.Context, parts []attempts.Row, to []attempts.Position) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.use.RUnlock()
	// In Pebble's order, as far as it is easily had: neighbours cost less.
	rows := make([]*attempts.Row, len(parts))
	for i := range parts {
		rows[i] = &parts[i]
	}
	slices.SortFunc(rows, func(a, b *attempts.Row) int {
		return cmp.Or(strings.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Event, b.Event))
	})
	b := writer{Batch: s.db.NewBatchWithSize(len(parts) * bytesEach)}
	for _, put := range []func(*attempts.Row) error{b.row, b.open, b.event, b.id} {
		for _, row := range rows {
			if err := put(row); err != nil {
				return errors.Join(err, b.Close())
			}
		}
	}
	for _, pos := range to {
		if err := b.Set(positionKey(pos.Partition), encodePosition(pos), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return b.Commit(pebble.NoSync)
}

// bytesEach is about what a new row takes in a batch.
const bytesEach = 400

// writer puts rows into a batch, which copies what it is given: all keys and values
// are made in the same place.
type writer struct {
	*pebble.Batch
	key, value []byte
}

func (b *writer) row(row *attempts.Row) error {
	b.key, b.value = appendKey(b.key[:0], kindRow, &row.Key), appendRow(b.value[:0], row)
	return b.Merge(b.key, b.value, nil)
}

// open may leave a step of a delivery whose success was written before: List looks
// at the row.
func (b *writer) open(row *attempts.Row) error {
	now := row.Step.Status()
	if now == 0 || now == attempts.Delivered && row.First { // nothing is said of where it stands, or was
		return nil
	}
	b.key = appendKey(b.key[:0], kindOpen, &row.Key)
	if now == attempts.Delivered {
		return b.Delete(b.key, nil)
	}
	b.value = appendStep(b.value[:0], row.Step)
	return b.Merge(b.key, b.value, nil)
}

func (b *writer) event(row *attempts.Row) error {
	b.key, b.value = appendEventKey(b.key[:0], row.Environment, &row.Key), append(b.value[:0], row.Endpoint...)
	return b.Set(b.key, b.value, nil)
}

func (b *writer) id(row *attempts.Row) error {
	b.key, b.value = appendIDKey(b.key[:0], &row.Key), binary.BigEndian.AppendUint64(b.value[:0], uint64(row.Event))
	return b.Set(b.key, b.value, nil)
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
				failed = errors.Join(b.Delete(appendIDKey(nil, &row.Key), nil), b.Delete(appendEventKey(nil, row.Environment, &row.Key), nil), b.Delete(openKey(&row.Key), nil))
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
