package kafka_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/kafka"
)

// Topics that somebody else made are looked at: what would lose records, or take
// none, is refused with the command that mends it; what may be meant so is told.
func TestTopicsOtherwise(t *testing.T) {
	cluster, _ := fake(t)
	topic := eventlog.Topic{Name: "t", Partitions: 1, Retention: 24 * time.Hour}
	forGood := eventlog.Topic{Name: "t", Partitions: 1}
	for i, c := range []struct {
		name       string
		topic      eventlog.Topic
		key, value string
		says       string // empty: it is taken
		warns      string
	}{
		{"as it must be", topic, "retention.ms", "86400000", "", ""},
		{"kept for longer", topic, "retention.ms", "-1", "", ""},
		{"kept for less", topic, "retention.ms", "3600000", "retention.ms=3600000; set it to 86400000", ""},
		{"kept for a time, not for good", forGood, "retention.ms", "604800000", "retention.ms=604800000; set it to -1", ""},
		{"bounded in bytes", topic, "retention.bytes", "1000000", "retention.bytes=1000000; set it to -1", ""},
		{"compacted", topic, "cleanup.policy", "compact", "cleanup.policy=compact; set it to delete", ""},
		{"compacted, too", topic, "cleanup.policy", "compact,delete", "set it to delete", ""},
		{"times of the writer", topic, "message.timestamp.type", "CreateTime", "set it to LogAppendTime", ""},
		{"small messages", topic, "max.message.bytes", "500000", "max.message.bytes=500000; set it to 1065548", ""},
		{"messages as brokers have them by default", topic, "max.message.bytes", "1048588", "", ""},
		{"more in sync than there are", topic, "min.insync.replicas", "4", "min.insync.replicas=4; set it to 2", ""},
		{"one in sync", topic, "min.insync.replicas", "1", "", "set min.insync.replicas to 2"},
		{"unclean", topic, "unclean.leader.election.enable", "true", "", "unclean.leader.election.enable to false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := string(rune('a'+i)) + "."
			config := kafka.Settings(c.topic, 3)
			config[c.key] = c.value
			if err := cluster.CreateTopic(prefix+"t", 1, config); err != nil {
				t.Fatal(err)
			}
			var said lockedText
			l, err := kafka.Open(t.Context(), kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: prefix, Topics: []eventlog.Topic{c.topic}, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if err == nil {
				l.Close()
			}
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "kafka-configs --alter --topic "+prefix+"t")):
				t.Errorf("%v doesn't say %q", err, c.says)
			}
			if (c.warns != "") != strings.Contains(said.text(), "WARN") || !strings.Contains(said.text(), c.warns) {
				t.Errorf("it says %q, and should warn %q", said.text(), c.warns)
			}
		})
	}
}

type lockedText struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lockedText) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(b)
}

// A user who lacks rights is told which, at the start and not at the first event.
func TestRights(t *testing.T) {
	const user, password = "guest", "guest's"
	all := []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDelete}
	for _, c := range []struct {
		name  string
		topic []kmsg.ACLOperation // what it may
		group bool
		says  string // of the start
		owns  string // what Own says; empty: it works
	}{
		{"everything", all, true, "", ""},
		{"no Write", []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationRead, kmsg.ACLOperationDelete}, true, `may not Write on f.a, f.lanes: let it on every topic that begins with "f."`, ""},
		{"only Read and DescribeConfigs", []kmsg.ACLOperation{kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationRead}, true, "may not Delete on f.a, f.lanes; Write on f.a, f.lanes", ""},
		{"no DescribeConfigs", []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDelete}, true, "DescribeConfigs on f.a, f.lanes", ""},
		{"nothing", nil, true, `may not Describe every topic that begins with "f."`, ""},
		{"no group", all, false, "", `may not Read on group f.lanes: let it on every group that begins with "f."`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var acls []kfake.ACL
			allow := func(resource kmsg.ACLResourceType, op kmsg.ACLOperation) {
				acls = append(acls, kfake.ACL{Resource: resource, Name: "f.", Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true})
			}
			for _, op := range c.topic {
				allow(kmsg.ACLResourceTypeTopic, op)
			}
			if c.group {
				allow(kmsg.ACLResourceTypeGroup, kmsg.ACLOperationRead)
			}
			cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.EnableSASL(), kfake.EnableACLs(),
				kfake.Superuser("PLAIN", "root", "root's"), kfake.User("PLAIN", user, password, acls...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			cfg := kafka.Config{Brokers: cluster.ListenAddrs(), Prefix: "f.", Topics: topics, Logger: quiet, SASL: &kafka.SASL{Mechanism: "plain", User: "root", Password: "root's"}}
			open(t, cfg).Close() // makes the topics
			cfg.SASL = &kafka.SASL{Mechanism: "plain", User: user, Password: password}
			l, err := kafka.Open(t.Context(), cfg)
			if err != nil {
				if c.says == "" || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), password) {
					t.Errorf("%v; want %q", err, c.says)
				}
				return
			}
			defer l.Close()
			if c.says != "" {
				t.Fatalf("it started, and should say %q", c.says)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = l.Own(ctx, "lanes", func(context.Context, eventlog.Share) { cancel() })
			if c.owns == "" && err != nil || c.owns != "" && (err == nil || !strings.Contains(err.Error(), c.owns)) {
				t.Errorf("Own: %v; want %q", err, c.owns)
			}
		})
	}
}
