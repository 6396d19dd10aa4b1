package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"sluice/pkg/eventlog"
)

// The configuration of topics that the design rests on.
const (
	timestampType  = "message.timestamp.type"
	cleanupPolicy  = "cleanup.policy"
	retentionMs    = "retention.ms"
	retentionBytes = "retention.bytes"
	minInsync      = "min.insync.replicas"
	maxMessage     = "max.message.bytes"
)

// ensureTopics makes the topics that aren't there, and refuses those that are
// otherwise than they must be.
func (l *Log) ensureTopics(ctx context.Context) error {
	if err := l.checkFilled(ctx); err != nil {
		return err
	}
	if err := l.makeTopics(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, check := range []func(context.Context) error{l.checkPartitions, l.checkRights, l.checkSettings} {
		if err := await(ctx, check); err != nil {
			return err
		}
	}
	return nil
}

// await repeats a check while waiting may help: a broker may not know yet of
// topics that another made a moment ago.
func await(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		var answer *kerr.Error
		if err == nil || errors.Is(err, errOtherwise) || errors.Is(err, errMayNot) || errors.As(err, &answer) && !answer.Retriable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *Log) makeTopics(ctx context.Context) error {
	meta, err := l.metadata(ctx)
	if err != nil {
		return err
	}
	var refused []string
	var why error
	for _, alike := range l.missing(meta) {
		made, err := l.create(ctx, alike, min(len(meta.Brokers), 3))
		if err != nil {
			return fmt.Errorf("make topics: %w", err)
		}
		for _, t := range made.Sorted() {
			switch {
			case errors.Is(t.Err, kerr.TopicAuthorizationFailed), errors.Is(t.Err, kerr.ClusterAuthorizationFailed):
				refused, why = append(refused, t.Topic), t.Err
			case t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists): // another node may have been faster
				return fmt.Errorf("topic %s can't be made: %w (%s)", t.Topic, t.Err, t.ErrMessage)
			}
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("%w: %s (%w)", ErrMayNotCreate, strings.Join(refused, ", "), why)
	}
	return nil
}

// missing gives the topics that aren't there, those that are alike together: a
// request makes many, and brokers take about as long for them as for one.
func (l *Log) missing(meta kadm.Metadata) (groups [][]eventlog.Topic) {
	for _, t := range l.cfg.Topics {
		if meta.Topics.Has(l.name(t.Name)) && !errors.Is(meta.Topics[l.name(t.Name)].Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		at := slices.IndexFunc(groups, func(g []eventlog.Topic) bool {
			return g[0].Partitions == t.Partitions && g[0].Retention == t.Retention
		})
		if at < 0 {
			at, groups = len(groups), append(groups, nil)
		}
		groups[at] = append(groups[at], t)
	}
	return groups
}

// metadata tells of all our topics.
func (l *Log) metadata(ctx context.Context) (kadm.Metadata, error) {
	meta, err := l.admin.Metadata(ctx, l.names()...)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		err = fmt.Errorf("%w Describe every topic that begins with %q: %w", errMayNot, l.cfg.Prefix, err)
	}
	return meta, err
}

// Settings gives what a topic must be made with, on so many replicas, by the
// names that brokers have for it.
func Settings(t eventlog.Topic, replicas int) map[string]string {
	keep, insync := "-1", "1"
	if t.Retention > 0 {
		keep = strconv.FormatInt(t.Retention.Milliseconds(), 10)
	}
	if replicas >= 3 {
		insync = "2"
	}
	return map[string]string{
		timestampType:  "LogAppendTime",
		cleanupPolicy:  "delete",
		retentionMs:    keep,
		retentionBytes: "-1",
		minInsync:      insync,
		maxMessage:     strconv.Itoa(batchBytes + 64<<10),
	}
}

// create makes topics that are alike.
func (l *Log) create(ctx context.Context, alike []eventlog.Topic, replicas int) (kadm.CreateTopicResponses, error) {
	var names []string
	for _, t := range alike {
		names = append(names, l.name(t.Name))
	}
	settings := make(map[string]*string)
	for k, v := range Settings(alike[0], replicas) {
		settings[k] = &v
	}
	if l.filling {
		settings[timestampType] = kadm.StringPtr(createTime)
	}
	return l.admin.CreateTopics(ctx, alike[0].Partitions, int16(replicas), settings, names...)
}

// errOtherwise marks what waiting doesn't mend.
var errOtherwise = errors.New("topics aren't as they must be")

// checkPartitions looks whether every partition can be written to, and counts
// them.
func (l *Log) checkPartitions(ctx context.Context) error {
	if len(l.topics) == 0 {
		return nil
	}
	meta, err := l.metadata(ctx)
	if err != nil {
		return err
	}
	for _, t := range l.cfg.Topics {
		name := l.name(t.Name)
		d := meta.Topics[name]
		if d.Err != nil {
			return fmt.Errorf("topic %s: %w", name, d.Err)
		}
		if n := len(d.Partitions); n != int(t.Partitions) {
			return fmt.Errorf("%w: topic %s has %d partitions, not %d; their number is fixed when a log is first used: "+
				"use that number, or another prefix", errOtherwise, name, n, t.Partitions)
		}
		for _, p := range d.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return fmt.Errorf("partition %d of topic %s has no leader: %w", p.Partition, name, errors.Join(p.Err, kerr.LeaderNotAvailable))
			}
		}
	}
	return nil
}

// checkSettings refuses topics on which records would go before their time, or
// couldn't be appended, and warns of those that a lost machine takes with it.
func (l *Log) checkSettings(ctx context.Context) error {
	if len(l.topics) == 0 {
		return nil
	}
	meta, err := l.metadata(ctx)
	if err != nil {
		return err
	}
	all, err := l.admin.DescribeTopicConfigs(ctx, l.names()...)
	if err != nil {
		return fmt.Errorf("describe the topics' configs: %w", err)
	}
	have := make(map[string]map[string]string)
	for _, rc := range all {
		if rc.Err != nil {
			return fmt.Errorf("describe the config of topic %s: %w", rc.Name, rc.Err)
		}
		have[rc.Name] = make(map[string]string)
		for _, c := range rc.Configs {
			have[rc.Name][c.Key] = c.MaybeValue()
		}
	}
	var wrong []string
	for _, t := range l.cfg.Topics {
		name, replicas := l.name(t.Name), meta.Topics[l.name(t.Name)].Partitions.NumReplicas()
		for _, key := range unfit(Settings(t, replicas), have[name], replicas) {
			want := Settings(t, replicas)[key]
			wrong = append(wrong, fmt.Sprintf("topic %s has %s=%s; set it to %s (kafka-configs --alter --topic %s --add-config %s=%s)",
				name, key, have[name][key], want, name, key, want))
		}
		l.warnOfLoss(name, replicas, len(meta.Brokers), have[name])
	}
	if n := len(wrong); n > mostNamed {
		wrong = append(wrong[:mostNamed], fmt.Sprintf("and %d more (sluice topics prints all as they must be)", n-mostNamed))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", errOtherwise, strings.Join(wrong, "; "))
	}
	return nil
}

// mostNamed bounds what one error names.
const mostNamed = 3

// unfit gives the settings that can't stay as they are. What brokers don't tell
// of is taken to be right.
func unfit(want, have map[string]string, replicas int) (keys []string) {
	number := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 10, 64)
		if n < 0 { // -1: no limit
			return math.MaxInt64
		}
		return n
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, told := have[key]
		bad := false
		switch key {
		case retentionMs, retentionBytes:
			bad = number(value) < number(want[key])
		case maxMessage:
			bad = number(value) < batchBytes
		case minInsync:
			bad = number(value) > int64(replicas) // no append would ever succeed
		default:
			bad = value != want[key]
		}
		if told && value != "" && bad {
			keys = append(keys, key)
		}
	}
	return keys
}

// warnOfLoss says what the operator may want otherwise, but may have chosen.
func (l *Log) warnOfLoss(name string, replicas, brokers int, have map[string]string) {
	if most := min(brokers, 3); replicas < most {
		l.logger.Warn("brokers: a topic has few replicas: what is acknowledged is lost with as many brokers", "topic", name, "replicas", replicas, "brokers", brokers)
	}
	if replicas >= 3 && have[minInsync] == "1" {
		l.logger.Warn("brokers: a topic's appends are acknowledged by one broker when the others are behind: set min.insync.replicas to 2", "topic", name)
	}
	if have["unclean.leader.election.enable"] == "true" {
		l.logger.Warn("brokers: a topic may be led by a broker that lacks what was acknowledged: set unclean.leader.election.enable to false", "topic", name)
	}
}

// Rights on topics, as authorizers number them, in the order of their names.
var topicRights = []struct {
	name string
	op   kadm.ACLOperation
}{{"Delete", kadm.OpDelete}, {"Describe", kadm.OpDescribe}, {"DescribeConfigs", kadm.OpDescribeConfigs}, {"Read", kadm.OpRead}, {"Write", kadm.OpWrite}}

// checkRights refuses a user who may see the topics, but not work with them: the
// first append, read or trim would say so, and much later.
func (l *Log) checkRights(ctx context.Context) error {
	meta, err := l.metadata(kadm.WithAuthorizedOps(ctx))
	if err != nil {
		return err
	}
	lacks := make(map[string][]string) // topics by right
	for name, t := range meta.Topics {
		for _, r := range topicRights {
			if told := t.AuthorizedOperations; len(told) > 0 && !slices.Contains(told, r.op) {
				lacks[r.name] = append(lacks[r.name], name)
			}
		}
	}
	var says []string
	for _, right := range slices.Sorted(maps.Keys(lacks)) {
		names := slices.Sorted(slices.Values(lacks[right]))
		if n := len(names); n > mostNamed {
			names = append(names[:mostNamed], fmt.Sprintf("%d more", n-mostNamed))
		}
		says = append(says, fmt.Sprintf("%s on %s", right, strings.Join(names, ", ")))
	}
	if len(says) == 0 {
		return nil
	}
	return fmt.Errorf("%w %s: let it on every topic that begins with %q", errMayNot, strings.Join(says, "; "), l.cfg.Prefix)
}

// errMayNot is a user who lacks rights.
var errMayNot = errors.New("this user may not")

// checkGroup refuses a user who may not join the group: joining would be tried for
// ever. Brokers that don't answer now are no reason.
func (l *Log) checkGroup(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	groups, err := l.admin.DescribeGroups(ctx, name)
	told := groups[name].AuthorizedOperations
	if errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(groups[name].Err, kerr.GroupAuthorizationFailed) ||
		len(told) > 0 && !slices.Contains(told, kadm.OpRead) {
		return fmt.Errorf("%w Read on group %s: let it on every group that begins with %q", errMayNot, name, l.cfg.Prefix)
	}
	return nil
}
