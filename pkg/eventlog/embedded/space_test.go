package embedded_test

import (
	stdcontext "context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

var (
	guarded = []eventlog.Topic{{Name: "events", Partitions: 1, Yields: true}, {Name: "lanes", Partitions: 1}}
	events  = eventlog.Partition{Topic: "events"}
	lanes   = eventlog.Partition{Topic: "lanes"}
)

// noise gives bytes that can't be compressed.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

func openGuarded(t *testing.T, cfg embedded.Config) *embedded.Log {
	t.Helper()
	cfg.Dir, cfg.Topics, cfg.Logger = "mem", guarded, quiet
	l, err := embedded.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// appendUntilFull appends records of 100 kB and tells how many the log took; a
// tenth of a second passes after each.
func appendUntilFull(t *testing.T, l *embedded.Log, p eventlog.Partition, most int) (taken int) {
	t.Helper()
	value := noise(100_000)
	for ; taken < most; taken++ {
		_, err := l.Append(t.Context(), []eventlog.Record{{Partition: p, Value: value}})
		if errors.Is(err, eventlog.ErrFull) {
			return taken
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return taken
}

// At the limit new events are refused first; the others go on with the reserve
// until that is gone, too. A trim makes room, and everything is taken again.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 200 << 20
		l := openGuarded(t, embedded.Config{FS: vfs.NewMem(), MaxBytes: limit})
		first := appendUntilFull(t, l, events, 10_000)
		if first == 10_000 {
			t.Fatal("the log took 1 GB")
		}
		s, err := l.Space()
		if l.Scarce() != s.YieldingRefused {
			t.Errorf("that room is scarce is said to be %v: %+v", l.Scarce(), s)
		}
		// Tables that are rewritten stand twice for a moment.
		if err != nil || !s.YieldingRefused && s.Used < limit/2 || s.AllRefused || s.Used > limit*105/100 {
			t.Errorf("after %d events: %+v, %v", first, s, err)
		}
		both := []eventlog.Record{{Partition: lanes, Value: []byte("x")}, {Partition: events, Value: noise(100_000)}}
		time.Sleep(2 * time.Second)
		if _, err := l.Append(t.Context(), both); !errors.Is(err, eventlog.ErrFull) {
			t.Errorf("an append that holds an event: %v", err)
		}
		more := appendUntilFull(t, l, lanes, 10_000)
		if more < 100 || more == 10_000 {
			t.Errorf("after the events %d records of others were taken", more)
		}
		if s, _ := l.Space(); s.Used > limit*105/100 {
			t.Errorf("the log takes %d bytes, and may take %d", s.Used, limit)
		}
		t.Logf("%d events, then %d others of 100 kB in %d MB", first, more, limit>>20)

		if err := l.Trim(t.Context(), events, int64(first)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		for {
			_, err := l.Append(t.Context(), []eventlog.Record{{Partition: events, Value: noise(100_000)}})
			if err == nil {
				break
			}
			if !errors.Is(err, eventlog.ErrFull) || time.Since(begun) > 30*time.Second {
				t.Fatalf("%v after the trim: %v", time.Since(begun), err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("events were taken %v after the trim", time.Since(begun))
		if n := appendUntilFull(t, l, lanes, 100); n != 100 {
			t.Errorf("of 100 records %d were taken after the trim", n)
		}
	})
}

// A disk that others fill refuses events at twice the floor and everything at
// the floor, without a limit of ours; nothing is refused for good.
func TestDiskFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		free := func(bytes uint64) {
			fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 10 << 30, AvailBytes: bytes})
			time.Sleep(2 * time.Second)
		}
		free(5 << 30)
		l := openGuarded(t, embedded.Config{FS: fs})
		const floor = 10 << 30 / 20
		for _, c := range []struct {
			free            uint64
			takesE, takesOt bool
		}{
			{5 << 30, true, true},
			{2*floor - 1, false, true},
			{2*floor + floor/16, false, true}, // a little more isn't enough
			{2*floor + floor/4, true, true},
			{floor - 1, false, false},
			{floor + floor/4, false, true},
			{5 << 30, true, true},
		} {
			free(c.free)
			for p, want := range map[eventlog.Partition]bool{events: c.takesE, lanes: c.takesOt} {
				_, err := l.Append(t.Context(), []eventlog.Record{{Partition: p, Value: []byte("x")}})
				if want != (err == nil) || err != nil && !errors.Is(err, eventlog.ErrFull) {
					t.Errorf("%s with %d MB left: %v", p.Topic, c.free>>20, err)
				}
			}
			if s, err := l.Space(); err != nil || s.Free != int64(c.free) || s.YieldingRefused == c.takesE || s.AllRefused == c.takesOt {
				t.Errorf("with %d MB left: %+v, %v", c.free>>20, s, err)
			}
		}
	})
}

// slowSync is what slowFS takes for a sync of a file.
const slowSync = 500 * time.Millisecond

type slowFS struct{ vfs.FS }

type slowFile struct{ vfs.File }

func (s slowFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return slowFile{f}, err
}

func (s slowFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(old, name, c)
	return slowFile{f}, err
}

func (f slowFile) Sync() error {
	time.Sleep(slowSync)
	return f.File.Sync()
}

func (f slowFile) SyncData() error {
	time.Sleep(slowSync)
	return f.File.SyncData()
}

// A disk that is slow makes appends slow; what comes faster waits within its
// bound, gives up when its time is over, and costs nothing that was acknowledged.
func TestSlowSync(t *testing.T) {
	l := openGuarded(t, embedded.Config{FS: slowFS{vfs.NewMem()}})
	begun := time.Now()
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: events, Value: []byte("x")}}); err != nil || time.Since(begun) < slowSync {
		t.Fatalf("after %v: %v", time.Since(begun), err)
	}
	value := noise(800_000)
	var (
		mu         sync.Mutex
		acked      []int64
		late, slow int
		wg         sync.WaitGroup
	)
	const patient = 5
	for n := range 200 { // 160 MB: a second takes 16 MB
		wg.Go(func() {
			within := 3500 * time.Millisecond
			if n < patient {
				within = time.Minute
			}
			ctx, cancel := stdcontext.WithTimeout(t.Context(), within)
			defer cancel()
			begun := time.Now()
			offsets, err := l.Append(ctx, []eventlog.Record{{Partition: events, Value: value}})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				acked = append(acked, offsets...)
			case errors.Is(err, stdcontext.DeadlineExceeded):
				late++
			default:
				t.Error(err)
			}
			if n >= patient && time.Since(begun) > 9*time.Second { // all that waits takes 10 s to write
				slow++
			}
		})
	}
	wg.Wait()
	t.Logf("%d acknowledged, %d gave up in %v", len(acked), late, time.Since(begun))
	if len(acked) < patient || late == 0 || slow > 0 {
		t.Errorf("%d acknowledged, %d gave up, %d waited for longer than their time", len(acked), late, slow)
	}
	for _, o := range acked {
		if recs, err := l.Read(t.Context(), events, o, 0); err != nil || len(recs[0].Value) != len(value) {
			t.Fatalf("offset %d: %v", o, err)
		}
	}
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: events, Value: []byte("x")}}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// hungFS is a disk whose syncs wait until hung is closed, once on is set.
type hungFS struct {
	vfs.FS
	on   *atomic.Bool
	hung chan struct{}
}

func (f hungFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return hungFile{file, f}, err
}

func (f hungFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return hungFile{file, f}, err
}

type hungFile struct {
	vfs.File
	fs hungFS
}

func (f hungFile) wait() {
	if f.fs.on.Load() {
		<-f.fs.hung
	}
}

func (f hungFile) SyncData() error { f.wait(); return f.File.SyncData() }
func (f hungFile) Sync() error     { f.wait(); return f.File.Sync() }

// A disk that doesn't answer keeps nobody past their time, neither those that are
// being written nor those that wait in line, or for room in it.
func TestHungSync(t *testing.T) {
	fs := hungFS{vfs.NewMem(), new(atomic.Bool), make(chan struct{})}
	l := openGuarded(t, embedded.Config{FS: fs})
	fs.on.Store(true)
	release := sync.OnceFunc(func() { fs.on.Store(false); close(fs.hung) })
	value := noise(800_000)
	given := func(appends int) {
		t.Helper()
		ended := make(chan error, appends)
		for range appends {
			go func() {
				ctx, cancel := stdcontext.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, err := l.Append(ctx, []eventlog.Record{{Partition: events, Value: value}})
				ended <- err
			}()
		}
		patience := time.After(20 * time.Second)
		for n := range appends {
			select {
			case err := <-ended:
				if !errors.Is(err, stdcontext.DeadlineExceeded) {
					t.Errorf("append: %v", err)
				}
			case <-patience:
				t.Fatalf("%d of %d appends wait for a disk that hangs, long past their time", appends-n, appends)
			}
		}
	}
	given(20)
	var patient sync.WaitGroup
	defer patient.Wait()
	defer release()
	for range 120 { // 96 MB: more than may wait
		patient.Go(func() {
			if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: events, Value: value}}); err != nil {
				t.Errorf("append with all the time there is: %v", err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	given(20) // find no room
	release()
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: events, Value: []byte("x")}}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
