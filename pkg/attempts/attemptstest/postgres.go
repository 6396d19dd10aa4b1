package attemptstest

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The environment that says which PostgreSQL tests use.
const (
	postgresVar   = "SLUICE_TEST_POSTGRES"    // postgres://…: this one
	noPostgresVar = "SLUICE_TEST_NO_POSTGRES" // 1: tests that need one are skipped where none can be had
)

// Postgres gives the URL of a real PostgreSQL: that of SLUICE_TEST_POSTGRES, else of
// one that is started for the test, from binaries that deploy/postgres/binaries
// finds or fetches. The test fails where none can be had, or, with
// SLUICE_TEST_NO_POSTGRES=1, is skipped and says so.
func Postgres(t testing.TB) string {
	t.Helper()
	if given := os.Getenv(postgresVar); given != "" {
		return given
	}
	dir, err := binaries()
	var at string
	if err == nil {
		at, err = startPostgres(t, dir)
	}
	if err == nil {
		return at
	}
	if os.Getenv(noPostgresVar) == "1" {
		fmt.Fprintf(os.Stderr, "\n!!! %s is SKIPPED, nothing of the PostgreSQL side is tested: %s=1 and %v\n\n", t.Name(), noPostgresVar, err)
		t.Skipf("no PostgreSQL: %v", err)
	}
	t.Fatalf("no PostgreSQL to test on: %v\nset %s=postgres://…, or see to what deploy/postgres/binaries needs; %s=1 skips what needs one", err, postgresVar, noPostgresVar)
	return ""
}

// binaries finds the directory of initdb and postgres, once for all tests of a
// process.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the test's directory")
		}
		dir = up
	}
	var said bytes.Buffer
	find := exec.Command(filepath.Join(dir, "deploy", "postgres", "binaries"))
	find.Stderr = &said
	out, err := find.Output()
	if err != nil {
		return "", fmt.Errorf("deploy/postgres/binaries: %w\n%s", err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
})

// startPostgres runs a server on a socket in a directory of its own, until the test
// ends. It refuses root, so it runs as nobody then.
func startPostgres(t testing.TB, bin string) (string, error) {
	dir, err := os.MkdirTemp("", "sluice-postgres-")
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return "", err
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return "", err
		}
	}
	data := filepath.Join(dir, "data")
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, as
		return cmd
	}
	if out, err := run("initdb", "-D", data, "-U", "sluice", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	var said bytes.Buffer
	server := run("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_min_messages=fatal")
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGINT) // whoever is connected is cut off
		<-ended
	})
	for range 600 {
		if err := run("pg_isready", "-h", dir, "-U", "sluice").Run(); err == nil {
			q := url.Values{"host": {dir}, "user": {"sluice"}, "sslmode": {"disable"}}
			return "postgres:///postgres?" + q.Encode(), nil
		}
		select {
		case err := <-ended:
			ended <- err
			return "", fmt.Errorf("postgres ended: %w\n%s", err, said.Bytes())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "", errors.New("postgres doesn't answer within 30 s")
}
