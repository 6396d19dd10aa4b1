package attempts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// ErrUnready says that the rows are being made, and that what is there yet would
// mislead.
var ErrUnready = errors.New("attempts: the rows are being made")

// The longest that a question waits for what was logged before it.
const freshWithin = 2 * time.Second

// Fresh waits until the rows say all that the log said of the endpoint when it was
// called, or until freshWithin has passed: then they are as old as they are.
// ErrUnready says that they haven't caught up once.
func (v *View) Fresh(ctx context.Context, endpoint string) error {
	return v.fresh(ctx, delivery.Lane(endpoint))
}

func (v *View) fresh(ctx context.Context, lanes ...int32) error {
	var mu sync.Mutex
	want := make(map[eventlog.Partition]int64, len(Topics)*len(lanes))
	looks, looking := errgroup.WithContext(ctx)
	for _, topic := range Topics {
		for _, lane := range lanes {
			looks.Go(func() error {
				p := eventlog.Partition{Topic: topic, Number: lane}
				_, end, err := v.cfg.Log.Bounds(looking, p)
				if err != nil {
					return fmt.Errorf("look up bounds of %s: %w", topic, err)
				}
				mu.Lock()
				defer mu.Unlock()
				want[p] = end
				return nil
			})
		}
	}
	if err := looks.Wait(); err != nil {
		return err
	}
	return v.await(ctx, want)
}

// await waits until the store is at the offsets.
func (v *View) await(ctx context.Context, want map[eventlog.Partition]int64) error {
	late := time.NewTimer(freshWithin)
	defer late.Stop()
	for {
		v.mu.Lock()
		leads, moved, caught := v.at != nil, v.moved, v.caught
		there := leads && reached(v.at, want)
		v.mu.Unlock()
		if there {
			return nil
		}
		pause := 50 * time.Millisecond
		if leads {
			select {
			case v.hurry <- struct{}{}:
			default:
			}
		} else {
			// Another process may keep the store up.
			at, err := v.cfg.Store.Positions(ctx)
			if err != nil {
				return err
			}
			if reached(at, want) {
				return nil
			}
			caught = len(at) > 0
		}
		select {
		case <-moved:
		case <-time.After(pause):
		case <-late.C:
			if !caught {
				return ErrUnready
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func reached(at map[eventlog.Partition]Position, want map[eventlog.Partition]int64) bool {
	for p, end := range want {
		if pos, known := at[p]; end > 0 && (!known || pos.Next < end) {
			return false
		}
	}
	return true
}

// List gives deliveries of an endpoint.
func (v *View) List(ctx context.Context, q Query) (Page, error) {
	if err := v.Fresh(ctx, q.Endpoint); err != nil {
		return Page{}, err
	}
	return v.cfg.Store.List(ctx, q)
}

// Find gives a delivery of an endpoint; nil: there is none.
func (v *View) Find(ctx context.Context, endpoint, delivery string) (*Row, error) {
	if err := v.Fresh(ctx, endpoint); err != nil {
		return nil, err
	}
	return v.cfg.Store.Find(ctx, endpoint, delivery)
}

// Of gives deliveries of an event, in order of their ids, behind one.
func (v *View) Of(ctx context.Context, env event.Environment, offset int64, after string, limit int) ([]Row, error) {
	lanes := make([]int32, delivery.Lanes)
	for i := range lanes {
		lanes[i] = int32(i)
	}
	if err := v.fresh(ctx, lanes...); err != nil {
		return nil, err
	}
	return v.cfg.Store.Of(ctx, env, offset, after, limit)
}

// Attempts reads the records of a row's attempts from the log, the oldest first.
// What isn't kept any more is left out.
func (v *View) Attempts(ctx context.Context, row *Row) ([]*delivery.Attempt, error) {
	p := eventlog.Partition{Topic: delivery.AttemptsTopic, Number: delivery.Lane(row.Endpoint)}
	var all []*delivery.Attempt
	for _, at := range row.Attempts {
		records, err := v.cfg.Log.Read(ctx, p, at, 1)
		if errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, eventlog.ErrPastEnd) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read attempt at %d: %w", at, err)
		}
		if len(records) == 0 || records[0].Offset != at {
			continue
		}
		a, err := delivery.DecodeAttempt(records[0].Value)
		if err != nil || a.Delivery != row.Delivery || a.Endpoint != row.Endpoint {
			continue // another log's, until the rows are made anew
		}
		all = append(all, a)
	}
	return all, nil
}
