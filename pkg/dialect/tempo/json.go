package tempo

import (
	"strconv"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// appendSubscription adds an endpoint. Of what another API's call gave it, it can't
// say what it is owed.
func appendSubscription(dst []byte, ep *endpoint.Endpoint, withSecret bool) []byte {
	dst = dialect.AppendString(append(dst, `{"id":`...), ep.ID)
	s, ok := read(ep)
	dst = appendOrNull(dst, "type", s.kind, ok)
	dst = appendOrNull(dst, "network", s.network, ok)
	dst = appendOrNull(dst, "address", s.address, ok)
	dst = dialect.AppendMember(dst, "webhook_url", ep.URL)
	dst = strconv.AppendBool(append(dst, `,"active":`...), ep.Status == endpoint.Active)
	dst = append(dst, `,"filters":`...)
	if ok {
		dst = appendFilters(dst, s.filters)
	} else {
		dst = append(dst, "null"...)
	}
	if withSecret {
		dst = dialect.AppendMember(dst, "webhook_secret", string(ep.Secret))
	}
	if ep.Status == endpoint.Disabled {
		dst = dialect.AppendMember(dst, "disabled_reason", ep.Reason)
	}
	if ep.Missed > 0 {
		dst = strconv.AppendInt(append(dst, `,"missed":`...), ep.Missed, 10)
	}
	return append(dialect.AppendMember(dst, "created_at", dialect.Timestamp(ep.CreatedAt)), '}')
}

func appendFilters(dst []byte, filters []condition) []byte {
	dst = append(dst, '[')
	for i, f := range filters {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = dialect.AppendString(append(dst, `{"type":`...), f.Type)
		dst = append(dialect.AppendMember(dst, "value", f.Value), '}')
	}
	return append(dst, ']')
}

func appendOrNull(dst []byte, member, value string, known bool) []byte {
	if !known {
		return append(append(append(dst, `,"`...), member...), `":null`...)
	}
	return dialect.AppendMember(dst, member, value)
}

// statuses are what the document's users look for.
var statuses = map[dialect.DeliveryStatus]string{
	dialect.Pending: "pending", dialect.Held: "pending", dialect.Retrying: "retrying", dialect.Delivered: "delivered",
	dialect.Dead: "failed", dialect.Failed: "failed", dialect.Cancelled: "failed",
}

// appendLog adds a delivery, as its newest attempt has it.
func appendLog(dst []byte, d *dialect.Delivery) []byte {
	dst = dialect.AppendString(append(dst, `{"id":`...), d.ID)
	dst = dialect.AppendMember(dst, "subscription_id", d.Endpoint)
	dst = dialect.AppendMember(dst, "event_id", d.EventID)
	dst = dialect.AppendMember(dst, "status", statuses[d.Status])
	dst = dialect.AppendNumber(dst, "http_status_code", int64(d.HTTPStatus), d.HTTPStatus != 0)
	dst = dialect.AppendNumber(dst, "attempt_count", int64(d.Attempts), true)
	dst = dialect.AppendNumber(dst, "latency_ms", d.Took.Milliseconds(), d.Attempts > 0)
	delivered := d.Status == dialect.Delivered
	dst = appendOrNull(dst, "delivered_at", dialect.Timestamp(d.At.Add(d.Took)), delivered)
	if d.Failure != "" {
		dst = dialect.AppendMember(dst, "error", d.Failure)
	}
	if d.Waits != "" {
		dst = dialect.AppendMember(dst, "held", d.Waits)
	}
	return append(dst, '}')
}
