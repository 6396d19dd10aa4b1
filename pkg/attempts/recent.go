package attempts

import (
	"context"
	"slices"

	"sluice/pkg/delivery"
)

// The bounds of Recent.
const (
	maxTotal = 100_000 // more than that aren't counted: who asks often would have us do nothing else
	runRows  = 100     // read of one endpoint at once
)

// Recent gives deliveries of several endpoints of one environment as one list, the
// newest events first: limit of them from the entry numbered offset on, and how many
// there are in all, 100,000 at most. Deliveries of events below the offset from are
// left out. All in front of those that are asked for are read, too.
func (v *View) Recent(ctx context.Context, endpoints []string, from int64, offset, limit int) (rows []Row, total int, err error) {
	var lanes []int32
	for _, id := range endpoints {
		if lane := delivery.Lane(id); !slices.Contains(lanes, lane) {
			lanes = append(lanes, lane)
		}
	}
	if err := v.fresh(ctx, lanes...); err != nil {
		return nil, 0, err
	}
	var runs []*run
	for _, id := range endpoints {
		n, err := v.cfg.Store.Count(ctx, id, from, maxTotal-total)
		if err != nil {
			return nil, 0, err
		}
		if n > 0 {
			runs = append(runs, &run{store: v.cfg.Store, q: Query{Endpoint: id, From: from, Limit: min(offset+limit, runRows)}, more: true})
		}
		total += n
	}
	for at := 0; at < offset+limit; at++ {
		row, err := newest(ctx, runs)
		if row == nil || err != nil {
			return rows, total, err
		}
		if at >= offset {
			rows = append(rows, *row)
		}
	}
	return rows, total, nil
}

// run is what is yet to be taken of an endpoint's deliveries.
type run struct {
	store Store
	q     Query
	rows  []Row
	more  bool // behind rows there may be more in the store
}

// head gives the newest; nil: all were taken.
func (r *run) head(ctx context.Context) (*Row, error) {
	for len(r.rows) == 0 && r.more {
		page, err := r.store.List(ctx, r.q)
		if err != nil {
			return nil, err
		}
		r.rows, r.q.Before, r.more = page.Rows, page.Next, page.Next != (Key{})
	}
	if len(r.rows) == 0 {
		return nil, nil
	}
	return &r.rows[0], nil
}

// newest takes the newest of all; nil: there is none.
func newest(ctx context.Context, runs []*run) (*Row, error) {
	var first *run
	for _, r := range runs {
		row, err := r.head(ctx)
		if err != nil {
			return nil, err
		}
		if row != nil && (first == nil || row.Event > first.rows[0].Event) {
			first = r
		}
	}
	if first == nil {
		return nil, nil
	}
	row := &first.rows[0]
	first.rows = first.rows[1:]
	return row, nil
}
