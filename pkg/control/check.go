package control

import (
	"cmp"
	"context"

	"sluice/pkg/eventlog"
)

// check says what the state was for the node that wrote it when the command at
// Offset had been applied there. Applied, it changes nothing; every node that
// remembers its own hash of that moment compares the two.
type check struct {
	Offset int64    `json:"offset"`
	Format int      `json:"format"` // of what was hashed; another is not compared
	Hash   [32]byte `json:"hash"`
}

func (*check) op() string { return "check" }

func (*check) apply(*state, stamp) ([]Change, error) { return nil, nil }

// trail remembers the hash of the state behind each of the newest commands, for
// checks that come a little later.
type trail [256]struct {
	offset int64
	hash   [32]byte
}

func (t *trail) note(offset int64, hash [32]byte) {
	at := &t[offset%int64(len(t))]
	at.offset, at.hash = offset, hash
}

// differs gives the state's hash at the check's offset, if it was another. What isn't
// remembered can't differ.
func (t *trail) differs(cmd *check) (ours [32]byte, differs bool) {
	if cmd.Offset <= 0 || cmd.Format != format {
		return ours, false
	}
	at := &t[cmd.Offset%int64(len(t))]
	return at.hash, at.offset == cmd.Offset && at.hash != cmd.Hash
}

// compare looks whether the state was the same here, and has judge find out who is
// wrong where it wasn't. A node that has just read the whole log knows already: so
// nothing that a node ever wrote keeps another from starting. c.mu is held.
func (c *Control) compare(cmd *check, r *eventlog.Record) {
	ours, differs := c.trail.differs(cmd)
	if !differs {
		c.unchecked = 0
		return
	}
	// unchecked stays: the check of this node is due, and by that the other will
	// learn that it is wrong.
	switch d := (doubt{check: *cmd, by: cmp.Or(string(r.Key), "unknown"), ours: ours}); {
	case !c.ready && !c.resumed:
		c.logger.Warn("another node had another state", "node", d.by, "offset", cmd.Offset)
	case c.doubted == cap(c.doubts):
		c.logger.Warn("another node has another state while one is looked into: its next check is", "node", d.by, "offset", cmd.Offset)
	default:
		c.doubted++
		c.doubts <- d
	}
}

// check tells the other nodes what the state is here. That it is right isn't looked
// up before: whoever differs does that, and answers with a check of its own.
func (c *Control) check(ctx context.Context) error {
	c.mu.RLock()
	cmd := &check{Offset: c.applied, Format: format, Hash: c.state.hash}
	c.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := c.Do(ctx, cmd)
	return err
}
