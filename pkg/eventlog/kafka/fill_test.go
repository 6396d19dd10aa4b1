package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/eventlog/kafka"
)

// filling gives a log that is filled, and the name of its one topic, t, on the
// brokers.
func filling(t *testing.T, partitions int32) (f *kafka.Filling, admin *kadm.Client, topic string) {
	t.Helper()
	brokers := eventlogtest.Brokers(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin = kadm.NewClient(client)
	cfg := kafka.Config{Brokers: brokers, Prefix: "test-" + strings.ToLower(rand.Text()[:10]) + ".", Topics: []eventlog.Topic{{Name: "t", Partitions: partitions}}}
	topic = cfg.Prefix + "t"
	t.Cleanup(func() { admin.DeleteTopics(context.WithoutCancel(t.Context()), topic, cfg.Prefix+"filling") })
	if f, err = kafka.Fill(t.Context(), cfg, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, admin, topic
}

// Records that a log is filled with keep their times; where a broker gave them its
// own all the same, the log doesn't begin.
func TestFilledTimes(t *testing.T) {
	f, admin, topic := filling(t, 200)
	yesterday := time.Now().Add(-24 * time.Hour).Truncate(time.Millisecond).UTC()
	at := func(n int32) time.Time {
		t.Helper()
		p := eventlog.Partition{Topic: "t", Number: n}
		if _, err := f.Append(t.Context(), []eventlog.Record{{Partition: p, Time: yesterday, Value: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		records, err := f.Read(t.Context(), p, 0, 1)
		if err != nil || len(records) != 1 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		return records[0].Time
	}
	if got := at(0); !got.Equal(yesterday) {
		t.Errorf("the first record has the time %v, want %v", got, yesterday)
	}

	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "message.timestamp.type", Value: kadm.StringPtr("LogAppendTime")}}
	if _, err := admin.AlterTopicConfigs(t.Context(), set, topic); err != nil {
		t.Fatal(err)
	}
	n := int32(1)
	for ; n < 200 && at(n).Equal(yesterday); n++ {
		time.Sleep(100 * time.Millisecond) // the broker takes it when it likes
	}
	if n == 200 {
		t.Fatal("the broker doesn't take its own times")
	}
	if err := f.Settle(t.Context()); !errors.Is(err, kafka.ErrFilling) || !strings.Contains(err.Error(), "brokers' times") {
		t.Errorf("Settle: %v", err)
	}
}

// Brokers give up what is older than a topic keeps while it is being filled: a log
// that hasn't been used for longer than that can be left all the same.
func TestFilledWithOld(t *testing.T) {
	f, admin, topic := filling(t, 2)
	for n := range int32(2) {
		r := eventlog.Record{Partition: eventlog.Partition{Topic: "t", Number: n}, Time: time.Now().Add(-24 * time.Hour), Value: []byte("x")}
		if _, err := f.Append(t.Context(), []eventlog.Record{r, r}); err != nil {
			t.Fatal(err)
		}
	}
	var gone kadm.Offsets
	gone.AddOffset(topic, 0, 1, -1) // one of them
	gone.AddOffset(topic, 1, 2, -1) // all
	if resp, err := admin.DeleteRecords(t.Context(), gone); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Error(err)
	}
}
