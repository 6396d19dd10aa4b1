package tempo

import (
	"context"
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/plan"
)

// prices are what the document asks for a month, in dollars; a plan that isn't there
// has one that is agreed on.
var prices = map[plan.Plan]float64{plan.Free: 0, plan.Starter: 29, plan.Pro: 99}

func showPlan(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	p := core.Plan(&r.Principal)
	used, err := core.Usage(ctx, &r.Principal)
	if err != nil {
		return nil, err
	}
	_, active := core.CountEndpoints(&r.Principal, name)
	dst := dialect.AppendString([]byte(`{"current_plan":{"tier":`), string(p))
	dst = appendPrice(append(dst, `,"status":"active"`...), p)
	dst = strconv.AppendInt(append(dst, `},"usage":{"active_subscriptions":`...), int64(active), 10)
	dst = dialect.AppendNumber(dst, "webhook_deliveries_this_month", used.Month.Deliveries, true)
	dst = dialect.AppendNumber(dst, "api_requests_this_minute", int64(r.Used), true)
	dst = appendLimits(append(dst, `},"limits":`...), p)
	dst = append(dst, `,"available_plans":[`...)
	for i, p := range plan.All {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = dialect.AppendString(append(dst, `{"tier":`...), string(p))
		dst = append(appendLimits(append(appendPrice(dst, p), `,"limits":`...), p), '}')
	}
	return &dialect.Response{Status: 200, Body: append(dst, "]}"...)}, nil
}

func appendPrice(dst []byte, p plan.Plan) []byte {
	dst = append(dst, `,"price_usd":`...)
	if price, listed := prices[p]; listed {
		return strconv.AppendFloat(dst, price, 'f', 1, 64)
	}
	return append(dst, "null"...)
}

// appendLimits writes what a plan allows; null is any number.
func appendLimits(dst []byte, p plan.Plan) []byte {
	l := p.Limits()
	dst = strconv.AppendInt(append(dst, `{"max_api_requests_per_minute":`...), int64(l.Requests), 10)
	dst = dialect.AppendNumber(dst, "max_subscriptions", int64(l.Subscriptions), l.Subscriptions > 0)
	dst = dialect.AppendNumber(dst, "max_webhook_deliveries", int64(l.Deliveries), l.Deliveries > 0)
	dst = dialect.AppendNumber(dst, "max_filters_per_subscription", int64(l.Filters), true)
	dst = strconv.AppendBool(append(dst, `,"can_use_mainnet":`...), l.Mainnet)
	return append(dst, '}')
}
