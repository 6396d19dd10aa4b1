package manage

import (
	"fmt"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/plan"
	"sluice/pkg/usage"
)

// spent says that what a plan delivers in a month is used up, and more is held; empty:
// it isn't, or more goes out.
func spent(p plan.Plan, used int64) string {
	if most := p.Limits().HoldsFrom(); most > 0 && used >= int64(most) {
		return fmt.Sprintf("the month's %s webhooks are used up", thousands(most))
	}
	return ""
}

// thousands writes a number below a million as people read it.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// usedMonth gives what counts of an org's deliveries of this month.
func usedMonth(totals *usage.Totals, org string) (n int64, err error) {
	months, _, err := totals.Of(org)
	start := usage.NextMonth(time.Now()).AddDate(0, -1, 0)
	for _, m := range months {
		if m.Start.Equal(start) {
			n += m.Counts[usage.Metered]
		}
	}
	return n, err
}

// usedUp says of an org what spent does; empty where nobody knows.
func (c *Core) usedUp(id string) string {
	org := c.control.Org(id)
	if c.totals == nil || org == nil || org.Plan.Limits().HoldsFrom() == 0 {
		return ""
	}
	n, err := usedMonth(c.totals, id)
	if err != nil {
		return ""
	}
	return spent(org.Plan, n)
}

// waits says why a delivery isn't sent though its endpoint could be, and what ends
// that; empty: something else is the reason, or it isn't held. usedUp is its org's.
func (c *Core) waits(row *attempts.Row, ep *endpoint.Endpoint, usedUp string) string {
	if usedUp == "" || !c.metered[ep.Dialect] || ep.Status != endpoint.Active || row.Number > 0 || statusOf(row, ep) != dialect.Held {
		return ""
	}
	turn := usage.NextMonth(time.Now())
	if expires := row.Updated.Add(event.Shown); expires.Before(turn) {
		return fmt.Sprintf("%s: it expires on %s unless the plan changes before", usedUp, expires.UTC().Format(time.DateOnly))
	}
	return fmt.Sprintf("%s: it goes out on %s, or when the plan changes", usedUp, turn.Format(time.DateOnly))
}

// holds says of an org, for its operator, that deliveries of it are held.
func holds(org *control.Org, totals *usage.Totals) string {
	n, err := usedMonth(totals, org.ID)
	if said := spent(org.Plan, n); err == nil && said != "" {
		return fmt.Sprintf("%s: more is held until %s, or until the plan changes", said, usage.NextMonth(time.Now()).Format(time.DateOnly))
	}
	return ""
}
