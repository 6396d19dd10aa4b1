package manage

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// statusNames are the statuses as clients see them, beside dialect.Cancelled: no
// record says that of a delivery, its endpoint does of all.
var statusNames = map[attempts.Status]dialect.DeliveryStatus{
	attempts.Pending: dialect.Pending, attempts.Retrying: dialect.Retrying, attempts.Held: dialect.Held,
	attempts.Delivered: dialect.Delivered, attempts.Dead: dialect.Dead, attempts.Failed: dialect.Failed,
}

var unsettled = []attempts.Status{attempts.Pending, attempts.Retrying, attempts.Held}

func statusOf(row *attempts.Row, ep *endpoint.Endpoint) dialect.DeliveryStatus {
	status := row.Step.Status()
	if row.Event < ep.Skip && slices.Contains(unsettled, status) && !row.Test {
		return dialect.Cancelled
	}
	if name := statusNames[status]; name != "" {
		return name
	}
	return dialect.Failed // nothing but an attempt by hand is known
}

// appendRow adds a delivery, without its last brace, and why it waits.
func appendRow(dst []byte, row *attempts.Row, ep *endpoint.Endpoint, waits string) []byte {
	dst = append(dst, `{"id":`...)
	dst = dialect.AppendString(dst, row.Delivery)
	dst = appendText(dst, "eventId", row.EventID)
	dst = appendText(dst, "eventType", row.Type)
	status := statusOf(row, ep)
	dst = appendText(dst, "status", string(status))
	if row.Test {
		dst = append(dst, `,"test":true`...)
	}
	dst = appendNumber(dst, "attempts", int64(row.Number))
	if row.Number > 0 {
		dst = appendText(dst, "outcome", row.Class.Name(row.HTTP))
		dst = appendStatus(dst, row.HTTP)
	}
	if reason := cmp.Or(row.Reason, waits); reason != "" {
		dst = appendText(dst, "reason", reason)
	}
	dst = appendText(dst, "createdAt", stamp(row.Created))
	dst = appendText(dst, "updatedAt", stamp(row.Updated))
	dst = append(dst, `,"nextAttemptAt":`...)
	if row.Next.IsZero() || status != dialect.Retrying {
		return append(dst, "null"...)
	}
	return dialect.AppendString(dst, stamp(row.Next))
}

// appendAttempt adds what is known of an attempt.
func appendAttempt(dst []byte, a *delivery.Attempt) []byte {
	o, x := &a.Outcome, &a.Exchange
	dst = append(dst, `{"attempt":`...)
	dst = strconv.AppendInt(dst, int64(a.Number), 10)
	if a.ByHand {
		dst = append(dst, `,"byHand":true`...)
	}
	dst = appendText(dst, "startedAt", stamp(o.Started))
	dst = appendText(dst, "outcome", o.Name())
	dst = appendStatus(dst, o.Status)
	if o.Detail != "" {
		dst = appendText(dst, "detail", o.Detail)
	}
	dst = appendMillis(append(dst, ','), "durationMs", o.Took)
	if t := &x.Timing; *t != (delivery.Timing{}) {
		dst = appendMillis(append(dst, `,"timing":{`...), "dnsMs", t.DNS)
		dst = appendMillis(append(dst, ','), "connectMs", t.Connect)
		dst = appendMillis(append(dst, ','), "tlsMs", t.TLS)
		dst = appendMillis(append(dst, ','), "firstByteMs", t.FirstByte)
		dst = appendMillis(append(dst, ','), "totalMs", t.Total)
		dst = strconv.AppendBool(append(dst, `,"reusedConnection":`...), t.Reused)
		dst = append(dst, '}')
	}
	dst = append(dst, `,"request":{"headers":[`...)
	first := true
	for line := range bytes.SplitSeq(x.Headers, []byte("\r\n")) {
		name, value, found := bytes.Cut(line, []byte(": "))
		if !found {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = dialect.AppendString(append(dst, `{"name":`...), string(name))
		dst = append(appendText(dst, "value", string(value)), '}')
	}
	dst = append(dst, `]},"response":`...)
	if o.Status == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = dialect.AppendString(append(dst, `{"body":`...), string(x.Answer))
		if len(x.Answer) == delivery.MaxAnswer {
			dst = append(dst, `,"cut":true`...)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"nextAttemptAt":`...)
	if a.Next.Due.IsZero() {
		return append(dst, "null}"...)
	}
	return append(dialect.AppendString(dst, stamp(a.Next.Due)), '}')
}

func appendText(dst []byte, member, value string) []byte {
	dst = append(append(append(dst, `,"`...), member...), `":`...)
	return dialect.AppendString(dst, value)
}

func appendNumber(dst []byte, member string, n int64) []byte {
	dst = append(append(append(dst, `,"`...), member...), `":`...)
	return strconv.AppendInt(dst, n, 10)
}

// appendStatus adds an answer's status; null: there was none.
func appendStatus(dst []byte, status int) []byte {
	if status == 0 {
		return append(dst, `,"httpStatus":null`...)
	}
	return appendNumber(dst, "httpStatus", int64(status))
}

// appendMillis adds a duration in milliseconds, to the microsecond.
func appendMillis(dst []byte, member string, d time.Duration) []byte {
	dst = append(append(append(dst, '"'), member...), `":`...)
	return strconv.AppendFloat(dst, float64(d.Microseconds())/1000, 'f', -1, 64)
}
