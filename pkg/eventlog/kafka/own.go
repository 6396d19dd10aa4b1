package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
)

// revokeWait is how long a revoked partition's work may take to return before the
// partition goes to somebody else all the same.
const revokeWait = 5 * time.Second

// heartbeats are sent so many times in a session: whoever stays hears of a member
// that came or went by the answer to the next, so this is what a hand-over costs.
const heartbeats = 30

// Own implements eventlog.Keeper: a group, subscribed to the topic, that never
// reads it.
func (l *Log) Own(ctx context.Context, topic string, work func(ctx context.Context, share eventlog.Share)) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.wg.Done()
	if _, ok := l.topics[topic]; !ok {
		return fmt.Errorf("the log has no topic %q", topic)
	}
	name := l.name(topic)
	if err := l.checkGroup(ctx, name); err != nil {
		return err
	}
	o := &owner{log: l, topic: name, work: work, session: l.cfg.Session, began: time.Now(), assigned: make(map[int32]bool), running: make(map[int32]*running)}
	client, err := l.client(
		kgo.ConsumerGroup(name),
		kgo.ConsumeTopics(name),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(o.session),
		kgo.HeartbeatInterval(o.session/heartbeats),
		kgo.RebalanceTimeout(o.session+revokeWait),
		kgo.OnPartitionsAssigned(o.gain),
		kgo.OnPartitionsRevoked(o.revoked),
		kgo.OnPartitionsLost(o.lost),
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
	work    func(ctx context.Context, share eventlog.Share)
	session time.Duration
	began   time.Time
	heard   atomic.Int64 // when the coordinator last had heard of us, at least: nanoseconds since began

	mu       sync.Mutex
	assigned map[int32]bool
	running  map[int32]*running
	doubts   int // answers to come before the coordinator is believed again
	over     bool
}

// silent reports whether the coordinator may soon give to others what is ours.
func (o *owner) silent() bool {
	return time.Since(o.began)-time.Duration(o.heard.Load()) >= o.session/2
}

// hear notes that the coordinator had heard of us at a time; o.mu is held. What a
// silence ends isn't brought back by its end: the first answer may say that we
// are out of the group, only the one behind it is given to a member.
func (o *owner) hear(at time.Time) {
	o.reconcile()
	o.doubts = max(0, o.doubts-1)
	o.heard.Store(max(o.heard.Load(), int64(at.Sub(o.began))))
}

// running is the work of one partition, until it has returned.
type running struct {
	cancel context.CancelFunc
	gone   atomic.Bool // it may be another's by now
	done   chan struct{}
}

// gain is called when partitions fall to us.
func (o *owner) gain(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hear(time.Now())
	o.doubts = 0
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
			for _, r := range stopping {
				r.gone.Store(true)
			}
			o.log.logger.Error("a partition's work hasn't returned and the partition goes to another", "topic", o.topic, "waited", revokeWait)
			return
		}
	}
}

// lost is called when the group has thrown us out: what was ours may be another's
// already.
func (o *owner) lost(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
	o.mu.Lock()
	for _, n := range gone[o.topic] {
		if r := o.running[n]; r != nil {
			r.gone.Store(true)
		}
	}
	o.mu.Unlock()
	o.revoked(ctx, client, gone)
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
	o.hear(at)
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
	if o.silent() {
		o.doubts = 2
	}
	alive := !o.over && o.doubts == 0
	for n, r := range o.running {
		if o.doubts > 0 {
			r.gone.Store(true)
		}
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
		o.work(ctx, eventlog.Share{Partition: n, Ours: func() bool { return !r.gone.Load() && !o.silent() }})
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
