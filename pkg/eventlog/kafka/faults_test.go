package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/kafka"
)

var (
	p0     = eventlog.Partition{Topic: "a"}
	topics = []eventlog.Topic{{Name: "a", Partitions: 2}, {Name: "lanes", Partitions: 4}}
	quiet  = slog.New(slog.DiscardHandler)
)

// fake opens a log on a cluster in this process, whose faults can be chosen. It
// keeps no promise about disks; that is for TestOnBroker.
func fake(t *testing.T, change ...func(*kafka.Config)) (*kfake.Cluster, *kafka.Log) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: "f.", Topics: topics, Logger: quiet}
	for _, c := range change {
		c(&cfg)
	}
	return cluster, open(t, cfg)
}

func open(t *testing.T, cfg kafka.Config) *kafka.Log {
	t.Helper()
	l, err := kafka.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func add(t *testing.T, l eventlog.Log, values ...string) {
	t.Helper()
	var recs []eventlog.Record
	for _, v := range values {
		recs = append(recs, eventlog.Record{Partition: p0, Value: []byte(v)})
	}
	if _, err := l.Append(t.Context(), recs); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// soon is less than the client's own pace of asking who leads, and enough for a machine
// that has much else to do.
const soon = 4 * time.Second

// A leader that moves costs a fraction of a second, in whatever is being done.
func TestLeaderMoves(t *testing.T) {
	cluster, l := fake(t)
	add(t, l, "x")
	tail, err := l.Tail(t.Context(), p0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	if _, err := tail.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		to := (cluster.LeaderFor("f.a", 0) + 1) % 3
		if err := cluster.MoveTopicPartition("f.a", 0, to); err != nil {
			t.Fatal(err)
		}
		for what, do := range map[string]func() error{
			"Append": func() error {
				_, err := l.Append(t.Context(), []eventlog.Record{{Partition: p0, Value: []byte("y")}})
				return err
			},
			"Bounds": func() error { _, _, err := l.Bounds(t.Context(), p0); return err },
			"Read":   func() error { _, err := l.Read(t.Context(), p0, 0, 1<<20); return err },
			"Trim":   func() error { return l.Trim(t.Context(), p0, 0) },
		} {
			begin := time.Now()
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if took := time.Since(begin); took > soon {
				t.Errorf("%s took %v after its leader moved", what, took)
			}
		}
		begin := time.Now()
		if _, err := tail.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > soon {
			t.Errorf("a tail took %v after its leader moved", took)
		}
	}
}

func TestNotLeaderOnProduce(t *testing.T) {
	cluster, l := fake(t)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "f.a", Err: kerr.NotLeaderForPartition, Count: 2})
	begin := time.Now()
	add(t, l, "x")
	if took := time.Since(begin); took > soon {
		t.Errorf("it took %v", took)
	}
}

// What the brokers refuse for good is told, and what they don't answer is given
// up in time.
func TestProduceFails(t *testing.T) {
	cluster, l := fake(t)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "f.a", Err: kerr.TopicAuthorizationFailed, Count: -1})
	_, err := l.Append(t.Context(), []eventlog.Record{{Partition: p0}})
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(err.Error(), "f.a") {
		t.Errorf("Append: %v", err)
	}
	fault.Remove()
	add(t, l, "x")

	fault = cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "f.a", Err: kerr.NotEnoughReplicas, Count: -1})
	begin := time.Now()
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: p0}}); err == nil {
		t.Error("Append without enough replicas succeeded")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	fault.Remove()
	add(t, l, "y")
}

// A broker that hangs blocks nobody past their context, and no more memory than
// the bound.
func TestBrokerHangs(t *testing.T) {
	cluster, l := fake(t)
	release := make(chan struct{})
	var once sync.Once
	unhang := func() { once.Do(func() { close(release) }) }
	defer unhang()
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// Past its own patience it says otherwise.
	if _, err := l.Append(ctx, []eventlog.Record{{Partition: p0, Value: []byte("x")}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append: %v", err)
	}
	big := make([]eventlog.Record, 60)
	for i := range big {
		big[i] = eventlog.Record{Partition: p0, Value: make([]byte, eventlog.MaxRecord)}
	}
	refused := false
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := l.Append(ctx, big)
		cancel()
		switch {
		case err == nil:
			t.Fatal("a hanging broker took an append")
		case strings.Contains(err.Error(), "too slowly"):
			refused = true
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("Append: %v", err)
		}
	}
	if !refused {
		t.Error("the buffer has no bound")
	}
}

// What was given up is tried for so long and no longer: whoever waits that long
// may do it again.
func TestGivenUp(t *testing.T) {
	cluster, l := fake(t)
	add(t, l, "x")
	var mu sync.Mutex
	var last time.Time
	refuse := true
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if !refuse {
			return nil, nil, false
		}
		last = time.Now()
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			named := kmsg.NewProduceResponseTopic()
			named.Topic, named.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.NotLeaderForPartition.Code
				named.Partitions = append(named.Partitions, part)
			}
			resp.Topics = append(resp.Topics, named)
		}
		return resp, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := l.Append(ctx, []eventlog.Record{{Partition: p0, Value: []byte("y")}}); err == nil {
		t.Fatal("taken")
	}
	time.Sleep(time.Until(begun.Add(eventlog.Lateness + 300*time.Millisecond)))
	mu.Lock()
	refuse = false
	tried := last.Sub(begun)
	mu.Unlock()
	if tried < time.Second || tried > eventlog.Lateness+200*time.Millisecond {
		t.Errorf("it was tried for %v", tried)
	}
	time.Sleep(time.Second)
	if _, end, err := l.Bounds(t.Context(), p0); err != nil || end != 1 {
		t.Errorf("the log ends at %d, %v", end, err)
	}
	add(t, l, "z")
}

// What is added while a time is looked up that nothing was as late as is not older
// for that.
func TestOffsetAtWhileAdded(t *testing.T) {
	cluster, l := fake(t)
	add(t, l, "older")
	after := time.Now().Add(time.Second).Truncate(time.Millisecond)
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp == -1 { // the end
			cluster.DropControl()
			cluster.SleepControl(func() {
				time.Sleep(time.Until(after))
				add(t, l, "newer")
			})
		}
		return nil, nil, false
	})
	if at, err := l.OffsetAt(t.Context(), p0, after); err != nil || at != 1 {
		t.Errorf("OffsetAt: %d, %v; want 1", at, err)
	}
}

func TestTailOutOfRange(t *testing.T) {
	cluster, l := fake(t)
	add(t, l, "0", "1", "2", "3")
	tail, err := l.Tail(t.Context(), p0, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	// The fetch is out of range once, though the offset is there: read on.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "f.a", Partitions: []int32{0}, Err: kerr.OffsetOutOfRange})
	add(t, l, "4")
	got, err := tail.Next(t.Context())
	if err != nil || string(got[0].Value) != "4" {
		t.Fatalf("Next: %v, %v", got, err)
	}
	// And now it is gone for good.
	gone := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "f.a", Partitions: []int32{0}, Err: kerr.OffsetOutOfRange, Count: -1})
	add(t, l, "5", "6")
	if err := l.Trim(t.Context(), p0, 7); err != nil {
		t.Fatal(err)
	}
	defer gone.Remove()
	for err = nil; err == nil; _, err = tail.Next(t.Context()) {
	}
	if !errors.Is(err, eventlog.ErrTooOld) {
		t.Fatalf("Next: %v, want ErrTooOld", err)
	}
}

// An owner whose coordinator falls silent stops before another could begin, and
// goes on when it hears of it again.
func TestCoordinatorSilent(t *testing.T) {
	const session = 4 * time.Second
	cluster, l := fake(t, func(c *kafka.Config) { c.Session = session })
	began := make(chan time.Time, 16)
	ended := make(chan time.Time, 16)
	ctx0, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var old []eventlog.Share
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		err := l.Own(ctx0, "lanes", func(ctx context.Context, share eventlog.Share) {
			if !share.Ours() {
				t.Error("work begins and isn't ours")
			}
			began <- time.Now()
			<-ctx.Done()
			if share.Ours() == (ctx0.Err() == nil) {
				t.Errorf("ours is %v when its context has ended", share.Ours())
			}
			ended <- time.Now()
			if ctx0.Err() == nil {
				mu.Lock()
				old = append(old, share)
				mu.Unlock()
			}
		})
		if err != nil {
			t.Errorf("Own: %v", err)
		}
	})
	for range 4 {
		<-began
	}
	speak := make(chan struct{})
	begin := time.Now()
	cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { <-speak })
		return nil, nil, false
	})
	for range 4 {
		if after := (<-ended).Sub(begin); after < session/4 || after >= session {
			t.Errorf("work ended %v after the last answer, want about %v, and less than %v", after, session/2, session)
		}
	}
	close(speak)
	for range 4 {
		select {
		case <-began:
		case <-time.After(patience):
			t.Fatal("work doesn't begin again")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, share := range old {
		if share.Ours() {
			t.Errorf("partition %d is again its first work's", share.Partition)
		}
	}
}

// Errors at the start name the brokers, and what is wrong with them.
func TestStartErrors(t *testing.T) {
	cluster, _ := fake(t)
	_, err := kafka.Open(t.Context(), kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: "f.", Logger: quiet,
		Topics: []eventlog.Topic{{Name: "a", Partitions: 3}}})
	if err == nil || !strings.Contains(err.Error(), "2 partitions, not 3") || !strings.Contains(err.Error(), cluster.ListenAddrs()[0]) {
		t.Errorf("other partitions: %v", err)
	}
	if err := cluster.CreateTopic("g.a", 2, map[string]string{"message.timestamp.type": "CreateTime"}); err != nil {
		t.Fatal(err)
	}
	_, err = kafka.Open(t.Context(), kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: "g.", Topics: topics[:1], Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), "LogAppendTime") {
		t.Errorf("other time: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	nobody, err := net.Listen("tcp", "127.83.1.2:0") // where nobody else gets its port
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	nobody.Close()
	_, err = kafka.Open(ctx, kafka.Config{Brokers: []string{address}, Topics: topics, Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), address) || !errors.Is(err, kafka.ErrNoAnswer) {
		t.Errorf("nobody there: %v", err)
	}
}
