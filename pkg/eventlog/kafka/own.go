package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
)

// revokeWait is how long a revoked partition's work may take to return before the
// partition goes to somebody else all the same.
const revokeWait = 5 * time.Second

// Own implements eventlog.Keeper: a group, subscribed to the topic, that never
// reads it.
func (l *Log) Own(ctx context.Context, topic string, work func(ctx context.Context, partition int32)) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.wg.Done()
	if _, ok := l.topics[topic]; !ok {
		return fmt.Errorf("the log has no topic %q", topic)
	}
	name := l.name(topic)
	o := &owner{log: l, topic: name, work: work, session: l.cfg.Session, assigned: make(map[int32]bool), running: make(map[int32]*running)}
	client, err := l.client(
		kgo.ConsumerGroup(name),
		kgo.ConsumeTopics(name),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(o.session),
		kgo.HeartbeatInterval(o.session/10),
		kgo.RebalanceTimeout(o.session+revokeWait),
		kgo.OnPartitionsAssigned(o.gain),
		kgo.OnPartitionsRevoked(o.revoked),
		kgo.OnPartitionsLost(o.revoked),
		kgo.WithHooks(o),
	)
	if err != nil {
		return l.callError(ctx, "owning", eventlog.Partition{Topic: topic}, err)
	}
	client.PauseFetchTopics(name)

	watch := time.NewTicker(o.session / 40)
	defer watch.Stop()
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.ctx.Done():
			err = eventlog.ErrClosed
		case <-watch.C:
			o.look()
		}
	}
	o.finish()
	client.Close() // leaves the group: what we had goes to others at once
	return err
}

// owner is one call of Own. A partition's work runs while the group gives us the
// partition and the coordinator has been heard of late.
type owner struct {
	log     *Log
	topic   string
	work    func(ctx context.Context, partition int32)
	session time.Duration

	mu       sync.Mutex
	assigned map[int32]bool
	running  map[int32]*running
	heard    time.Time // when the coordinator last had heard of us, at least
	over     bool
}

// running is the work of one partition, until it has returned.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// gain is called when partitions fall to us.
func (o *owner) gain(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = time.Now()
	for _, n := range got[o.topic] {
		o.assigned[n] = true
	}
	o.reconcile()
}

// revoked is called when partitions are to go to others, or are lost. The group
// waits for it, for a while.
func (o *owner) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	o.mu.Lock()
	var stopping []*running
	for _, n := range gone[o.topic] {
		delete(o.assigned, n)
		if r := o.running[n]; r != nil {
			stopping = append(stopping, r)
		}
	}
	o.reconcile()
	o.mu.Unlock()
	patience := time.NewTimer(revokeWait)
	defer patience.Stop()
	for _, r := range stopping {
		select {
		case <-r.done:
		case <-patience.C:
			o.log.logger.Error("a partition's work hasn't returned and the partition goes to another", "topic", o.topic, "waited", revokeWait)
			return
		}
	}
}

// OnBrokerE2E hears the coordinator: that it took our heartbeat, or let us join.
func (o *owner) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	const joinGroup, heartbeat, syncGroup = 11, 12, 14
	if e2e.Err() != nil {
		return
	}
	at := time.Now()
	switch key {
	case heartbeat:
		// It may have counted from when we sent it.
		at = at.Add(-e2e.DurationE2E())
	case joinGroup, syncGroup:
	default:
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if at.After(o.heard) {
		o.heard = at
	}
}

// look stops all work when the coordinator is silent, and starts it again when it
// isn't and the partitions are still ours.
func (o *owner) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reconcile()
}

// reconcile makes run what should run; o.mu is held.
func (o *owner) reconcile() {
	alive := !o.over && time.Since(o.heard) < o.session/2
	for n, r := range o.running {
		if !alive || !o.assigned[n] {
			r.cancel()
		}
	}
	if !alive {
		return
	}
	for n := range o.assigned {
		if o.running[n] == nil {
			o.start(n)
		}
	}
}

func (o *owner) start(n int32) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan struct{})}
	o.running[n] = r
	go func() {
		defer func() {
			cancel()
			o.mu.Lock()
			defer o.mu.Unlock()
			close(r.done)
			delete(o.running, n)
		}()
		o.work(ctx, n)
		<-ctx.Done() // work that returns by itself isn't run again while we own the partition
	}()
}

// finish ends all work and waits for it.
func (o *owner) finish() {
	o.mu.Lock()
	o.over = true
	o.reconcile()
	var all []*running
	for _, r := range o.running {
		all = append(all, r)
	}
	o.mu.Unlock()
	for _, r := range all {
		<-r.done
	}
}
