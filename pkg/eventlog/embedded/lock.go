package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/pkg/eventlog"
)

// lockName is the file that says who holds the directory. Pebble has a lock of
// its own beside it, which doesn't say.
const lockName = "sluice.lock"

var _ eventlog.Private = (*Log)(nil)

// Private implements eventlog.Private: the lock keeps other processes out, and
// an Append is a part of one Pebble batch.
func (l *Log) Private() {}

type dirLock struct{ file *os.File }

func (l *Log) lockDir() (*dirLock, error) {
	path := filepath.Join(l.dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, l.openError(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, l.openError(fmt.Errorf("lock %s: %w", path, err))
		}
		holder := "another process"
		if text, err := io.ReadAll(io.LimitReader(f, 256)); err == nil && len(text) > 0 {
			holder = strings.TrimSpace(string(text))
		}
		return nil, fmt.Errorf("the log in %s is in use by %s: stop it, or use another directory", l.dir, holder)
	}
	who := fmt.Sprintf("process %d, started %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt(f, who)); err != nil {
		return nil, errors.Join(l.openError(fmt.Errorf("lock %s: %w", path, err)), f.Close())
	}
	return &dirLock{f}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// release lets the next process in. The file stays: removing it would let two in.
func (l *dirLock) release() error { return l.file.Close() }
