package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
)

// Save writes a snapshot now.
func (c *Control) Save() { c.save() }

// Spoil makes the state another than the log's commands make.
func (c *Control) Spoil() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.retire("org_nobody")
}

// Check tells the other nodes what the state is here.
func (c *Control) Check(t *testing.T) error { return c.check(t.Context()) }

// RecheckEvery is how often Recheck looks at the log at most.
const RecheckEvery = recheckEvery

// BeforeRename has fn called between a snapshot's last byte and its rename, which
// isn't done.
func BeforeRename(fn func()) {
	replace = func(path string, write func(io.Writer) error) error {
		f, err := os.Create(path + ".new")
		if err != nil {
			return err
		}
		if err := write(f); err != nil {
			return err
		}
		fn()
		return errors.New("not renamed")
	}
}

// reloaded is the state after a way through a snapshot.
func reloaded(t *testing.T, s *state) *state {
	t.Helper()
	c := &Control{state: s}
	var file bytes.Buffer
	if err := c.moment().encode(&file); err != nil {
		t.Fatal(err)
	}
	out, in := newState(s.sealer), newThings(&file)
	h, err := in.head()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.load(out); err != nil {
		t.Fatal(err)
	}
	if out.hash != h.hash {
		t.Fatal("the state has another hash when it is read back")
	}
	return out
}

// LimitedEndpoint is a CreateEndpoint for orgs that may have fewer.
type LimitedEndpoint struct {
	CreateEndpoint
	Most int `json:"-"`
}

func (cmd *LimitedEndpoint) prepare(ctx context.Context, c *Control) error {
	err := cmd.CreateEndpoint.prepare(ctx, c)
	cmd.Limit = cmd.Most
	return err
}

// LimitedKey is a CreateKey for orgs that may have fewer.
type LimitedKey struct {
	CreateKey
	Most int `json:"-"`
}

func (cmd *LimitedKey) prepare(ctx context.Context, c *Control) error {
	err := cmd.CreateKey.prepare(ctx, c)
	cmd.Limit = cmd.Most
	return err
}
