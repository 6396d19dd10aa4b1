package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/pkg/eventlog"
)

// fetchKey is the protocol's number of Fetch.
const fetchKey = 1

// leader tells which broker leads the partition; fresh asks the cluster rather
// than what was last heard of it.
func (l *Log) leader(ctx context.Context, p eventlog.Partition, fresh bool) (int, error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kadm.StringPtr(l.name(p.Topic))
	req.Topics = []kmsg.MetadataRequestTopic{topic}
	age := time.Minute
	if fresh {
		age = metadataMinAge
	}
	resp, err := l.reader.RequestCachedMetadata(ctx, req, age)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return 0, err
		}
		for _, q := range t.Partitions {
			if q.Partition != p.Number {
				continue
			}
			if err := kerr.ErrorForCode(q.ErrorCode); err != nil && q.Leader < 0 {
				return 0, err
			}
			if q.Leader >= 0 {
				return int(q.Leader), nil
			}
		}
	}
	return 0, kerr.LeaderNotAvailable
}

// fetched is what one fetch brought.
type fetched struct {
	records []*kgo.Record
	next    int64 // behind the last record or hole that was seen
	end     int64 // all below is on enough replicas
}

// fetch asks the leader once.
func (l *Log) fetch(ctx context.Context, p eventlog.Partition, from int64, maxBytes int, fresh bool) (fetched, error) {
	leader, err := l.leader(ctx, p, fresh)
	if err != nil {
		return fetched{}, err
	}
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = p.Number
	part.FetchOffset = from
	part.CurrentLeaderEpoch = -1
	part.PartitionMaxBytes = int32(maxBytes)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = l.name(p.Topic)
	topic.Partitions = []kmsg.FetchRequestTopicPartition{part}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = 0
	req.MinBytes = 0
	req.MaxBytes = int32(maxBytes)
	req.SessionEpoch = -1 // no session
	req.Topics = []kmsg.FetchRequestTopic{topic}
	kresp, err := l.reader.Broker(leader).RetriableRequest(ctx, req)
	if err != nil {
		return fetched{}, err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fetched{}, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fetched{}, errors.New("the answer to a fetch is of other partitions")
	}
	rp := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		return fetched{}, err
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, Topic: topic.Topic, Partition: p.Number,
	}, rp, decompressor, nil)
	if fp.Err != nil && len(fp.Records) == 0 {
		return fetched{}, fmt.Errorf("offset %d %w: %w", from, eventlog.ErrDamaged, fp.Err)
	}
	return fetched{records: fp.Records, next: max(next, from), end: rp.HighWatermark}, nil
}

var decompressor = kgo.DefaultDecompressor()

// retry runs do until it succeeds, fails for good, or ctx ends; fresh is set once
// the brokers said that we ask the wrong one.
func retry(ctx context.Context, do func(fresh bool) error) error {
	fresh := false
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		err := do(fresh)
		if err == nil || !passing(err) {
			return err
		}
		fresh = true
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// passing tells whether an error may be gone when the same is tried again: a
// leader that moved, a broker that went.
func passing(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNoAnswer) || errors.Is(err, kgo.ErrClientClosed) {
		return false
	}
	if kerr.IsRetriable(err) || errors.Is(err, errNotYet) {
		return true
	}
	var answer *kerr.Error
	return !errors.As(err, &answer) && kgo.IsRetryableBrokerErr(err)
}

// record turns a client's record into the log's. Its bytes are cut off from what
// follows them.
func record(p eventlog.Partition, r *kgo.Record) eventlog.Record {
	return eventlog.Record{
		Partition: p,
		Offset:    r.Offset,
		Time:      r.Timestamp.UTC(),
		Key:       r.Key[:len(r.Key):len(r.Key)],
		Value:     r.Value[:len(r.Value):len(r.Value)],
	}
}
