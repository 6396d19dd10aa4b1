package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// Usage gives what the caller's org used.
func (c *Core) Usage(_ context.Context, p *key.Principal) (*dialect.Usage, error) {
	months, days, err := c.totals.Of(p.Org)
	switch {
	case errors.Is(err, usage.ErrUnavailable):
		return nil, unavailable
	case err != nil:
		return nil, fmt.Errorf("look up usage of %s: %w", p.Org, err)
	}
	now := time.Now().UTC()
	used := &dialect.Usage{Since: usage.FirstDay(now), Days: together(days)}
	used.Month.Start = usage.NextMonth(now).AddDate(0, -1, 0)
	for _, m := range together(months) {
		if m.Start.Equal(used.Month.Start) {
			used.Month = m
		}
	}
	return used, nil
}

// together adds up rows that differ in their environment only: they follow one another.
func together(rows []usage.Row) (all []dialect.UsedIn) {
	for _, row := range rows {
		if n := len(all); n == 0 || !all[n-1].Start.Equal(row.Start) {
			all = append(all, dialect.UsedIn{Start: row.Start})
		}
		last := &all[len(all)-1]
		last.Requests += row.Counts[usage.Requests]
		last.Deliveries += row.Counts[usage.Metered]
	}
	return all
}

// CountEndpoints counts the endpoints of a dialect that the caller's org has.
func (c *Core) CountEndpoints(p *key.Principal, dialect string) (all, active int) {
	return c.control.CountEndpoints(p.Org, dialect)
}

// usageJSON is what an org used: rows of months and of days, the oldest first,
// one for each environment in which something was counted; holds says that what more
// there is to deliver waits, and until when.
type usageJSON struct {
	Org    string     `json:"org"`
	Months []usageRow `json:"months"`
	Days   []usageRow `json:"days"`
	Holds  string     `json:"holds,omitzero"`
}

type usageRow struct {
	Month       string `json:"month,omitzero"` // 2026-11
	Day         string `json:"day,omitzero"`   // 2026-11-22
	Environment string `json:"environment"`
	Published   int64  `json:"published"`
	Attempts    int64  `json:"attempts"`
	Delivered   int64  `json:"delivered"`
	Streamed    int64  `json:"streamed"`
	Requests    int64  `json:"requests"`
	Metered     int64  `json:"metered"`
}

func (a *Admin) showUsage(r *http.Request, totals *usage.Totals) (int, any, error) {
	o, err := a.org(r)
	if err != nil {
		return 0, nil, err
	}
	months, days, err := totals.Of(o.ID)
	switch {
	case errors.Is(err, usage.ErrUnavailable):
		a.logger.Warn("usage not shown", "org", o.ID, "error", err)
		return 0, nil, unavailable
	case err != nil:
		return 0, nil, err
	}
	out := usageJSON{Org: o.ID, Months: []usageRow{}, Days: []usageRow{}}
	for _, row := range months {
		shown := showRow(&row)
		shown.Month = row.Start.Format("2006-01")
		out.Months = append(out.Months, shown)
	}
	for _, row := range days {
		shown := showRow(&row)
		shown.Day = row.Start.Format(time.DateOnly)
		out.Days = append(out.Days, shown)
	}
	out.Holds = holds(o, totals)
	return http.StatusOK, out, nil
}

func showRow(row *usage.Row) usageRow {
	n := &row.Counts
	return usageRow{Environment: row.Environment.String(), Published: n[usage.Published], Attempts: n[usage.Attempts],
		Delivered: n[usage.Delivered], Streamed: n[usage.Streamed],
		Requests: n[usage.Requests], Metered: n[usage.Metered]}
}
