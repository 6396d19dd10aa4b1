package bench

import (
	"os"
	"syscall"
)

// syncData returns when the file's data is on the disk.
func syncData(file *os.File) error { return syscall.Fdatasync(int(file.Fd())) }
