package datadir_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/pkg/datadir"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("SLUICE_TEST_WRITE"); path != "" {
		writeAndWait(path)
	}
	os.Exit(m.Run())
}

// writeAndWait takes the directory, and writes until it is killed.
func writeAndWait(path string) {
	if _, err := datadir.Take(filepath.Dir(path)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	err := datadir.Replace(path, func(to io.Writer) error {
		if os.Getenv("SLUICE_TEST_TEXT") != "" {
			fmt.Fprint(to, "half of it")
		}
		fmt.Println("writing")
		select {}
	})
	fmt.Println(err)
	os.Exit(1)
}

// A kill while a file is written leaves it as it was, and the next process writes
// it; while the first is there no other has the directory.
func TestKilledWhileWriting(t *testing.T) {
	for name, text := range map[string]string{"nothing written": "", "half written": "yes"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fresh := filepath.Join(dir, "fresh")
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "SLUICE_TEST_WRITE="+fresh, "SLUICE_TEST_TEXT="+text)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "writing\n" {
				t.Fatalf("it said %q, %v", line, err)
			}
			_, err = datadir.Take(dir)
			if !errors.Is(err, datadir.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d, started ", cmd.Process.Pid)) {
				t.Errorf("a second process: %v", err)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is there: %v", err)
			}
			lock, err := datadir.Take(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := datadir.Create(fresh, []byte("whole")); err != nil {
				t.Fatal(err)
			}
			is(t, fresh, "whole")
			if err := lock.Release(); err != nil {
				t.Error(err)
			}
			if lock, err = datadir.Take(dir); err != nil {
				t.Fatal(err)
			}
			lock.Release()
		})
	}
}

func TestFilesThatAreThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := datadir.Create(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := datadir.Create(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	is(t, path, "one")
	err := datadir.Replace(path, func(to io.Writer) error {
		fmt.Fprint(to, "thr")
		return io.ErrShortWrite
	})
	if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a write that fails: %v", err)
	}
	is(t, path, "one")
	if err := datadir.Replace(path, func(to io.Writer) error { _, err := fmt.Fprint(to, "four"); return err }); err != nil {
		t.Fatal(err)
	}
	is(t, path, "four")
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("something else is there: %v", entries)
	}
}

func is(t *testing.T, path, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != want {
		t.Errorf("%s is %q, %v", path, text, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", path, info.Mode())
	}
}
