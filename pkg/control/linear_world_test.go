package control_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"sluice/pkg/control"
	"sluice/pkg/eventlog"
)

// world is what a history is made in.
type world struct {
	t     *testing.T
	begun time.Time
	nodes []*modelNode
	late  sync.WaitGroup // appends that come later than anybody thought

	mu      sync.Mutex
	history []porcupine.Operation
}

func (w *world) now() int64 { return int64(time.Since(w.begun)) }

func (w *world) restarts() (n int64) {
	for _, node := range w.nodes {
		n += node.restarts.Load()
	}
	return n
}

func (w *world) note(client int, in request, call int64, out answered) {
	back := w.now()
	if out.unknown {
		back = math.MaxInt64
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: back})
}

// lookAtEnd has every node asked for everything once more. All have the same.
func (w *world) lookAtEnd() {
	for i, n := range w.nodes {
		c := n.control.Load()
		n.log.calm.Store(true)
		if err := c.Fresh(w.t.Context()); err != nil {
			w.t.Errorf("node %d in the end: %v", i, err)
			return
		}
		if c.StateHash() != w.nodes[0].control.Load().StateHash() {
			w.t.Errorf("node %d has another state in the end", i)
		}
		for g := range groups {
			for o := range groupOrgs {
				for _, v := range []verb{readOrg, readKeys, listEndpoints} {
					in, call := request{verb: v, group: g, org: o}, w.now()
					if out, ok := look(w.t.Context(), c, in, ""); ok {
						w.note(0, in, call, answered{answer: out})
					}
				}
			}
		}
	}
}

// modelNode is a node that is restarted now and then.
type modelNode struct {
	log      *badLog
	path     string
	control  atomic.Pointer[control.Control] // nil: it is being restarted
	restarts atomic.Int64
}

func (n *modelNode) open(t *testing.T) {
	for {
		c, err := control.Open(t.Context(), control.Config{Log: n.log, Sealer: sealer(t), Lanes: 16, Snapshot: n.path})
		if err == nil {
			n.control.Store(c)
			return
		}
		if t.Context().Err() != nil {
			t.Errorf("open: %v", err)
			return
		}
	}
}

// trouble makes a snapshot, or restarts the node in the middle of all it does:
// with the snapshot that it leaves, or with an earlier one, as after a kill.
func (n *modelNode) trouble(t *testing.T, chance *chance) {
	c := n.control.Load()
	if chance.n(3) == 0 {
		c.Save()
		return
	}
	earlier, err := os.ReadFile(n.path)
	killed := err == nil && chance.n(2) == 0
	n.control.Store(nil)
	c.Close()
	if killed {
		if err := os.WriteFile(n.path, earlier, 0o600); err != nil {
			t.Error(err)
		}
	}
	n.restarts.Add(1)
	n.open(t)
}

// badLog is the log as a node has it on a bad day.
type badLog struct {
	eventlog.Log
	*chance
	late *sync.WaitGroup
	slow time.Duration // its tail
	calm atomic.Bool
}

var errLost = errors.New("no answer")

func (l *badLog) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if l.calm.Load() {
		return l.Log.Append(ctx, records)
	}
	switch n := l.n(100); {
	case n < 2:
		return nil, errLost // and no append
	case n < 4:
		l.Log.Append(ctx, records)
		return nil, errLost
	case n < 6: // it is on its way for longer than anybody waits
		sent := make([]eventlog.Record, len(records))
		for i, r := range records {
			sent[i] = eventlog.Record{Partition: r.Partition, Value: slices.Clone(r.Value)}
		}
		l.late.Go(func() {
			l.pause(50 * time.Millisecond)
			l.Log.Append(context.Background(), sent)
		})
		return nil, errLost
	case n < 30:
		l.pause(2 * time.Millisecond)
	}
	return l.Log.Append(ctx, records)
}

func (l *badLog) Bounds(ctx context.Context, p eventlog.Partition) (int64, int64, error) {
	if !l.calm.Load() && l.n(100) == 0 {
		return 0, 0, errLost
	}
	return l.Log.Bounds(ctx, p)
}

func (l *badLog) Tail(ctx context.Context, p eventlog.Partition, from int64) (eventlog.Tail, error) {
	tail, err := l.Log.Tail(ctx, p, from)
	return &badTail{tail, l}, err
}

type badTail struct {
	eventlog.Tail
	log *badLog
}

func (t *badTail) Next(ctx context.Context) ([]eventlog.Record, error) {
	if t.log.calm.Load() {
		return t.Tail.Next(ctx)
	}
	t.log.pause(time.Millisecond + t.log.slow)
	if t.log.n(200) == 0 {
		return nil, errLost
	}
	return t.Tail.Next(ctx)
}

func (t *badTail) Close() {
	if t.Tail != nil {
		t.Tail.Close()
	}
}

// chance is drawn by any number of goroutines.
type chance struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newChance(seed, stream uint64) *chance {
	return &chance{rng: rand.New(rand.NewPCG(seed, stream))}
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *chance) pause(most time.Duration) {
	time.Sleep(time.Duration(c.n(int(most))))
}

// things are what the clients of a group know of.
