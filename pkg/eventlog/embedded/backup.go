package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// backupName is the file in a copy that says so. What goes on from a copy and
// what went on from the original give the same offsets to different records, so
// whoever goes on from a copy must tell the two apart (see Copied).
const backupName = "backup"

// Backup writes the log, as it is at one moment, to a directory that mustn't be
// there yet: all that was acknowledged before is in it. Appends and reads go on
// meanwhile. On the same disk the copy shares the tables that are finished, and
// takes next to no room or time. Errors leave nothing behind.
func (l *Log) Backup(dir string) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	if err := l.failure(); err != nil {
		return err
	}
	err := l.db.Checkpoint(dir, pebble.WithFlushedWAL())
	if errors.Is(err, fs.ErrExist) { // not ours to remove
		return fmt.Errorf("back up the log to %s: %w: name a directory that isn't there yet", dir, err)
	}
	if err == nil {
		err = l.markCopied(dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back up the log to %s: %w", dir, err), l.fs.RemoveAll(dir))
	}
	return nil
}

func (l *Log) markCopied(dir string) error {
	f, err := l.fs.Create(l.fs.PathJoin(dir, backupName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "taken %s\n", time.Now().UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close(), l.syncDir(dir))
}

// Copied says that this log is a backup that nobody has gone on from yet. Its
// owner makes sure that nothing mistakes it for the original, and calls
// SettleCopied.
func (l *Log) Copied() bool {
	_, err := l.fs.Stat(l.fs.PathJoin(l.dir, backupName))
	return err == nil
}

// SettleCopied makes a backup a log like any other.
func (l *Log) SettleCopied() error {
	if err := errors.Join(l.fs.Remove(l.fs.PathJoin(l.dir, backupName)), l.syncDir(l.dir)); err != nil {
		return fmt.Errorf("settle the restored log in %s: %w", l.dir, err)
	}
	return nil
}

func (l *Log) syncDir(dir string) error {
	d, err := l.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
