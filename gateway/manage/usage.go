package manage

import (
	"errors"
	"net/http"
	"time"

	"sluice/pkg/usage"
)

// usageJSON is what an org used: rows of months and of days, the oldest first,
// one for each environment in which something was counted.
type usageJSON struct {
	Org    string     `json:"org"`
	Months []usageRow `json:"months"`
	Days   []usageRow `json:"days"`
}

type usageRow struct {
	Month       string `json:"month,omitzero"` // 2026-11
	Day         string `json:"day,omitzero"`   // 2026-11-22
	Environment string `json:"environment"`
	Published   int64  `json:"published"`
	Attempts    int64  `json:"attempts"`
	Delivered   int64  `json:"delivered"`
	Streamed    int64  `json:"streamed"`
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
	return http.StatusOK, out, nil
}

func showRow(row *usage.Row) usageRow {
	n := &row.Counts
	return usageRow{Environment: row.Environment.String(), Published: n[usage.Published], Attempts: n[usage.Attempts],
		Delivered: n[usage.Delivered], Streamed: n[usage.Streamed]}
}
