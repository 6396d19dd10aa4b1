package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// terminal opens one: what is written to it can be read.
func terminal(t *testing.T) (tty *os.File, shown *lockedBuffer) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	var n, locked int32
	for call, value := range map[uintptr]*int32{syscall.TIOCGPTN: &n, syscall.TIOCSPTLCK: &locked} {
		if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), call, uintptr(unsafe.Pointer(value))); no != 0 {
			err = no
		}
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	shown = new(lockedBuffer)
	go io.Copy(shown, master)
	t.Cleanup(func() { tty.Close(); master.Close() })
	return tty, shown
}

// On a terminal a file's progress is seen, and no ids; on a pipe ids, and nothing
// else.
func TestPublishProgress(t *testing.T) {
	t.Parallel()
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	args := []string{"publish", "--url", "http://" + p.address, "--key", p.key, linesFile(t, 3000, map[int]string{2500: "{"})}
	tty, shown := terminal(t)
	if code := run(context.Background(), args, std{In: strings.NewReader(""), Out: tty, Err: tty}); code != 1 {
		t.Errorf("exit code %d: %s", code, shown)
	}
	eventually(t, 5*time.Second, func() error {
		for _, want := range []string{" events · ", " MB of 0.1 MB · ", "/s", "line 2500: ", "\n", "2,999 events published in "} {
			if !strings.Contains(shown.String(), want) {
				return fmt.Errorf("%q isn't in %q", want, shown)
			}
		}
		return nil
	})
	if strings.Contains(shown.String(), "line_") {
		t.Error("ids were printed on a terminal")
	}
	var out, said bytes.Buffer
	if code := run(context.Background(), args, std{In: strings.NewReader(""), Out: &out, Err: &said}); code != 1 || len(strings.Fields(out.String())) != 2999 || strings.Contains(said.String(), " · ") {
		t.Errorf("exit code %d, %d ids, %s", code, len(strings.Fields(out.String())), said.String())
	}
}
