package control

import (
	"context"
	"errors"
	"fmt"
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

// errDiverged: the same commands made another state here than on another node.
var errDiverged = errors.New("this node's state isn't what another node made of the same commands, and can't be trusted: restart it, and it reads the whole log anew; if that doesn't help, the nodes' releases disagree: give all of them the same")

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

// differs reports whether the state was another at the check's offset. What isn't
// remembered can't differ.
func (t *trail) differs(cmd *check) bool {
	if cmd.Offset <= 0 || cmd.Format != format {
		return false
	}
	at := &t[cmd.Offset%int64(len(t))]
	return at.offset == cmd.Offset && at.hash != cmd.Hash
}

// compare ends the life of a state that differs. At a start the log's checks are
// of the past, and only told of: whoever wrote a wrong one may have been replaced
// since, and nobody could ever start again. c.mu is held.
func (c *Control) compare(cmd *check, offset int64) error {
	if !c.trail.differs(cmd) {
		return nil
	}
	if !c.ready {
		c.logger.Warn("another node had another state", "offset", cmd.Offset)
		return nil
	}
	c.diverged = true
	return fmt.Errorf("check at offset %d of the state at offset %d: %w", offset, cmd.Offset, errDiverged)
}

// check tells the other nodes what the state is here.
func (c *Control) check(ctx context.Context) error {
	c.mu.RLock()
	cmd := &check{Offset: c.applied, Format: format, Hash: c.state.hash}
	c.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := c.Do(ctx, cmd)
	return err
}
