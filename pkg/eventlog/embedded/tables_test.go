package embedded_test

import (
	stdcontext "context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

// lines counts messages.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(of string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), of)
}

// noTables is a file system on which, while full is set, no table can be written,
// though the disk says that it has room: as under a quota.
func noTables(full *atomic.Bool, err error, tries *atomic.Int64) vfs.FS {
	mem := vfs.NewMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 10 << 30, AvailBytes: 5 << 30})
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".sst") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite) {
			tries.Add(1)
			return err
		}
		return nil
	}))
}

// While tables can't be written new events are refused, others go on for a while,
// and nothing spins. When they can be, everything goes on by itself, and nothing
// that was acknowledged is missing.
func TestTablesCantBeWritten(t *testing.T) {
	var full atomic.Bool
	var tries atomic.Int64
	var said lines
	l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: noTables(&full, syscall.ENOSPC, &tries), Topics: guarded,
		Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full.Store(true)
	began := time.Now()
	value := noise(500_000)
	add := func(p eventlog.Partition) error {
		ctx, cancel := stdcontext.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := l.Append(ctx, []eventlog.Record{{Partition: p, Value: value}})
		return err
	}
	taken := 0
	for ; taken < 1000; taken++ {
		if err := add(events); errors.Is(err, eventlog.ErrFull) {
			break
		} else if err != nil {
			t.Fatalf("event %d: %v", taken, err)
		}
		time.Sleep(20 * time.Millisecond) // real time: the log looks once a second
	}
	if err := l.Healthy(); err == nil || !strings.Contains(err.Error(), "can't write its tables") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("after %d events the log says that its health is %v", taken, err)
	}
	if err := add(lanes); err != nil {
		t.Errorf("others are refused with the events: %v", err)
	}
	before, since := tries.Load(), time.Now()
	for tries.Load() == before && time.Since(since) < time.Minute || time.Since(since) < 2*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	if n, in := tries.Load()-before, time.Since(since); n == 0 || float64(n) > 20*in.Seconds() {
		t.Errorf("tables were tried %d times in %v", n, in)
	}
	if n, most := said.count("is tried again"), 1+int(time.Since(began)/time.Minute); n < 1 || n > most {
		t.Errorf("the trouble was told %d times", n)
	}

	full.Store(false)
	begun := time.Now()
	for err = add(events); err != nil; err = add(events) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("events are still refused: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d events of 500 kB were taken without a table; %v after there was room they were again", taken, time.Since(begun).Round(time.Millisecond))
	if err := l.Healthy(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	for p, want := range map[eventlog.Partition]int64{events: int64(taken) + 1, lanes: 1} {
		_, end, err := l.Bounds(t.Context(), p)
		if err != nil || end != want {
			t.Errorf("%s ends at %d, want %d; %v", p.Topic, end, want, err)
		}
	}
}

// A process that is to stop doesn't wait for a disk that never gets better.
func TestCloseWithoutTables(t *testing.T) {
	var full atomic.Bool
	var tries atomic.Int64
	fs := noTables(&full, syscall.EIO, &tries)
	l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: fs, Topics: guarded, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	value := noise(800_000)
	var taken int64
	for ; taken < 1000; taken++ {
		ctx, cancel := stdcontext.WithTimeout(t.Context(), time.Second)
		_, err := l.Append(ctx, []eventlog.Record{{Partition: lanes, Value: value}})
		cancel()
		if errors.Is(err, stdcontext.DeadlineExceeded) {
			if l.Healthy() != nil {
				break
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if taken == 1000 {
		t.Fatal("800 MB were taken without a table")
	}
	begun := time.Now()
	if err := l.Close(); err == nil || time.Since(begun) > 15*time.Second {
		t.Errorf("closed in %v: %v", time.Since(begun), err)
	}
	full.Store(false)
}

// A disk that others fill within a moment doesn't end the process: Pebble isn't
// given work that it can't do, and everything goes on when there is room again.
func TestDiskFullAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		mem := vfs.NewMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite || op.Kind == errorfs.OpFileWrite) {
				return syscall.ENOSPC
			}
			return nil
		}))
		left := func(bytes uint64) {
			mem.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 10 << 30, AvailBytes: bytes})
			full.Store(bytes == 0)
			time.Sleep(2 * time.Second)
		}
		left(5 << 30)
		topics := []eventlog.Topic{{Name: "events", Partitions: 1, Yields: true, Retention: time.Hour}, {Name: "lanes", Partitions: 1}}
		l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: fs, Topics: topics, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		fill(t, l, events, 1000, 1000)
		left(0)
		time.Sleep(2 * time.Hour) // retention has its turns
		if err := l.Trim(t.Context(), events, 10); !errors.Is(err, eventlog.ErrFull) {
			t.Errorf("a trim: %v", err)
		}
		for _, p := range []eventlog.Partition{events, lanes} {
			if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: p}}); !errors.Is(err, eventlog.ErrFull) {
				t.Errorf("an append to %s: %v", p.Topic, err)
			}
		}
		if recs, err := l.Read(t.Context(), events, 500, 1<<20); err != nil || len(recs) != 500 {
			t.Errorf("%d records are read, %v", len(recs), err)
		}
		left(5 << 30)
		for _, p := range []eventlog.Partition{events, lanes} {
			if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: p}}); err != nil {
				t.Errorf("an append to %s with room again: %v", p.Topic, err)
			}
		}
		time.Sleep(2 * time.Minute)
		if start, end, err := l.Bounds(t.Context(), events); start != 1000 || end != 1001 || err != nil {
			t.Errorf("after retention events are %d to %d, %v", start, end, err)
		}
		if err := l.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

// What keeps a log from being opened is told with what to do about it.
func TestCantOpen(t *testing.T) {
	refused := func(t *testing.T, cfg embedded.Config, says ...string) {
		t.Helper()
		cfg.Topics, cfg.Logger = one, quiet
		l, err := embedded.Open(t.Context(), cfg)
		if err == nil {
			l.Close()
			t.Fatal("it was opened")
		}
		t.Log(err)
		for _, s := range append(says, cfg.Dir) {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q doesn't say %q", err, s)
			}
		}
		if strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "backup") && !strings.Contains(err.Error(), "newer") {
			t.Errorf("%q sends to a backup", err)
		}
	}
	t.Run("full disk", func(t *testing.T) {
		mem := vfs.NewMem()
		mem.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 10 << 30, AvailBytes: 1 << 20})
		refused(t, embedded.Config{Dir: "mem", FS: mem}, "1048576 bytes left", "needs 16777216 to work", "free some")
	})
	for err, says := range map[syscall.Errno]string{syscall.ENOSPC: "free some", syscall.EDQUOT: "free some", syscall.EMFILE: "ulimit", syscall.EROFS: "writable", syscall.EIO: "see to the disk", syscall.EACCES: "belong to the user"} {
		t.Run(err.Error(), func(t *testing.T) {
			mem := vfs.NewMem()
			l, operr := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: mem, Topics: one, Logger: quiet})
			if operr != nil {
				t.Fatal(operr)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			refused(t, embedded.Config{Dir: "mem", FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite) {
					return &os.PathError{Op: "open", Path: op.Path, Err: err}
				}
				return nil
			}))}, says, err.Error())
		})
	}
	t.Run("newer release", func(t *testing.T) {
		dir := t.TempDir()
		if err := openAt(t, dir, one).Close(); err != nil {
			t.Fatal(err)
		}
		marks, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
		if err != nil || len(marks) != 1 {
			t.Fatal(marks, err)
		}
		parts := strings.Split(filepath.Base(marks[0]), ".")
		parts[2], parts[3] = "000999", "999"
		if err := os.Rename(marks[0], filepath.Join(dir, strings.Join(parts, "."))); err != nil {
			t.Fatal(err)
		}
		refused(t, embedded.Config{Dir: dir}, "newer release")
	})
}
