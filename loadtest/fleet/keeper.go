package fleet

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// keeper is a process that ends all others of its group when this one is no more,
// however that came: it reads from a pipe whose other end nobody else has. They are a
// group of their own, so that Ctrl-C on a terminal is this process's alone. A group that
// has lost its parent gets a SIGHUP if one of it is frozen, the keeper maybe before the
// end of the pipe: it doesn't end by that.
//
//	this process ──pipe──► keeper          this process is no more:
//	     └─ starts ─► node, node, …        the pipe ends ──► kill -9 of the group
type keeper struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// keep starts one.
func keep() (*keeper, error) {
	k := &keeper{cmd: exec.Command("sh", "-c", "trap '' HUP; read -r line; kill -KILL 0")}
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if k.pipe, err = k.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start what ends processes with this one: %w", err)
	}
	return k, nil
}

// kept are the attributes of a process of the group.
func (k *keeper) kept() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: k.cmd.Process.Pid}
}

// end ends the keeper, and with it whoever of its group is left.
func (k *keeper) end() {
	k.pipe.Close()
	k.cmd.Wait()
}
