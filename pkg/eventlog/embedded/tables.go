package embedded

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/eventlog"
)

// Pebble writes tables behind the appends. One that can't be written is tried
// again, at once and for ever: on a full disk that would take a processor, and
// thousands of lines a second of the process's own log. So:
//
//	a table's write fails ─► a pause, before Pebble hears of it
//	Pebble tells          ─► trouble: one line a minute, not ready, new events refused
//	a flush succeeds      ─► it is over
//
// What was appended is safe meanwhile: it is in the write-ahead log. Appends go on
// until the memtables are full, and then wait.
const (
	tablePause   = 250 * time.Millisecond
	troubleEvery = time.Minute
	// closePatience is how long Close waits for appends that wait for a table.
	closePatience = 5 * time.Second
	// workNeeds is what the disk must have left for Pebble to work: it ends the
	// process when it can't make its next write-ahead log, and at a start it tries
	// without end to write tables of what the last ones hold.
	workNeeds = 16 << 20
)

// trouble is what goes wrong in the background.
type trouble struct {
	err  atomic.Pointer[error] // nil: nothing
	mu   sync.Mutex
	told time.Time
}

// backgroundFailed is called by Pebble, which holds its own lock meanwhile.
func (l *Log) backgroundFailed(err error) {
	t := &l.trouble
	wrapped := fmt.Errorf("the log in %s can't write its tables: %w; what was acknowledged is safe, new events are refused: "+
		"see to the disk, or free some of it", l.dir, err)
	t.err.Store(&wrapped)
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.told) < troubleEvery {
		return
	}
	t.told = time.Now()
	l.logger.Error("log: work in the background fails and is tried again", "dir", l.dir, "error", err)
}

func (l *Log) flushed(info pebble.FlushInfo) {
	if info.Err == nil && l.trouble.err.Swap(nil) != nil {
		l.logger.Info("log: work in the background succeeds again", "dir", l.dir)
	}
}

func (t *trouble) now() error {
	if err := t.err.Load(); err != nil {
		return *err
	}
	return nil
}

// idle waits until the appender has drained its queue and the others have ended.
// What waits for a table that can't be written is given up; it wasn't
// acknowledged.
func (l *Log) idle() {
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		case <-time.After(closePatience):
			if err := l.trouble.now(); err != nil {
				l.fail(err)
				return
			}
		}
	}
}

// roomToWork tells whether Pebble may be given work that appends don't: on a full
// disk that can only do harm. A file system that doesn't tell is tried.
func (l *Log) roomToWork() error {
	disk, err := l.fs.GetDiskUsage(l.dir)
	if err != nil || disk.AvailBytes >= workNeeds {
		return nil
	}
	return fmt.Errorf("%w: its disk has %d bytes left, and it needs %d to work: free some", eventlog.ErrFull, disk.AvailBytes, workNeeds)
}

// pausingFS pauses after a table couldn't be written.
type pausingFS struct {
	vfs.FS
}

// Unwrap implements vfs.FS.
func (fs pausingFS) Unwrap() vfs.FS { return fs.FS }

func (fs pausingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	if err != nil {
		return nil, pause(err)
	}
	return pausingFile{f}, nil
}

func pause(err error) error {
	if err != nil {
		time.Sleep(tablePause)
	}
	return err
}

type pausingFile struct{ vfs.File }

func (f pausingFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, pause(err)
}

func (f pausingFile) Sync() error     { return pause(f.File.Sync()) }
func (f pausingFile) SyncData() error { return pause(f.File.SyncData()) }
