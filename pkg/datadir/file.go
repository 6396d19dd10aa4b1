package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Create makes a file of mode 0600, durably. One that is there stays as it is, and
// the error is fs.ErrExist.
func Create(path string, text []byte) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return fmt.Errorf("create %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return Replace(path, func(to io.Writer) error {
		_, err := to.Write(text)
		return err
	})
}

// Replace puts what write writes in place of the file, with mode 0600, durably.
// After an error, and after a kill at any time, the file is what it was or what it
// was to be. It is for files of a directory that this process has taken.
func Replace(path string, write func(io.Writer) error) error {
	// A file of this name is what a killed process left.
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return Sync(filepath.Dir(path))
}

// Sync makes durable what was made, renamed or removed in a directory.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
