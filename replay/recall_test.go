package replay

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// spoilt is a log of which what lies below an offset fails to be read.
type spoilt struct {
	*list
	below int64
	err   error
}

func (s spoilt) Read(ctx context.Context, p eventlog.Partition, from int64, bytes int) ([]eventlog.Record, error) {
	if from < s.below {
		return nil, s.err
	}
	return s.list.Read(ctx, p, from, bytes)
}

// What is damaged, or too old, among the events before a place keeps nobody from
// following those behind it; what lies between is known.
func TestRecallOfDamaged(t *testing.T) {
	const events = 3 * recallSpan
	log := &list{}
	claimed := func(n int64) *event.Event {
		ev := &event.Event{ID: fmt.Sprint("e", n), Type: "a.b", Environment: event.Live, Org: "o", Audience: event.Audience{Orgs: []string{"o"}}, Key: "o", Data: []byte("{}")}
		ev.Offset, ev.Claim = n, event.Claim{ID: event.ClaimID{1, byte(n >> 8), byte(n)}}
		return ev
	}
	for n := range int64(events) {
		if _, err := log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Live.Topic()}, Value: claimed(n).AppendRecord(nil)}}); err != nil {
			t.Fatal(err)
		}
	}
	for err, known := range map[error]bool{
		fmt.Errorf("a table %w", eventlog.ErrDamaged): true,
		eventlog.ErrTooOld:                            true,
		errors.New("no answer"):                       false,
	} {
		var d event.Doubles
		got := Recall(t.Context(), spoilt{log, recallSpan + 1, err}, event.Live, events, &d)
		if known != (got == nil) {
			t.Errorf("%v: %v", err, got)
		}
		last, first := claimed(events-1), claimed(0)
		last.Offset, first.Offset = events, events+1
		if d.Double(last) != known || d.Double(first) {
			t.Errorf("%v: the copies of the last and the first are told otherwise", err)
		}
	}
}
