package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sluice/pkg/control"
	"sluice/pkg/datadir"
)

// What a node keeps in its data directory, beside the admin token.
const (
	secretsKeyFile = "secrets.key"
	logDir         = "log"
	snapshotFile   = "control.snapshot"
)

// takeData makes the data directory this process's.
func takeData(dir string) (*datadir.Lock, error) {
	lock, err := datadir.Take(dir)
	if err != nil && !errors.Is(err, datadir.ErrInUse) {
		err = fmt.Errorf("%w: name a directory that this process can write", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return lock, nil
}

// dataDir takes the data directory, and makes it where this node must keep anything
// in it. Where it needn't, one that it can't write is left alone; one that another
// process has isn't: most likely both were to keep their things there.
func (n *node) dataDir(context.Context) (err error) {
	needed := len(n.cfg.Brokers) == 0 || n.cfg.AdminToken == "" && n.cfg.Roles.has(roleAPI)
	if needed {
		if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
			return fmt.Errorf("--data: %w: name a directory that this process can write", err)
		}
	}
	if n.data, err = takeData(n.cfg.Data); err != nil {
		if needed || errors.Is(err, datadir.ErrInUse) {
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			n.cfg.Logger.Warn("nothing is kept in the data directory, each start reads all of control", "error", err)
		}
		return nil
	}
	n.onStop(func(context.Context) error { return n.data.Release() })
	return nil
}

// snapshotFile is where control keeps its state for the next start. On brokers a
// node may have no data directory, and reads the whole topic instead.
func (n *node) snapshotFile() string {
	if n.data == nil {
		return ""
	}
	return filepath.Join(n.cfg.Data, snapshotFile)
}

// sealer reads the key that secrets are sealed with; on a new data directory it
// makes one.
func (n *node) sealer() (*control.Sealer, error) {
	if path := n.cfg.SecretsKeyFile; path != "" {
		return loadSealer(path)
	}
	path := filepath.Join(n.cfg.Data, secretsKeyFile)
	s, err := control.LoadSealer(path)
	if errors.Is(err, fs.ErrNotExist) {
		return control.CreateSealer(path)
	}
	return s, err
}
