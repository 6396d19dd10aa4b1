package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"sluice/gateway/manage"
	"sluice/pkg/datadir"
	"sluice/pkg/eventlog/embedded"
)

// backupCmd copies a data directory, by the process that runs on it or, when
// none does, by itself.
type backupCmd struct {
	adminFlags
	Dir string `arg:"" help:"Where to; a directory that isn't there yet, on the machine of the process."`
}

// Help is shown by sluice backup --help.
func (backupCmd) Help() string {
	return `The copy is of one moment: everything acknowledged before is in it. Publishing and deliveries go on
meanwhile. It is a data directory of its own, with the sealing key if that is in --data, so keep it as you
keep that one. On the same disk it shares files with the log: copy it elsewhere to survive the disk.

To restore, copy it back and name it with --data. The first start on it makes cursors from before expire,
since events after the backup are others now; deliveries that had ended since are sent again.

Examples:

    sluice backup /backups/2026-11-22
    sluice serve --data /backups/2026-11-22`
}

func (c *backupCmd) Run(ctx context.Context, s std) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	api, err := c.client()
	if err == nil {
		api.patient = true
		_, err = api.call(ctx, http.MethodPost, "/admin/v1/backup", map[string]string{"dir": dir}, nil)
	}
	if err == nil {
		fmt.Fprintf(s.Out, "%s\n", dir)
		return nil
	}
	if _, there := os.Stat(filepath.Join(c.Data, logDir)); there != nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	// Nobody runs: the directory's lock sees to it that this stays so.
	lock, err := takeData(c.Data)
	if err != nil {
		return fmt.Errorf("nobody answers at --ops %s, and %w; if that process has another --ops, name it", c.Ops, err)
	}
	defer lock.Release()
	l, err := embedded.Open(ctx, embedded.Config{
		Dir: filepath.Join(c.Data, logDir), Topics: topics(), Logger: slog.New(slog.NewTextHandler(s.Err, nil)),
	})
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if err := errors.Join(backup(l, c.Data, dir), l.Close()); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s\n", dir)
	return nil
}

// backup copies the log, and what else makes a data directory, to a directory
// that isn't there yet. What isn't whole is never found under that name.
func backup(l *embedded.Log, data, dir string) error {
	partial := filepath.Clean(dir) + ".partial"
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s is there already: name a directory that isn't", dir)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(partial), 0o700), os.Mkdir(partial, 0o700)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: unless another backup is under way, remove it", err)
		}
		return fmt.Errorf("back up to %s: %w", dir, err)
	}
	err := l.Backup(filepath.Join(partial, logDir))
	for _, name := range []string{secretsKeyFile, manage.AdminTokenFile} {
		if err == nil {
			err = copyFile(filepath.Join(data, name), filepath.Join(partial, name))
		}
	}
	if err == nil {
		err = datadir.Sync(partial)
	}
	if err == nil {
		err = os.Rename(partial, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back up to %s: %w", dir, err), os.RemoveAll(partial))
	}
	if err := datadir.Sync(filepath.Dir(partial)); err != nil {
		return fmt.Errorf("back up to %s: %w", dir, err)
	}
	return nil
}

// copyFile copies a small secret file durably; one that isn't there isn't needed.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
