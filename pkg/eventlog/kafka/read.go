package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"sluice/pkg/eventlog"
)

// What ListOffsets takes for a time.
const (
	atEnd   = -1
	atStart = -2
)

// errNotYet is a leader that doesn't know yet what its predecessor had shown.
var errNotYet = errors.New("the leader's durable end is still behind")

// Bounds implements eventlog.Reader.
func (l *Log) Bounds(ctx context.Context, p eventlog.Partition) (start, end int64, err error) {
	ctx, done, err := l.call(ctx, p)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	start, end, err = l.bounds(ctx, p)
	if err != nil {
		return 0, 0, l.callError(ctx, "looking up", p, err)
	}
	return start, end, nil
}

func (l *Log) bounds(ctx context.Context, p eventlog.Partition) (start, end int64, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { start, err = l.listOffset(ctx, p, atStart); return err })
	g.Go(func() (err error) { end, err = l.listOffset(ctx, p, atEnd); return err })
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	// Both are looked up at once; a trim in between is the later truth.
	return start, max(start, end), nil
}

// listOffset asks the leader for the offset at a time, Unix ms; -1: there is none.
func (l *Log) listOffset(ctx context.Context, p eventlog.Partition, at int64) (offset int64, err error) {
	err = retry(ctx, func(fresh bool) error {
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition = p.Number
		part.Timestamp = at
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = l.name(p.Topic)
		topic.Partitions = []kmsg.ListOffsetsRequestTopicPartition{part}
		req := kmsg.NewPtrListOffsetsRequest()
		req.Topics = []kmsg.ListOffsetsRequestTopic{topic}
		leader, err := l.leader(ctx, p, fresh)
		if err != nil {
			return err
		}
		kresp, err := l.reader.Broker(leader).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		resp := kresp.(*kmsg.ListOffsetsResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return errors.New("the answer about offsets is of other partitions")
		}
		offset = resp.Topics[0].Partitions[0].Offset
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	})
	return offset, err
}

// Read implements eventlog.Reader.
func (l *Log) Read(ctx context.Context, p eventlog.Partition, from int64, maxBytes int) ([]eventlog.Record, error) {
	ctx, done, err := l.call(ctx, p)
	if err != nil {
		return nil, err
	}
	defer done()
	if from < 0 {
		return nil, eventlog.ErrTooOld
	}
	var records []eventlog.Record
	at, behind := from, 0
	err = retry(ctx, func(fresh bool) error {
		for {
			f, err := l.fetch(ctx, p, at, min(max(maxBytes, 1), 64<<20), fresh)
			if errors.Is(err, kerr.OffsetOutOfRange) {
				return l.outOfRange(ctx, p, at)
			}
			if err != nil {
				return err
			}
			bytes := 0
			for _, r := range f.records {
				n := len(r.Key) + len(r.Value)
				if len(records) > 0 && bytes+n > maxBytes {
					break
				}
				bytes += n
				records = append(records, record(p, r))
			}
			switch {
			case len(records) > 0 || at == f.end:
				return nil
			case at > f.end:
				// A new leader may not know yet that this is durable. It soon does; else the
				// offset is of another log.
				if behind++; behind > 5 {
					return eventlog.ErrPastEnd
				}
				return errNotYet
			case f.next <= at:
				return errNotYet // nothing of what there is: once more
			}
			at = f.next // a hole
		}
	})
	switch {
	case errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, eventlog.ErrPastEnd):
		return nil, err
	case err != nil:
		return nil, l.callError(ctx, "reading", p, err)
	}
	return records, nil
}

// outOfRange says on which side an offset lies that the leader doesn't have.
func (l *Log) outOfRange(ctx context.Context, p eventlog.Partition, at int64) error {
	start, end, err := l.bounds(ctx, p)
	switch {
	case err != nil:
		return err
	case at < start:
		return eventlog.ErrTooOld
	case at > end:
		return eventlog.ErrPastEnd
	}
	return errNotYet
}

// OffsetAt implements eventlog.Reader.
func (l *Log) OffsetAt(ctx context.Context, p eventlog.Partition, t time.Time) (int64, error) {
	ctx, done, err := l.call(ctx, p)
	if err != nil {
		return 0, err
	}
	defer done()
	// Times are whole milliseconds: t, rounded up.
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	offset, err := l.listOffset(ctx, p, max(ms, 0))
	if err == nil && offset < 0 {
		// All there is may be older. What was added since is not, so the end counts only
		// if nothing was found a second time.
		var end int64
		if end, err = l.listOffset(ctx, p, atEnd); err == nil {
			offset, err = l.listOffset(ctx, p, max(ms, 0))
		}
		if offset < 0 {
			offset = end
		}
	}
	if err != nil {
		return 0, l.callError(ctx, "looking up a time in", p, err)
	}
	return offset, nil
}

// Scarce implements eventlog.Keeper: brokers don't tell.
func (l *Log) Scarce() bool { return false }

// Trim implements eventlog.Keeper.
func (l *Log) Trim(ctx context.Context, p eventlog.Partition, before int64) error {
	ctx, done, err := l.call(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	err = retry(ctx, func(fresh bool) error {
		start, end, err := l.bounds(ctx, p)
		switch {
		case err != nil:
			return err
		case before > end:
			return eventlog.ErrPastEnd
		case before <= start:
			return nil
		}
		leader, err := l.leader(ctx, p, fresh)
		if err != nil {
			return err
		}
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Partition = p.Number
		part.Offset = before
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic = l.name(p.Topic)
		topic.Partitions = []kmsg.DeleteRecordsRequestTopicPartition{part}
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = int32(answerTimeout.Milliseconds())
		req.Topics = []kmsg.DeleteRecordsRequestTopic{topic}
		kresp, err := l.reader.Broker(leader).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		resp := kresp.(*kmsg.DeleteRecordsResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return fmt.Errorf("the answer to a trim is of other partitions")
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	})
	if err != nil && !errors.Is(err, eventlog.ErrPastEnd) {
		return l.callError(ctx, "trimming", p, err)
	}
	return err
}
