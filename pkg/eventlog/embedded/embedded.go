// Package embedded is the log in a directory of ours, on Pebble: nothing else
// needs to be installed or running.
//
//	embedded.go   Config, Open, Close; the topics and what is remembered of them
//	append.go     the appender: one goroutine, one synced batch for all who wait
//	read.go       Bounds, Read, OffsetAt, Tail; never past the durable end
//	recent.go     what was appended just now, for tails that keep up
//	keep.go       Trim, retention, Own
//	space.go      a limit and a disk that fills: who is refused first
//	tables.go     when what Pebble does in the background fails
//	verify.go     reading everything again, to find what rotted
//	backup.go     a copy of one moment, and how it knows that it is one
//	key.go        how records and what is remembered lie in Pebble
package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/semaphore"

	"sluice/pkg/eventlog"
)

// Config says where the log lies and which topics it has.
type Config struct {
	// Dir is made if it isn't there. One process at a time holds it: Pebble refuses
	// another, and can't say whom it lost to.
	Dir string
	// Topics are made where they aren't there yet. A topic never changes its number
	// of partitions; topics that aren't named are kept as they are.
	Topics []eventlog.Topic
	// MaxBytes is what the log may take on disk; 0: what the disk has. Topics that
	// yield are refused from nine tenths on, the others at the limit. For moments
	// Pebble takes some 100 MB more, while it rewrites tables.
	MaxBytes int64
	// Logger gets what goes on in the background; nil: slog.Default().
	Logger *slog.Logger

	// FS replaces the disk, in tests.
	FS vfs.FS
}

// The sizes that decide how much memory the log takes: two or three memtables
// and a small cache; who reads what was appended lately is served from the
// memtables. Half as large they would make batches dearer by a fifth: Pebble then
// merges more tables.
const (
	memTableBytes = 16 << 20
	cacheBytes    = 8 << 20
	// groupBytes bounds what one synced batch takes, waitingBytes what waits for it.
	groupBytes   = 8 << 20
	waitingBytes = 64 << 20
)

// Log is an open log. It implements eventlog.Log.
type Log struct {
	dir    string
	fs     vfs.FS
	logger *slog.Logger
	db     *pebble.DB

	topics     map[string]*topic
	partitions map[eventlog.Partition]*partition

	queue   queue
	room    *semaphore.Weighted // bytes of appends that wait
	request sync.Pool           // of *request; the log's own, because channels belong to one synctest bubble

	space   space
	trouble trouble

	use    sync.RWMutex // held for reading while Pebble is used
	closed chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	freeing   chan struct{} // capacity 1: something was trimmed
	failed    atomic.Pointer[error]
	corrupted atomic.Pointer[error] // which file Pebble found damaged first
	damage    atomic.Pointer[error] // what of the log can't be read
	closeErr  error
}

var _ interface {
	eventlog.Log
	eventlog.Private
} = (*Log)(nil)

// topic is a topic that this process has been told of.
type topic struct {
	eventlog.Topic
	partitions []*partition
	owner      chan struct{} // capacity 1: who runs Own holds it
}

// partition is where one partition stands. What only the appender writes needs
// no lock; start and end are read by everybody.
type partition struct {
	eventlog.Partition
	prefix [prefixLen]byte
	yields bool

	next int64 // the appender's: the offset of the next record
	last int64 // the appender's: the time of the newest record, Unix ms

	start atomic.Int64
	end   atomic.Int64 // all below is durable

	trim   sync.Mutex // one trim at a time
	freed  int64      // under trim: Pebble holds nothing below
	oldest int64      // under trim: the time of the record at start, Unix ms; 0: not looked up

	mu     sync.Mutex
	news   chan struct{} // closed at the next append; nil when nobody waits
	recent recent
}

// Open opens the log in the directory, which it makes where there is none. Its
// errors name the directory, and what to do.
func Open(_ context.Context, cfg Config) (*Log, error) {
	l := &Log{
		dir:        cfg.Dir,
		fs:         cfg.FS,
		logger:     cfg.Logger,
		topics:     make(map[string]*topic),
		partitions: make(map[eventlog.Partition]*partition),
		room:       semaphore.NewWeighted(waitingBytes),
		closed:     make(chan struct{}),
		freeing:    make(chan struct{}, 1),
	}
	if l.logger == nil {
		l.logger = slog.Default()
	}
	l.space.limit = cfg.MaxBytes
	l.queue.wake = make(chan struct{}, 1)
	l.request.New = func() any { return &request{done: make(chan struct{}, 1)} }

	if cfg.FS == nil {
		l.fs = vfs.Default
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, l.openError(err)
		}
	}
	if err := l.open(cfg); err != nil {
		if l.db != nil {
			err = errors.Join(err, l.db.Close())
		}
		return nil, err
	}
	_, err := l.fs.GetDiskUsage(l.dir)
	if l.space.watched = err == nil || cfg.MaxBytes > 0; l.space.watched {
		l.measure()
	}
	l.wg.Go(l.appender)
	l.wg.Go(l.keeper)
	l.wg.Go(l.verifier)
	return l, nil
}

func (l *Log) open(cfg Config) (err error) {
	if err := l.roomToWork(); err != nil {
		return fmt.Errorf("the log in %s can't be opened: %w", l.dir, err)
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache:                       cache,
		FS:                          pausingFS{l.fs},
		Logger:                      pebbleLog{l},
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                openTables(),
		FormatMajorVersion:          pebble.FormatNewest,
		L0CompactionThreshold:       8, // four flushes: by then much of what lanes have done is trimmed, and isn't rewritten
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		// Keys only rise and are deleted in ranges: nothing is gained by looking at
		// files that were read often.
		EventListener: &pebble.EventListener{
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				err := fmt.Errorf("%s is damaged: %w", info.Path, info.Details)
				l.corrupted.CompareAndSwap(nil, &err)
				l.logger.Error("the log is damaged", "file", info.Path, "error", info.Details)
			},
			BackgroundError: l.backgroundFailed,
			FlushEnd:        l.flushed,
		},
	}
	opts.Experimental.ReadSamplingMultiplier = -1
	for i := range opts.Levels {
		opts.Levels[i].BlockSize = 32 << 10
	}
	// Pebble panics on some damage that it takes for a mistake of its own.
	defer func() {
		if p := recover(); p != nil {
			err = l.damaged(fmt.Errorf("%v", p))
		}
	}()
	if l.db, err = pebble.Open(cfg.Dir, opts); err != nil {
		return l.openError(err)
	}
	known, next, err := l.readTopics()
	if err != nil {
		return l.damaged(fmt.Errorf("the list of its topics: %w", err))
	}
	for _, t := range cfg.Topics {
		if err := l.addTopic(t, known, &next); err != nil {
			return err
		}
	}
	return nil
}

// openTables is how many tables are kept open: a quarter of the files that this
// process may open, where that is little.
func openTables() int {
	const most = 512
	var may syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &may) != nil {
		return most
	}
	return int(min(most, may.Cur/4))
}

// openError says what Pebble's refusal means to whoever starts us.
func (l *Log) openError(err error) error {
	cant := func(remedy string) error {
		return fmt.Errorf("the log in %s can't be opened: %w; %s", l.dir, err, remedy)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cant("the directory and all in it must belong to the user that runs this")
	case errors.Is(err, syscall.EROFS):
		return cant("its disk must be writable")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return cant("free some of its disk")
	case errors.Is(err, syscall.EIO):
		return cant("see to the disk")
	case errors.Is(err, syscall.EAGAIN):
		return cant("another process has it open: stop that")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return cant("let this process open more files (ulimit -n)")
	case strings.Contains(err.Error(), "unknown format major version"):
		return cant("a newer release wrote it: start that one, or restore a backup from before it")
	case strings.Contains(err.Error(), "WAL"):
		logs, _ := filepath.Glob(filepath.Join(l.dir, "*.log"))
		return l.damaged(fmt.Errorf("a write-ahead log (one of %s): %w", strings.Join(logs, ", "), err))
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "corrupt"):
		return l.damaged(err)
	}
	return fmt.Errorf("the log in %s can't be opened: %w", l.dir, err)
}

// damaged wraps an error that came from bytes on disk, in one line: it may be
// several, of which the last says the least.
func (l *Log) damaged(err error) error {
	return fmt.Errorf("the log in %s is damaged and isn't opened, so that nothing is lost in silence: %s; "+
		"restore the directory from a backup, or move it away to begin an empty log", l.dir, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// readTopics reads what is remembered of the topics, by name, and the number for
// the next.
func (l *Log) readTopics() (map[string]topicMeta, uint16, error) {
	known := make(map[string]topicMeta)
	next := uint16(1)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindTopic}, UpperBound: []byte{kindTopic + 1}})
	if err != nil {
		return nil, 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, errors.Join(err, it.Close())
		}
		name := string(it.Key()[1:])
		m, ok := decodeTopicMeta(v)
		if !ok {
			return nil, 0, errors.Join(fmt.Errorf("the entry of topic %q can't be read", name), it.Close())
		}
		known[name] = m
		next = max(next, m.id+1)
	}
	return known, next, errors.Join(it.Error(), it.Close())
}

func (l *Log) addTopic(t eventlog.Topic, known map[string]topicMeta, next *uint16) error {
	if t.Name == "" || t.Partitions < 1 || t.Partitions > 1<<15 {
		return fmt.Errorf("topic %q with %d partitions can't be made: it needs a name and 1 to 32768 partitions", t.Name, t.Partitions)
	}
	if l.topics[t.Name] != nil {
		return fmt.Errorf("topic %q is named twice", t.Name)
	}
	m, ok := known[t.Name]
	switch {
	case !ok:
		m = topicMeta{id: *next, partitions: uint32(t.Partitions)}
		*next++
		if err := l.db.Set(topicKey(t.Name), m.encode(), pebble.Sync); err != nil {
			return fmt.Errorf("topic %q can't be made: %w", t.Name, err)
		}
		if err := l.failure(); err != nil {
			return err
		}
	case m.partitions != uint32(t.Partitions):
		return fmt.Errorf("topic %q in %s has %d partitions, not %d; their number is fixed when a log is first used: "+
			"use that number, or another directory", t.Name, l.dir, m.partitions, t.Partitions)
	}
	top := &topic{Topic: t, owner: make(chan struct{}, 1)}
	for n := range t.Partitions {
		p := &partition{Partition: eventlog.Partition{Topic: t.Name, Number: n}, prefix: recordPrefix(m.id, n), yields: t.Yields}
		if err := l.load(p); err != nil {
			return l.damaged(fmt.Errorf("topic %q partition %d: %w", t.Name, n, err))
		}
		top.partitions = append(top.partitions, p)
		l.partitions[p.Partition] = p
	}
	l.topics[t.Name] = top
	return nil
}

// load finds where a partition stands: from what the last trim wrote down, and
// from its newest record.
func (l *Log) load(p *partition) error {
	b, err := l.readBounds(p)
	if err != nil {
		return err
	}
	p.next, p.last = b.end, b.last
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: p.key(b.start), UpperBound: p.key(maxOffset)})
	if err != nil {
		return err
	}
	if it.Last() {
		v, err := it.ValueAndErr()
		if err == nil && len(v) < valueHead {
			err = errors.New("a record can't be read")
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		p.next = max(p.next, keyOffset(it.Key())+1)
		p.last = max(p.last, int64(binary.BigEndian.Uint64(v)))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	p.start.Store(b.start)
	p.end.Store(p.next)
	return nil
}

func (l *Log) readBounds(p *partition) (bounds, error) {
	v, closer, err := l.db.Get(p.boundsKey())
	if errors.Is(err, pebble.ErrNotFound) {
		return bounds{}, nil
	}
	if err != nil {
		return bounds{}, err
	}
	b, ok := decodeBounds(v)
	if err := closer.Close(); err != nil {
		return bounds{}, err
	}
	if !ok {
		return bounds{}, errors.New("its bounds can't be read")
	}
	return b, nil
}

// partition finds a partition by name.
func (l *Log) partition(p eventlog.Partition) (*partition, error) {
	if found := l.partitions[p]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("the log has no partition %d of topic %q", p.Number, p.Topic)
}

// Healthy tells why nothing can be appended any more, or soon, and what can't be
// read, or nil. Damage to some records stops no appends: new ones go to other files, and
// refusing them would lose those, too.
func (l *Log) Healthy() error {
	var damage error
	if d := l.damage.Load(); d != nil {
		damage = *d
	}
	return errors.Join(l.failure(), l.trouble.now(), damage)
}

func (l *Log) failure() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the log refuse all appends from now on. After a failed sync nobody
// knows what the disk holds, and a later sync may succeed without having written
// it: only a restart, which reads what is there, tells.
func (l *Log) fail(err error) {
	err = fmt.Errorf("the log in %s can't be written to any more: %w; see to the disk and start again", l.dir, err)
	if l.failed.CompareAndSwap(nil, &err) {
		l.logger.Error("the log failed", "dir", l.dir, "error", err)
	}
}

// enter begins a use of Pebble; leave ends it.
func (l *Log) enter() error {
	l.use.RLock()
	if l.isClosed() {
		l.use.RUnlock()
		return eventlog.ErrClosed
	}
	return nil
}

func (l *Log) leave() { l.use.RUnlock() }

func (l *Log) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Private implements eventlog.Private: Pebble's lock keeps other processes out, and
// an Append is a part of one Pebble batch.
func (l *Log) Private() {}

// Close appends what waits, ends tails and work, and gives the directory up.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.queue.close()
		close(l.closed)
		if l.idle(); l.failure() != nil {
			// A failed Pebble may wait for its own flush for ever, and the process is to
			// be started again.
			l.closeErr = l.failure()
		} else if err := l.closePebble(); err != nil {
			l.closeErr = fmt.Errorf("the log in %s closed with an error: %w", l.dir, err)
		}
	})
	return l.closeErr
}

func (l *Log) closePebble() error {
	l.use.Lock()
	defer l.use.Unlock()
	return l.db.Close()
}

// pebbleLog takes Pebble's messages. Its tidings of flushes and compactions are
// nobody's business.
type pebbleLog struct{ l *Log }

func (pebbleLog) Infof(string, ...any) {}

func (p pebbleLog) Errorf(format string, args ...any) {
	p.l.logger.Warn("log: "+fmt.Sprintf(format, args...), "dir", p.l.dir)
}

// Fatalf is called where Pebble would end the process. A failed commit is told
// to those who wait for it; anything else leaves Pebble in a state in which it
// can't go on, and the process ends, as it may at any time.
func (p pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	p.l.fail(err)
	if !strings.HasPrefix(format, "pebble: fatal commit error") {
		panic(err)
	}
}

// now is the appender's clock.
func now() int64 { return time.Now().UnixMilli() }
