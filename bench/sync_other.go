//go:build !linux

package bench

import "os"

// syncData returns when the file's data is on the disk.
func syncData(file *os.File) error { return file.Sync() }
