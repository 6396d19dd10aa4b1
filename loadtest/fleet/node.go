package fleet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Node is one process. It may be ended and started again, by one goroutine at a time;
// its addresses stay.
type Node struct {
	Name, Roles  string
	Address, Ops string   // host:port
	Binary       string   // what its next life is of
	Args         []string // of sluice

	fleet *Fleet
	log   *os.File // what all its lives said
	cmd   *exec.Cmd
	ended chan struct{} // the process has; nil: it was never started
}

func (n *Node) String() string { return n.Name }

// Log names the file with what the process said.
func (n *Node) Log() string { return n.log.Name() }

// PID is of the process that was started last.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Has says whether the process has a role.
func (n *Node) Has(role string) bool { return strings.Contains(n.Roles, role) || n.Roles == "all" }

// start begins a life of the process.
func (n *Node) start() error {
	cmd := exec.Command(n.Binary, n.Args...)
	cmd.Stderr, cmd.Stdout = n.log, n.log
	cmd.SysProcAttr = n.fleet.keeper.kept()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n, err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	n.cmd, n.ended = cmd, ended
	return nil
}

const (
	readyWithin = 2 * time.Minute
	lookEvery   = 50 * time.Millisecond
	againAfter  = 500 * time.Millisecond // a start that failed
)

// Revive starts the process, which is not there or about to end, until it is ready,
// as whatever supervises it would: a start may fail as long as the log is away.
func (n *Node) Revive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		if n.ended != nil {
			select {
			case <-n.ended:
			case <-ctx.Done():
				return fmt.Errorf("%s hasn't ended: its log is %s", n, n.Log())
			}
		}
		if err := n.start(); err != nil {
			return err
		}
		why, err := n.ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s isn't ready: %s: its log is %s", n, why, n.Log())
		}
		pause(ctx, againAfter)
	}
}

// ready waits until the process is; an error says that it ended, or ctx did, and why
// what it said last.
func (n *Node) ready(ctx context.Context) (why string, err error) {
	for {
		var status int
		if status, why = n.Readyz(ctx); status == http.StatusOK {
			return "", nil
		}
		select {
		case <-time.After(lookEvery):
		case <-n.ended:
			return why, fmt.Errorf("%s ended", n)
		case <-ctx.Done():
			return why, ctx.Err()
		}
	}
}

// Readyz asks the process whether it is ready; 0: it didn't answer.
func (n *Node) Readyz(ctx context.Context) (status int, text string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Ops+"/readyz", nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all)
}

// Signal sends one to the process, if there is one.
func (n *Node) Signal(s syscall.Signal) {
	if n.cmd != nil {
		n.cmd.Process.Signal(s)
	}
}

// Kill ends the process as a power cut would.
func (n *Node) Kill() {
	n.Signal(syscall.SIGKILL)
	<-n.ended
}

// Ended is closed when the process that was started last has ended.
func (n *Node) Ended() <-chan struct{} { return n.ended }

// Term has the process drain, and kills it if it hasn't ended within patience. It
// gives its exit code and how long it took; -1: it was killed.
func (n *Node) Term(patience time.Duration) (code int, took time.Duration) {
	began := time.Now()
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.Kill()
	}
	return n.cmd.ProcessState.ExitCode(), time.Since(began)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
