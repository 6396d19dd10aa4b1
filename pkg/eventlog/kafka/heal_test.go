package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/kafka"
)

// network is what lies between us and the brokers: it can be cut, so that
// connections end and none is made, or hang, so that nothing arrives any more.
type network struct {
	mu    sync.Mutex
	fault string
	conns map[*line]bool
	over  chan struct{} // closed when the fault is over
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	fault, over := n.fault, n.over
	n.mu.Unlock()
	switch fault {
	case "cut":
		return nil, errors.New("network is unreachable")
	case "hang":
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: c, n: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[l] = true
	return l, nil
}

func (n *network) begin(fault string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault, n.over = fault, make(chan struct{})
	if fault == "cut" {
		for c := range n.conns {
			c.Conn.Close()
		}
		clear(n.conns)
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = ""
	close(n.over)
}

type line struct {
	net.Conn
	n *network
}

// Write loses what is written while the network hangs: the connection is dead
// without anybody being told.
func (l *line) Write(b []byte) (int, error) {
	l.n.mu.Lock()
	hangs := l.n.fault == "hang"
	l.n.mu.Unlock()
	if hangs {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

// Whatever keeps records from the brokers, none is acknowledged that isn't in the
// log, nobody waits for much longer than an append may take, and soon after it is
// over they are taken again.
func TestHeals(t *testing.T) {
	for _, c := range []struct {
		name  string
		most  time.Duration // from the end of the fault to the first append
		begin func(cluster *kfake.Cluster, n *network) (heal func())
	}{
		{"not the leader", soon, func(cluster *kfake.Cluster, _ *network) func() {
			f := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "f.a", Err: kerr.NotLeaderForPartition, Count: -1})
			return func() { f.Remove() }
		}},
		{"too few replicas", soon, func(cluster *kfake.Cluster, _ *network) func() {
			f := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "f.a", Err: kerr.NotEnoughReplicas, Count: -1})
			return func() { f.Remove() }
		}},
		{"cut", soon, func(_ *kfake.Cluster, n *network) func() { n.begin("cut"); return n.heal }},
		// A request that was lost is given up after as long as a broker may take for one.
		{"hang", 12 * time.Second, func(_ *kfake.Cluster, n *network) func() { n.begin("hang"); return n.heal }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := &network{conns: make(map[*line]bool)}
			var said lockedText
			cluster, l := fake(t, func(c *kafka.Config) { c.Dial, c.Logger = n.dial, slog.New(slog.NewTextHandler(&said, nil)) })
			add(t, l, "before")
			var (
				mu      sync.Mutex
				acked   = make(map[string]bool)
				first   time.Time // of the appends that began after the fault
				healed  atomic.Pointer[time.Time]
				faulty  atomic.Bool
				during  int
				longest time.Duration
				wg      sync.WaitGroup
				stop    = make(chan struct{})
			)
			for w := range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						case <-time.After(10 * time.Millisecond):
						}
						value := fmt.Sprintf("%d-%d", w, i)
						began, under := time.Now(), faulty.Load()
						_, err := l.Append(context.Background(), []eventlog.Record{{Partition: p0, Value: []byte(value)}})
						mu.Lock()
						longest = max(longest, time.Since(began))
						if err == nil {
							acked[value] = true
							if under && faulty.Load() {
								during++
							}
							if h := healed.Load(); h != nil && first.IsZero() {
								first = time.Now()
							}
						}
						mu.Unlock()
					}
				})
			}
			time.Sleep(200 * time.Millisecond) // real brokers, real time
			heal := c.begin(cluster, n)
			faulty.Store(true)
			time.Sleep(6 * time.Second)
			faulty.Store(false)
			heal()
			now := time.Now()
			healed.Store(&now)
			for deadline := now.Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				mu.Lock()
				there := !first.IsZero()
				mu.Unlock()
				if there {
					break
				}
			}
			time.Sleep(200 * time.Millisecond)
			close(stop)
			wg.Wait()
			t.Logf("%d acknowledged; the first %v after the fault, the longest took %v", len(acked), first.Sub(now).Round(time.Millisecond), longest.Round(time.Millisecond))
			if said := said.text(); strings.Count(said, "\n") > 20 {
				t.Errorf("it was told too often: %s", said)
			}
			if first.IsZero() || first.Sub(now) > c.most {
				t.Errorf("appends succeed again %v after the fault", first.Sub(now))
			}
			if during > 0 {
				t.Errorf("%d were acknowledged though nothing reached the brokers", during)
			}
			if longest > 10*time.Second {
				t.Errorf("an append took %v", longest)
			}
			recs, err := l.Read(t.Context(), p0, 0, 64<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				delete(acked, string(r.Value))
			}
			if len(acked) > 0 {
				t.Errorf("%d were acknowledged and aren't in the log", len(acked))
			}
		})
	}
}
