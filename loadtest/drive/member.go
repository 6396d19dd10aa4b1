package drive

import (
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// member is another process of a run, as the first sees it.
type member struct {
	run    *run
	number int
	cmd    *exec.Cmd
	in     io.WriteCloser
	words  tail // what it said on standard error

	mu     sync.Mutex
	orders *gob.Encoder

	reached [stages]chan struct{}
	looked  chan *looked
	part    chan *part
	ended   chan struct{} // it is no more
	done    bool          // it ended as it should; known once it has
}

// enlist starts another process, and listens to it until it ends. Ctrl-C on a terminal
// is the first process's alone; the end of what it reads tells this one that the first is
// no more.
func (t *team) enlist(number int, table *os.File) (*member, error) {
	m := &member{run: t.run, number: number, cmd: t.run.Command(), looked: make(chan *looked, 1), part: make(chan *part, 1), ended: make(chan struct{})}
	for at := range m.reached {
		m.reached[at] = make(chan struct{})
	}
	m.cmd.ExtraFiles, m.cmd.Stderr, m.cmd.SysProcAttr = []*os.File{table}, &m.words, &syscall.SysProcAttr{Setpgid: true}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", m, err)
	}
	m.in, m.orders = in, gob.NewEncoder(in)
	t.mu.Lock()
	t.members = append(t.members, m)
	t.mu.Unlock()
	go func() { // until it ends, which t.end waits for
		defer close(m.ended)
		err := m.hear(gob.NewDecoder(out))
		if exit := m.cmd.Wait(); exit != nil {
			err = exit
		}
		if !m.done {
			m.run.fail(fmt.Errorf("%s ended: %w%s", m, err, m.words.said()))
		}
	}()
	return m, nil
}

func (m *member) String() string {
	return fmt.Sprintf("process %d of %d of the load", m.number+1, m.run.of)
}

// say tells it something. It reads at any time, so that this doesn't wait.
func (m *member) say(o order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.orders.Encode(o) // it fails when the process has ended, which is seen there
}

// hear takes what it tells, until it tells no more.
func (m *member) hear(from *gob.Decoder) error {
	for {
		var t told
		if err := from.Decode(&t); err != nil {
			return err
		}
		switch {
		case t.Failed != "":
			m.run.fail(fmt.Errorf("%s: %s", m, t.Failed))
		case t.At > 0:
			close(m.reached[t.At])
		case t.Looked != nil:
			select {
			case m.looked <- t.Looked:
			case <-m.run.over:
			}
		case t.Part != nil:
			m.part <- t.Part
		}
		m.done = m.done || t.Done
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const mostTail = 2 << 10

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	t.text = t.text[max(0, len(t.text)-mostTail):]
	return len(text), nil
}

func (t *tail) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return ""
	}
	return ": it said " + strings.TrimSpace(string(t.text))
}
