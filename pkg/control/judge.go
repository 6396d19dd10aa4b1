package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/datadir"
	"sluice/pkg/eventlog"
)

// doubt is a check that differs from what the state was here. Which of the two is
// wrong the log knows: it has every command there ever was.
type doubt struct {
	check
	by   string   // node that wrote the check
	ours [32]byte // hash of the state here, at the check's offset
}

// errDiverged: this node's state isn't what the log's commands make.
var errDiverged = errors.New("this node's state isn't what the commands in its log make, and can't be trusted: restart it, and it reads the whole log anew; if that happens again on this machine, see to its memory and disk")

// The bounds of one look into a doubt, which takes as long as a start without a
// snapshot, and as much memory as the state.
const (
	judgeWithin  = 5 * time.Minute
	judgeAgain   = time.Second // after the log couldn't be read
	rebuildBytes = 1 << 20
)

func newDifferences(r prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_control_differences_total",
		Help: "Times that another node's state of orgs, keys and endpoints was another than this node's, by whose is wrong: this, other, unknown."}, []string{"wrong"})
	for _, wrong := range []string{"this", "other", "unknown"} {
		v.WithLabelValues(wrong)
	}
	if r != nil {
		r.MustRegister(v)
	}
	return v
}

// judge finds out who is wrong, one doubt after the other, until ctx ends. While
// there are any no snapshot is written.
func (c *Control) judge(ctx context.Context) {
	for {
		select {
		case d := <-c.doubts:
			c.decide(ctx, d)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return // what isn't decided stays in doubt, and Close leaves no snapshot of it
		}
		c.mu.Lock()
		c.doubted--
		c.wake() // a snapshot may have waited
		c.mu.Unlock()
	}
}

// decide makes the state anew, and stops this node if it is its own that is wrong.
func (c *Control) decide(ctx context.Context, d doubt) {
	hash, err := c.rebuild(ctx, d.Offset)
	logger := c.logger.With("node", d.by, "offset", d.Offset)
	switch {
	case ctx.Err() != nil: // closed
	case err != nil:
		c.differences.WithLabelValues("unknown").Inc()
		logger.Error("another node has another state, and the log couldn't be read to find out which is wrong: the next check is looked into again", "error", err)
	case hash != d.ours:
		c.differences.WithLabelValues("this").Inc()
		c.distrust()
		err := fmt.Errorf("the state at offset %d, which %s has otherwise: %w", d.Offset, d.by, errDiverged)
		c.fail(err)
		c.logger.Error("control stops", "error", err)
	default:
		c.differences.WithLabelValues("other").Inc()
		logger.Error("another node's state is wrong, this one's was made anew from the log and is right: restart that node without its control.snapshot; if it says the same of this one, give both the same release")
	}
}

// rebuild makes the state of the log anew, up to an offset, beside the one that is
// used, and gives its hash.
func (c *Control) rebuild(ctx context.Context, upTo int64) ([32]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	s := newState(c.sealer)
	for at := int64(0); at <= upTo; {
		records, err := c.log.Read(ctx, partition, at, rebuildBytes)
		switch {
		case err == nil && len(records) == 0:
			return s.hash, fmt.Errorf("the log ends at offset %d", at)
		case errors.Is(err, eventlog.ErrTooOld), errors.Is(err, eventlog.ErrPastEnd), errors.Is(err, eventlog.ErrClosed), err != nil && ctx.Err() != nil:
			return s.hash, err
		case err != nil:
			select {
			case <-time.After(judgeAgain):
			case <-ctx.Done():
				return s.hash, err
			}
			continue
		}
		for i := range records {
			if r := &records[i]; r.Offset <= upTo {
				if _, sent, cmd, err := decode(r.Value); err == nil {
					cmd.apply(s, stamp{offset: r.Offset, at: sent}) // refused again, where it was
				} else if errors.Is(err, errUnknown) {
					return s.hash, err
				}
			}
		}
		at = records[len(records)-1].Offset + 1
	}
	return s.hash, nil
}

// distrust takes the snapshot away, and has none written any more: the next start
// must read the whole log.
func (c *Control) distrust() {
	c.mu.Lock()
	c.diverged = true
	c.mu.Unlock()
	c.fileMu.Lock() // one that is being written is taken away, too
	defer c.fileMu.Unlock()
	if c.path == "" {
		return
	}
	err := os.Remove(c.path)
	if os.IsNotExist(err) {
		return
	}
	if err = errors.Join(err, datadir.Sync(filepath.Dir(c.path))); err != nil {
		c.logger.Error("snapshot of control can't be removed: remove it before the next start", "file", c.path, "error", err)
	}
}
