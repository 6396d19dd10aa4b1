package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"sluice/pkg/eventlog"
)

// A log on brokers may be filled from another before anybody uses it. Its records
// keep the times that they had there, which a topic takes from us only while its
// times aren't the brokers'. A topic beside the others says that this isn't over:
//
//	Fill ─► <prefix>filling is made ─► topics, new, times ours ─► Append … ─► Settle: times the brokers' ─► <prefix>filling goes
//	              │
//	              └── Open: ErrFilling
const (
	fillingTopic = "filling"
	createTime   = "CreateTime"
)

var (
	// ErrFilling says that topics are being filled, or were, and not to the end:
	// what they hold is a part of a log.
	ErrFilling = errors.New("these topics aren't filled to the end")
	// ErrUsed says that there are records in topics that were to be filled.
	ErrUsed = errors.New("these topics have been used")
)

// Filling is a log that is filled. Append keeps the records' times, which must not
// decrease within a partition; those that have none, or one ahead of the clock, get
// the clock's.
type Filling struct{ *Log }

// Fill opens a log that nobody has used yet: there are no topics of it, or empty
// ones. Its topics are nobody's else until Settle. What an earlier Fill left is
// refused with ErrFilling; with again it is deleted first.
func Fill(ctx context.Context, cfg Config, again bool) (*Filling, error) {
	l, err := open(ctx, cfg, func(l *Log, ctx context.Context) error {
		l.filling = true
		return l.clear(ctx, again)
	})
	if err != nil {
		return nil, err
	}
	return &Filling{l}, nil
}

// Settle makes what was filled a log like any other.
func (f *Filling) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, topicsTimeout)
	defer cancel()
	if err := f.checkTimes(ctx); err != nil {
		return f.startError(err)
	}
	if err := f.setTimes(ctx, Settings(eventlog.Topic{}, 1)[timestampType]); err != nil {
		return f.startError(err)
	}
	var err error
	for err = f.checkSettings(ctx); err != nil && ctx.Err() == nil; err = f.checkSettings(ctx) {
		pause(ctx) // not every broker knows yet
	}
	if err == nil {
		err = f.deleteTopics(ctx, f.name(fillingTopic))
	}
	if err != nil {
		return f.startError(err)
	}
	return nil
}

// checkFilled refuses topics that hold a part of a log. A user who may not see the
// topic that says so is refused by the others' settings.
func (l *Log) checkFilled(ctx context.Context) error {
	there, err := l.there(ctx, l.name(fillingTopic))
	if err != nil && !errors.Is(err, kerr.TopicAuthorizationFailed) {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%w (there is a topic %s)", ErrFilling, there[0])
	}
	return nil
}

// clear makes the topics, new and ours.
func (l *Log) clear(ctx context.Context, again bool) error {
	marker := l.name(fillingTopic)
	names := slices.Sorted(slices.Values(l.names()))
	begun, err := l.there(ctx, marker)
	if err != nil {
		return err
	}
	switch {
	case len(begun) > 0 && !again:
		return fmt.Errorf("%w (there is a topic %s)", ErrFilling, marker)
	case len(begun) > 0:
		if err := l.deleteTopics(ctx, names...); err != nil {
			return err
		}
	default:
		if err := l.checkUnused(ctx, names); err != nil {
			return err
		}
		meta, err := l.metadata(ctx)
		if err != nil {
			return err
		}
		switch resp, err := l.admin.CreateTopic(ctx, 1, int16(min(len(meta.Brokers), 3)), nil, marker); {
		case errors.Is(err, kerr.TopicAlreadyExists), errors.Is(resp.Err, kerr.TopicAlreadyExists):
			return fmt.Errorf("%w (there is a topic %s)", ErrFilling, marker)
		case errors.Is(resp.Err, kerr.TopicAuthorizationFailed), errors.Is(resp.Err, kerr.ClusterAuthorizationFailed):
			return fmt.Errorf("%w: %s (%w)", ErrMayNotCreate, marker, resp.Err)
		case err != nil || resp.Err != nil:
			return fmt.Errorf("topic %s can't be made: %w", marker, errors.Join(err, resp.Err))
		}
	}
	if err := l.makeTopics(ctx); err != nil {
		return err
	}
	for _, check := range []func(context.Context) error{l.checkPartitions, l.checkRights} {
		if err := await(ctx, check); err != nil {
			return err
		}
	}
	return l.setTimes(ctx, createTime)
}

// there gives those of the topics that exist.
func (l *Log) there(ctx context.Context, names ...string) (there []string, err error) {
	meta, err := l.admin.Metadata(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		switch t, ok := meta.Topics[name]; {
		case !ok, errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		case t.Err != nil:
			return nil, fmt.Errorf("topic %s: %w", name, t.Err)
		default:
			there = append(there, name)
		}
	}
	return there, nil
}

// checkUnused refuses topics that have, or had, records: offsets begin at 0 in what
// is filled.
func (l *Log) checkUnused(ctx context.Context, names []string) error {
	there, err := l.there(ctx, names...)
	if err != nil || len(there) == 0 {
		return err
	}
	ends, err := l.admin.ListEndOffsets(ctx, there...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("look up the topics' ends: %w", err)
	}
	used := make(map[string]bool)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			used[o.Topic] = true
		}
	})
	if len(used) > 0 {
		return fmt.Errorf("%w: %s", ErrUsed, strings.Join(slices.Sorted(maps.Keys(used)), ", "))
	}
	return nil
}

// setTimes says whose times all topics' records get: ours, or the brokers'.
func (l *Log) setTimes(ctx context.Context, kind string) error {
	if len(l.topics) == 0 {
		return nil
	}
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: timestampType, Value: &kind}}
	resp, err := l.admin.AlterTopicConfigs(ctx, set, l.names()...)
	if err != nil {
		return fmt.Errorf("set %s of the topics: %w", timestampType, err)
	}
	for _, r := range resp {
		switch {
		case errors.Is(r.Err, kerr.TopicAuthorizationFailed):
			return fmt.Errorf("%w AlterConfigs on %s: let it on every topic that begins with %q: %w", errMayNot, r.Name, l.cfg.Prefix, r.Err)
		case r.Err != nil:
			return fmt.Errorf("set %s of topic %s: %w", timestampType, r.Name, r.Err)
		}
	}
	return nil
}

// checkTimes refuses records that have the brokers' times. A topic that was there
// before may take ours only some time after brokers said so, so the oldest record
// of a partition tells.
func (l *Log) checkTimes(ctx context.Context) error {
	const brokers = 1
	for _, t := range l.cfg.Topics {
		for n := range t.Partitions {
			p := eventlog.Partition{Topic: t.Name, Number: n}
			var f fetched
			err := retry(ctx, func(fresh bool) error {
				// Brokers give up meanwhile what is older than the topic keeps.
				start, err := l.listOffset(ctx, p, atStart)
				if err == nil {
					f, err = l.fetch(ctx, p, start, 1, fresh)
				}
				if errors.Is(err, kerr.OffsetOutOfRange) {
					err = errNotYet
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("look at the times in topic %s, partition %d: %w", l.name(t.Name), n, err)
			}
			if len(f.records) > 0 && f.records[0].Attrs.TimestampType() == brokers {
				return fmt.Errorf("%w: topic %s has records with the brokers' times, not their own: begin again", ErrFilling, l.name(t.Name))
			}
		}
	}
	return nil
}

// deleteTopics deletes those of the topics that exist, and waits until brokers
// know.
func (l *Log) deleteTopics(ctx context.Context, names ...string) error {
	for {
		there, err := l.there(ctx, names...)
		if err != nil {
			return err
		}
		if len(there) == 0 {
			return nil
		}
		resp, err := l.admin.DeleteTopics(ctx, there...)
		if err != nil {
			return fmt.Errorf("delete topics: %w", err)
		}
		for _, r := range resp.Sorted() {
			switch {
			case errors.Is(r.Err, kerr.TopicAuthorizationFailed):
				return fmt.Errorf("%w Delete topic %s: delete it yourself (kafka-topics --delete --topic %s): %w", errMayNot, r.Topic, r.Topic, r.Err)
			case r.Err != nil && !errors.Is(r.Err, kerr.UnknownTopicOrPartition):
				return fmt.Errorf("delete topic %s: %w", r.Topic, r.Err)
			}
		}
		if pause(ctx); ctx.Err() != nil {
			return fmt.Errorf("delete topics %s: %w", strings.Join(there, ", "), ctx.Err())
		}
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}
