package embedded_test

import (
	stdcontext "context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

func context() stdcontext.Context { return stdcontext.Background() }

func openAt(t testing.TB, dir string, topics []eventlog.Topic) *embedded.Log {
	t.Helper()
	l, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Topics: topics, Logger: quiet})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var (
	one = []eventlog.Topic{{Name: "a", Partitions: 1}}
	p0  = eventlog.Partition{Topic: "a"}
)

// fill appends n records of size random bytes.
func fill(t testing.TB, l eventlog.Log, p eventlog.Partition, n, size int) {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{1})
	const batch = 64
	for i := 0; i < n; i += batch {
		recs := make([]eventlog.Record, min(batch, n-i))
		for j := range recs {
			v := make([]byte, size)
			_, _ = noise.Read(v)
			recs[j] = eventlog.Record{Partition: p, Value: v}
		}
		if _, err := l.Append(t.Context(), recs); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

// A directory that is open isn't opened again. Who has it says pkg/datadir, which
// whoever opens a log asks first.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	l := openAt(t, dir, one)
	_, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Topics: one, Logger: quiet})
	if err == nil {
		t.Fatal("a directory was opened twice")
	}
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%q doesn't name the directory", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, dir, one)
}

func TestOtherPartitions(t *testing.T) {
	dir := t.TempDir()
	if err := openAt(t, dir, one).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Topics: []eventlog.Topic{{Name: "a", Partitions: 2}}, Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), "has 1 partitions, not 2") {
		t.Fatalf("Open with another number of partitions: %v", err)
	}
	openAt(t, dir, one)
}

// A topic that isn't named is kept all the same.
func TestTopicsUnnamed(t *testing.T) {
	dir := t.TempDir()
	l := openAt(t, dir, one)
	fill(t, l, p0, 3, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, dir, []eventlog.Topic{{Name: "b", Partitions: 1}}).Close(); err != nil {
		t.Fatal(err)
	}
	if _, end, err := openAt(t, dir, append([]eventlog.Topic{{Name: "b", Partitions: 1}}, one...)).Bounds(t.Context(), p0); err != nil || end != 3 {
		t.Fatalf("end %d, %v", end, err)
	}
}

// tablesSize adds up the tables: all but the write-ahead logs, of which Pebble
// keeps a few, of a memtable's size each, for its next ones.
func tablesSize(t *testing.T, dir string) (total int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err == nil { // they come and go
			total += info.Size()
		}
	}
	return total
}

// What is trimmed is given back to the disk, soon, and not only to our own books.
func TestTrimFreesDisk(t *testing.T) {
	dir := t.TempDir()
	l := openAt(t, dir, []eventlog.Topic{{Name: "a", Partitions: 1}, {Name: "b", Partitions: 1}})
	const n, size = 20_000, 10_000
	fill(t, l, eventlog.Partition{Topic: "b"}, 100, size)
	fill(t, l, p0, n, size)
	before := tablesSize(t, dir)
	begin := time.Now()
	if err := l.Trim(t.Context(), p0, n-100); err != nil {
		t.Fatal(err)
	}
	const want = 20 << 20
	var after int64
	for after = tablesSize(t, dir); after > want; after = tablesSize(t, dir) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("of %d MB %d MB are still on disk", before>>20, after>>20)
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Logf("%d MB became %d MB in %v", before>>20, after>>20, time.Since(begin).Round(10*time.Millisecond))
	for _, p := range []eventlog.Partition{p0, {Topic: "b"}} {
		_, end, _ := l.Bounds(t.Context(), p)
		if recs, err := l.Read(t.Context(), p, end-100, 10<<20); err != nil || len(recs) != 100 {
			t.Errorf("%v: %d records, %v", p, len(recs), err)
		}
	}
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: vfs.NewMem(), Logger: quiet, Topics: []eventlog.Topic{
			{Name: "a", Partitions: 1, Retention: 64 * time.Hour}, {Name: "kept", Partitions: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		kept := eventlog.Partition{Topic: "kept"}
		for range 200 { // one an hour
			fill(t, l, p0, 1, 10)
			fill(t, l, kept, 1, 10)
			time.Sleep(time.Hour)
			start, end, _ := l.Bounds(t.Context(), p0)
			if age := end - start; age > 66 || end >= 63 && age < 63 {
				t.Fatalf("%d hours are kept of %d, want 64", age, end)
			}
		}
		if start, _, _ := l.Bounds(t.Context(), kept); start != 0 {
			t.Errorf("what is kept for good begins at %d", start)
		}
	})
}

// After a sync has failed nothing is acknowledged any more, though later syncs
// would succeed; a restart finds all that was acknowledged.
func TestSyncFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var failing, failed atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			failed.Store(true)
			return errors.New("the disk says no")
		}
		return nil
	}))
	l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: fs, Topics: one, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fill(t, l, p0, 10, 100)
	failing.Store(true)
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: p0, Value: []byte("lost?")}}); err == nil || !strings.Contains(err.Error(), "the disk says no") {
		t.Fatalf("Append: %v", err)
	}
	if !failed.Load() {
		t.Fatal("no sync failed")
	}
	failing.Store(false)
	for range 3 {
		if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: p0, Value: []byte("never")}}); err == nil || !strings.Contains(err.Error(), "start again") {
			t.Fatalf("Append after a failed sync: %v", err)
		}
	}
	if l.Healthy() == nil {
		t.Error("the log says that it is healthy")
	}
	if _, end, err := l.Bounds(t.Context(), p0); err != nil || end != 10 {
		t.Errorf("end %d, %v; want 10", end, err)
	}
	if recs, err := l.Read(t.Context(), p0, 0, 1<<20); err != nil || len(recs) != 10 {
		t.Errorf("%d records, %v", len(recs), err)
	}
	// The machine stops: only what was synced is left.
	again, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: mem.CrashClone(vfs.CrashCloneCfg{}), Topics: one, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if recs, err := again.Read(t.Context(), p0, 0, 1<<20); err != nil || len(recs) < 10 {
		t.Errorf("after a restart: %d records, %v", len(recs), err)
	}
}

// Power cuts at random moments, on a file system that forgets what wasn't synced:
// all that was acknowledged is there.
func TestPowerCut(t *testing.T) {
	mem := vfs.NewCrashableMem()
	random := rand.New(rand.NewPCG(1, 2))
	for cut := range 15 {
		l, err := embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: mem, Topics: one, Logger: quiet})
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		for range random.IntN(30) {
			fill(t, l, p0, 1+random.IntN(64), random.IntN(2000))
		}
		_, end, err := l.Bounds(t.Context(), p0)
		if err != nil {
			t.Fatal(err)
		}
		before := end / 3
		if err := l.Trim(t.Context(), p0, before); err != nil {
			t.Fatal(err)
		}
		// Behind the trim, which syncs all that was written before it.
		more := random.IntN(64)
		fill(t, l, p0, more, random.IntN(2000))
		end += int64(more)
		after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(100), RNG: random})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mem = after
		l, err = embedded.Open(t.Context(), embedded.Config{Dir: "mem", FS: mem, Topics: one, Logger: quiet})
		if err != nil {
			t.Fatalf("after cut %d: %v", cut, err)
		}
		if s, e, err := l.Bounds(t.Context(), p0); err != nil || e != end || s < before {
			t.Fatalf("after cut %d: %d to %d, %v; want %d to %d", cut, s, e, err, before, end)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// largest gives the largest file of the kind in the directory.
func largest(t *testing.T, dir, ext string) (path string, size int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err == nil && info.Size() > size {
			path, size = f, info.Size()
		}
	}
	if path == "" {
		t.Fatalf("no %s in %s", ext, dir)
	}
	return path, size
}

// flip changes 64 bytes in the middle of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 64)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// killedLog copies a log's directory while it is open: what a kill leaves.
func killedLog(t *testing.T, n, size int) string {
	t.Helper()
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "log")
	l := openAt(t, dir, one)
	fill(t, l, p0, n, size)
	// A compaction meanwhile makes a copy of what no moment ever saw.
	for {
		before := listing(t, dir)
		err := os.CopyFS(copied, os.DirFS(dir))
		if err == nil && listing(t, dir) == before {
			return copied
		}
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
}

// listing tells the files of a directory, and their sizes.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			fmt.Fprintln(&all, e.Name(), info.Size())
		}
	}
	return all.String()
}

func wantDamaged(t *testing.T, dir, file string) {
	t.Helper()
	l, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Topics: one, Logger: quiet})
	if err == nil {
		_, end, _ := l.Bounds(t.Context(), p0)
		l.Close()
		t.Fatalf("a log whose %s is damaged was opened; its end is %d", file, end)
	}
	for _, part := range []string{dir, file, "backup"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
}

// A damaged middle is no torn end: the log isn't opened without what lay behind.
func TestDamagedWAL(t *testing.T) {
	dir := killedLog(t, 1000, 5000)
	path, size := largest(t, dir, ".log")
	flip(t, path, size/3)
	wantDamaged(t, dir, strings.TrimSuffix(filepath.Base(path), ".log"))
}

// A torn end is what a power cut leaves, and no damage.
func TestTornWAL(t *testing.T) {
	dir := killedLog(t, 10, 5000)
	path, _ := largest(t, dir, ".log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 300)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, end, err := openAt(t, dir, one).Bounds(t.Context(), p0); err != nil || end != 10 {
		t.Fatalf("end %d, %v", end, err)
	}
}

// A damaged block of a table isn't looked at before it is read: reading it fails
// and names the file, and what is whole is read all the same.
func TestDamagedTable(t *testing.T) {
	dir := killedLog(t, 10_000, 8000)
	path, size := largest(t, dir, ".sst")
	flip(t, path, size/2)
	l := openAt(t, dir, one)
	var failed error
	at, good := int64(0), 0
	for at < 10_000 {
		recs, err := l.Read(t.Context(), p0, at, 0)
		if err != nil {
			failed = err
			at++
			continue
		}
		if recs[0].Offset != at || len(recs[0].Value) != 8000 {
			t.Fatalf("offset %d with %d bytes, want %d with 8000", recs[0].Offset, len(recs[0].Value), at)
		}
		at++
		good++
	}
	if !errors.Is(failed, eventlog.ErrDamaged) || !strings.Contains(failed.Error(), filepath.Base(path)) || !strings.Contains(failed.Error(), "topic \"a\"") {
		t.Errorf("reading: %v; want an error that names %s", failed, filepath.Base(path))
	}
	if good < 9_900 || good == 10_000 {
		t.Errorf("%d records of 10000 were read", good)
	}
}

func TestMissingTable(t *testing.T) {
	dir := killedLog(t, 10_000, 8000)
	path, _ := largest(t, dir, ".sst")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantDamaged(t, dir, strings.TrimSuffix(filepath.Base(path), ".sst"))
}
