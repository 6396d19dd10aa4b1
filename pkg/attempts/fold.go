package attempts

import (
	"errors"
	"slices"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// Topics are those that the view is made of.
var Topics = []string{delivery.Tier(0), delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic}

// fold gives what a record says of a delivery; false: nothing, or nothing that
// counts. Records must be met in their partition's order.
func fold(r *eventlog.Record, fence *delivery.Fence) (Row, bool) {
	if r.Topic == delivery.AttemptsTopic {
		a, err := delivery.DecodeAttempt(r.Value)
		if err != nil {
			mark(r, err, fence)
			return Row{}, false
		}
		if !fence.Counts(a.Generation) || a.Type == "" {
			return Row{}, false
		}
		return ofAttempt(r, a), true
	}
	d, err := delivery.DecodeDelivery(r.Value)
	if err != nil {
		mark(r, err, fence)
		return Row{}, false
	}
	if !fence.Counts(d.Generation) || d.Endpoint == "" {
		return Row{}, false
	}
	return ofDelivery(r, d)
}

// mark takes an owner's marker; what can't be read is for the lane to tell of.
func mark(r *eventlog.Record, err error, fence *delivery.Fence) {
	if errors.Is(err, delivery.ErrKind) {
		if generation, err := delivery.DecodeMarker(r.Value); err == nil {
			fence.Counts(generation)
		}
	}
}

func ofAttempt(r *eventlog.Record, a *delivery.Attempt) Row {
	o := &a.Outcome
	row := Row{
		Key: Key{a.Endpoint, a.EventOffset, a.Delivery}, Environment: a.Environment, EventID: a.EventID, Type: a.Type, Test: a.Test,
		Created: r.Time, Updated: r.Time, Number: a.Number, Class: o.Class, HTTP: o.Status, Attempts: []int64{r.Offset},
	}
	switch {
	case o.OK():
		row.Step = stepDelivered
	case a.Test:
		row.Step = stepOf(a.Number, stepFailed)
	case a.ByHand, a.Next.Topic == "":
		row.Step = stepNone
	case a.Next.Topic == delivery.HeldTopic && a.Next.Due.IsZero(): // else it is tried again from there
		row.Step = stepOf(a.Number, stepHeld)
	case a.Next.Topic == delivery.DeadTopic:
		row.Step = stepOf(a.Number, stepDead)
	default:
		row.Step, row.Next = stepOf(a.Number, stepRetrying), a.Next.Due.Truncate(time.Millisecond)
	}
	return row
}

func ofDelivery(r *eventlog.Record, d *delivery.Delivery) (Row, bool) {
	row := Row{
		Key: Key{d.Endpoint, d.Event.Offset, d.ID}, Environment: d.Event.Environment, EventID: d.Event.ID, Type: d.Event.Type, Test: d.Test,
		Created: r.Time, Updated: r.Time,
	}
	switch {
	case r.Topic == delivery.HeldTopic:
		row.Step = stepOf(d.Attempts, stepHeld)
	case r.Topic == delivery.DeadTopic:
		row.Step, row.Reason = stepOf(d.Attempts, stepDead), d.Reason
	case d.First, d.Test:
		row.Step, row.First = stepOf(0, stepPending), true
	case d.Origin.Topic == delivery.DeadTopic:
		row.Step = stepOf(d.Attempts, stepAgain)
	default:
		return Row{}, false
	}
	return row, true
}

// Merge brings what another part of the same row says into it. The order in which
// parts are merged, and how often each is, makes no difference.
func (row *Row) Merge(part *Row) {
	if part.Step > row.Step {
		row.Step, row.Next, row.Reason = part.Step, part.Next, part.Reason
	} else if part.Step == row.Step {
		if part.Next.After(row.Next) {
			row.Next = part.Next
		}
		row.Reason = max(row.Reason, part.Reason)
	}
	if part.Created.Before(row.Created) {
		row.Created = part.Created
	}
	if part.Updated.After(row.Updated) {
		row.Updated = part.Updated
	}
	row.First = row.First || part.First
	row.Number = max(row.Number, part.Number)
	if len(part.Attempts) == 0 {
		return
	}
	if n := len(row.Attempts); n == 0 || part.Attempts[len(part.Attempts)-1] > row.Attempts[n-1] {
		row.Class, row.HTTP = part.Class, part.HTTP
	}
	row.Attempts = append(slices.Clone(row.Attempts), part.Attempts...)
	slices.Sort(row.Attempts)
	row.Attempts = slices.Compact(row.Attempts)
	row.Attempts = row.Attempts[max(0, len(row.Attempts)-MaxAttempts):]
}
