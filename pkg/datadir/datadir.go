// Package datadir is about the directory that a process keeps things in: it is one
// process's, whatever log that uses, and its files are whole, whenever that is killed.
//
//	datadir.go   Take, Lock.Release: one process at a time
//	file.go      Create, Replace: a file is what it was, or what it is to be
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockName is the file that says who has the directory.
const lockName = "sluice.lock"

// ErrInUse says that another process has the directory.
var ErrInUse = errors.New("in use")

// Lock is a directory that is this process's. It ends with the process, however
// that ends.
type Lock struct{ file *os.File }

// Take makes the directory this process's. It must be there. Where another has it
// the error is ErrInUse, and names the process; Take doesn't wait.
func Take(dir string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		holder := "another process"
		if text, err := io.ReadAll(io.LimitReader(f, 256)); err == nil && len(text) > 0 {
			holder = strings.TrimSpace(string(text))
		}
		return nil, fmt.Errorf("%s is %w by %s: stop that, or give this process a directory of its own", dir, ErrInUse, holder)
	}
	who := fmt.Sprintf("process %d, started %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	_, err = f.WriteAt([]byte(who), 0)
	if err := errors.Join(err, f.Truncate(int64(len(who)))); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &Lock{f}, nil
}

// Release lets the next process in. The file stays: removing it would let two in.
func (l *Lock) Release() error { return l.file.Close() }
