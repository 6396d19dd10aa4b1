package tempo

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"sluice/pkg/dialect"
)

// showUsage adds up the days of a period: without one, of this month until today.
func showUsage(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	now := r.Now.UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	end := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	if wrong := period(r, &start, &end); wrong != nil {
		return nil, wrong
	}
	used, err := core.Usage(ctx, &r.Principal)
	if err != nil {
		return nil, err
	}
	p := core.Plan(&r.Principal)
	quota := int64(p.Limits().Deliveries)
	var sum dialect.UsedIn
	months := make(map[time.Month]int64) // of the 40 days that there are
	for _, d := range used.Days {
		if !d.Start.Before(start) && !d.Start.After(end) {
			sum.Requests += d.Requests
			sum.Deliveries += d.Deliveries
			months[d.Start.Month()] += d.Deliveries
		}
	}
	var overage int64
	for _, n := range months {
		if quota > 0 {
			overage += max(0, n-quota)
		}
	}
	_, active := core.CountEndpoints(&r.Principal, name)
	dst := dialect.AppendString([]byte(`{"period":{"start":`), start.Format(time.DateOnly))
	dst = dialect.AppendMember(dst, "end", end.Format(time.DateOnly))
	if start.Before(used.Since) { // what was before isn't known any more
		dst = dialect.AppendMember(dst, "counted_since", used.Since.Format(time.DateOnly))
	}
	dst = strconv.AppendInt(append(dst, `},"usage":{"webhook_deliveries":`...), sum.Deliveries, 10)
	dst = dialect.AppendNumber(dst, "api_requests", sum.Requests, true)
	dst = dialect.AppendNumber(dst, "active_subscriptions", int64(active), true)
	dst = append(dst, `},"quota":{"webhook_deliveries":`...)
	if quota > 0 {
		dst = strconv.AppendInt(dst, quota, 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = dialect.AppendNumber(dst, "overage", overage, true)
	dst = append(dst, `,"overage_cost":0.00}`...) // nothing is asked for it
	return &dialect.Response{Status: 200, Body: append(dialect.AppendMember(dst, "plan", string(p)), '}')}, nil
}

// period reads the dates that are given; both days are in it.
func period(r *dialect.Request, start, end *time.Time) *dialect.Error {
	var issues []dialect.Issue
	for _, p := range []struct {
		name string
		date *time.Time
	}{{"start_date", start}, {"end_date", end}} {
		text := r.Query(p.name)
		if text == "" {
			continue
		}
		date, err := time.Parse(time.DateOnly, text)
		if err != nil {
			issues = append(issues, dialect.Issue{Path: []string{p.name}, Message: "must be a date, as in 2027-01-31"})
			continue
		}
		*p.date = date
	}
	switch {
	case len(issues) > 0:
		return dialect.Invalid(issues...)
	case end.Before(*start):
		return dialect.Invalid(dialect.Issue{Path: []string{"end_date"}, Message: "is before the period begins"})
	}
	return nil
}

// warnFrom is how much of a quota is used when that is told, in percent.
const warnFrom = 80

// warnings lists the quotas that are used up, or nearly.
func warnings(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	used, err := core.Usage(ctx, &r.Principal)
	if err != nil {
		return nil, err
	}
	limits := core.Plan(&r.Principal).Limits()
	beyond := "" // what becomes of webhooks past the quota
	if limits.Holds {
		beyond = ": more are held until " + used.Month.Start.AddDate(0, 1, 0).Format(time.DateOnly) + ", or until your plan changes, for seven days at most"
	}
	subscriptions, _ := core.CountEndpoints(&r.Principal, name)
	dst := []byte{'['}
	for _, q := range []struct {
		kind, quota, beyond string
		used, limit         int64
	}{
		{"webhooks", "monthly webhook quota", beyond, used.Month.Deliveries, int64(limits.Deliveries)},
		{"subscriptions", "subscription quota", "", int64(subscriptions), int64(limits.Subscriptions)},
	} {
		if q.limit == 0 || q.used*100 < q.limit*warnFrom {
			continue
		}
		message := fmt.Sprintf("You're using %d%% of your %s", q.used*100/q.limit, q.quota)
		if q.used >= q.limit {
			message = "You've used all of your " + q.quota + q.beyond
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = dialect.AppendString(append(dst, `{"warning_type":`...), q.kind)
		dst = dialect.AppendMember(dst, "message", message)
		dst = dialect.AppendNumber(dst, "current_usage", q.used, true)
		dst = dialect.AppendNumber(dst, "limit", q.limit, true)
		dst = append(dst, `,"percentage_used":`...)
		dst = append(strconv.AppendFloat(dst, float64(q.used)*100/float64(q.limit), 'f', 1, 64), '}')
	}
	return &dialect.Response{Status: 200, Body: append(dst, ']')}, nil
}
