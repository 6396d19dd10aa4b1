package manage

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
)

// Deliveries serves what became of deliveries, to the owners of endpoints,
// whatever their dialect, and to those who published:
//
//	GET  /v1/webhooks/{id}/deliveries                      lists, the newest events first
//	GET  /v1/webhooks/{id}/deliveries/{deliveryId}         shows one, with its attempts
//	POST /v1/webhooks/{id}/deliveries/{deliveryId}/retry   makes one attempt, at once
//	GET  /v1/events/{id}/deliveries                        endpoints and statuses, no more
//
// It is all that dialects' calls may ask for, too.
type Deliveries struct {
	*Core
	*Events
	dialect.Accounts

	View *attempts.View // nil: this process has none
	Log  eventlog.Reader
}

var _ dialect.Core = (*Deliveries)(nil)

// maxDeliveries bounds a page of deliveries.
const maxDeliveries = 100

// Routes gives the calls.
func (d *Deliveries) Routes() []web.Route {
	const path = "/v1/webhooks/{id}/deliveries"
	route := func(method, path string, scope key.Scope, serve func(ctx context.Context, c *web.Call) (int, []byte, error)) web.Route {
		return web.Route{Method: method, Path: path, Scope: scope, Serve: func(c *web.Call) error {
			ctx, cancel := context.WithTimeout(c.Context(), readWithin)
			defer cancel()
			if d.View == nil {
				return unlisted
			}
			status, body, err := serve(ctx, c)
			if err != nil {
				return d.refusal(err)
			}
			c.JSON(status, body)
			return nil
		}}
	}
	return []web.Route{
		route("GET", path, key.Manage, func(ctx context.Context, c *web.Call) (int, []byte, error) {
			if err := c.OnlyQuery("status", "from", "to", "limit", "cursor"); err != nil {
				return 0, nil, err
			}
			body, err := d.List(ctx, c.Principal, c.Param("id"), c.Query)
			return 200, body, err
		}),
		route("GET", path+"/{deliveryId}", key.Manage, func(ctx context.Context, c *web.Call) (int, []byte, error) {
			body, err := d.One(ctx, c.Principal, c.Param("id"), c.Param("deliveryId"))
			return 200, body, err
		}),
		route("POST", path+"/{deliveryId}/retry", key.Manage, func(ctx context.Context, c *web.Call) (int, []byte, error) {
			body, err := d.Retry(ctx, c.Principal, c.Param("id"), c.Param("deliveryId"))
			return 202, body, err
		}),
		route("GET", "/v1/events/{id}/deliveries", key.Subscribe, func(ctx context.Context, c *web.Call) (int, []byte, error) {
			if err := c.OnlyQuery("limit", "cursor"); err != nil {
				return 0, nil, err
			}
			body, err := d.Of(ctx, c.Principal, c.Param("id"), c.Query)
			return 200, body, err
		}),
	}
}

// List answers with deliveries of an endpoint: {"data":[…],"nextCursor":"…"}.
// nextCursor is null at the end; a page may be short of its limit before that.
func (d *Deliveries) List(ctx context.Context, p *key.Principal, id string, query func(string) string) ([]byte, error) {
	ep, page, err := d.page(ctx, p, id, query)
	if err != nil {
		return nil, err
	}
	dst := append(make([]byte, 0, 512+400*len(page.Rows)), `{"data":[`...)
	usedUp := d.usedUp(ep.Org)
	for i := range page.Rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendRow(dst, &page.Rows[i], ep, d.waits(&page.Rows[i], ep, usedUp)), '}')
	}
	return append(dialect.AppendNext(append(dst, ']'), formatDeliveryPlace(&page.Next)), '}'), nil
}

// page reads a page of an endpoint's deliveries.
func (d *Deliveries) page(ctx context.Context, p *key.Principal, id string, query func(string) string) (*endpoint.Endpoint, attempts.Page, error) {
	ep, err := d.Endpoint(ctx, p, id)
	if err != nil {
		return nil, attempts.Page{}, err
	}
	q, err := d.query(ctx, ep, query)
	if err != nil || q.To != 0 && q.From >= q.To {
		return ep, attempts.Page{}, err
	}
	page, err := d.View.List(ctx, q)
	return ep, page, err
}

// Deliveries lists what became of deliveries for a dialect that tells of it in its
// own words.
func (d *Deliveries) Deliveries(ctx context.Context, p *key.Principal, id, cursor string, limit int) ([]dialect.Delivery, string, error) {
	if d.View == nil {
		return nil, "", unlisted
	}
	asked := map[string]string{"cursor": cursor, "limit": strconv.Itoa(limit)}
	ep, page, err := d.page(ctx, p, id, func(name string) string { return asked[name] })
	if err != nil {
		return nil, "", d.refusal(err)
	}
	list, usedUp := make([]dialect.Delivery, len(page.Rows)), d.usedUp(ep.Org)
	for i := range page.Rows {
		if list[i], err = d.told(ctx, &page.Rows[i], ep, usedUp); err != nil {
			return nil, "", d.refusal(err)
		}
	}
	return list, formatDeliveryPlace(&page.Next), nil
}

// Recent lists what became of deliveries of several endpoints, the newest events first.
func (d *Deliveries) Recent(ctx context.Context, p *key.Principal, ids []string, offset, limit int) ([]dialect.Delivery, int, error) {
	if d.View == nil {
		return nil, 0, unlisted
	}
	endpoints, usedUp := make(map[string]*endpoint.Endpoint, len(ids)), d.usedUp(p.Org)
	for _, id := range ids {
		ep, err := d.Endpoint(ctx, p, id)
		if err != nil {
			return nil, 0, err
		}
		endpoints[id] = ep
	}
	oldest, err := d.Past[p.Environment].Oldest(ctx)
	if err != nil {
		return nil, 0, d.refusal(err)
	}
	rows, total, err := d.View.Recent(ctx, ids, oldest, offset, limit)
	if err != nil {
		return nil, 0, d.refusal(err)
	}
	list := make([]dialect.Delivery, len(rows))
	for i := range rows {
		if list[i], err = d.told(ctx, &rows[i], endpoints[rows[i].Endpoint], usedUp); err != nil {
			return nil, 0, d.refusal(err)
		}
	}
	return list, total, nil
}

// told says what is known of a delivery, and of its newest attempt.
func (d *Deliveries) told(ctx context.Context, row *attempts.Row, ep *endpoint.Endpoint, usedUp string) (dialect.Delivery, error) {
	t := dialect.Delivery{
		ID: row.Delivery, Endpoint: row.Endpoint, EventID: row.EventID, EventType: row.Type, At: row.Created, Attempts: row.Number,
		Status: statusOf(row, ep), HTTPStatus: row.HTTP, Waits: d.waits(row, ep, usedUp),
	}
	if len(row.Attempts) == 0 {
		return t, nil
	}
	newest := *row
	newest.Attempts = row.Attempts[len(row.Attempts)-1:]
	made, err := d.View.Attempts(ctx, &newest)
	if err != nil || len(made) == 0 {
		return t, err
	}
	o := &made[0].Outcome
	t.At, t.Took = o.Started, o.Took
	if !o.OK() {
		t.Failure = cmp.Or(o.Detail, o.Name())
	}
	return t, nil
}

// One answers with a delivery and its attempts.
func (d *Deliveries) One(ctx context.Context, p *key.Principal, id, deliveryID string) ([]byte, error) {
	ep, row, err := d.find(ctx, p, id, deliveryID)
	if err != nil {
		return nil, err
	}
	made, err := d.View.Attempts(ctx, row)
	if err != nil {
		return nil, err
	}
	dst := append(appendRow(nil, row, ep, d.waits(row, ep, d.usedUp(ep.Org))), `,"history":[`...)
	for i, a := range made {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendAttempt(dst, a)
	}
	return append(dst, "]}"...), nil
}

func (d *Deliveries) find(ctx context.Context, p *key.Principal, id, deliveryID string) (*endpoint.Endpoint, *attempts.Row, error) {
	ep, err := d.Endpoint(ctx, p, id)
	if err != nil {
		return nil, nil, err
	}
	if !event.ValidID(deliveryID) {
		return nil, nil, dialect.ErrNothing
	}
	row, err := d.View.Find(ctx, ep.ID, deliveryID)
	if err != nil {
		return nil, nil, err
	}
	oldest, err := d.Past[ep.Environment].Oldest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if row == nil || row.Event < oldest {
		return nil, nil, dialect.ErrNothing
	}
	return ep, row, nil
}

// Retry appends one more attempt of a delivery, past its schedule: what comes of it
// counts, and if it fails all is as it was.
func (d *Deliveries) Retry(ctx context.Context, p *key.Principal, id, deliveryID string) ([]byte, error) {
	ep, row, err := d.find(ctx, p, id, deliveryID)
	if err != nil {
		return nil, err
	}
	conflict := func(message string) error {
		return &dialect.Error{Status: 409, Code: dialect.Conflict, Message: message}
	}
	held := d.waits(row, ep, d.usedUp(ep.Org))
	switch {
	case row.Test:
		return nil, conflict("this was a test, whose event isn't kept: send another with POST …/test")
	case ep.Status == endpoint.Paused:
		return nil, conflict(`the endpoint is paused: send PATCH {"status":"active"} first`)
	case ep.Status != endpoint.Active:
		return nil, conflict("the endpoint is disabled: enable it with POST …/enable, and what it is owed is delivered")
	case held != "":
		return nil, conflict(held)
	case row.Step.Status() == attempts.Pending:
		return nil, conflict("its first attempt is yet to be made")
	}
	records, err := d.Log.Read(ctx, eventlog.Partition{Topic: ep.Environment.Topic()}, row.Event, 1)
	if errors.Is(err, eventlog.ErrTooOld) || errors.Is(err, eventlog.ErrPastEnd) || err == nil && (len(records) == 0 || records[0].Offset != row.Event) {
		return nil, conflict("its event isn't kept any more")
	}
	if err != nil {
		return nil, err
	}
	ev := &event.Event{ID: row.EventID, Type: row.Type, Environment: ep.Environment, Offset: row.Event}
	again := delivery.NewByHand(row.Delivery, ep.ID, ev, row.Number, d.control.Applied())
	record := eventlog.Record{
		Partition: eventlog.Partition{Topic: delivery.Tier(0), Number: delivery.Lane(ep.ID)},
		Key:       []byte(ep.ID),
		Value:     again.AppendRecord(nil),
	}
	if _, err := d.log.Append(ctx, []eventlog.Record{record}); err != nil {
		return nil, unavailable
	}
	dst := append([]byte(`{"deliveryId":`), dialect.AppendString(nil, row.Delivery)...)
	dst = append(dst, `,"attempt":`...)
	return append(strconv.AppendInt(dst, int64(row.Number)+1, 10), '}'), nil
}

// Of answers with what became of an event, for the org that published it: whose
// endpoints got it, and whether, and nothing else of those who own them.
func (d *Deliveries) Of(ctx context.Context, p *key.Principal, id string, query func(string) string) ([]byte, error) {
	limit, err := readLimit(query("limit"))
	if err != nil {
		return nil, err
	}
	if after := query("cursor"); after != "" && !event.ValidID(after) {
		return nil, badPlace
	}
	var ev *event.Event
	if event.ValidID(id) {
		if ev, err = d.Past[p.Environment].Find(ctx, id, p.Org); err != nil {
			return nil, err
		}
	}
	if ev == nil || ev.Org != p.Org {
		return nil, &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "you published no such event in the last seven days"}
	}
	rows, err := d.View.Of(ctx, p.Environment, ev.Offset, query("cursor"), limit+1)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].Delivery
	}
	dst, first := []byte(`{"data":[`), true
	for i := range rows {
		ep := d.control.Endpoint(rows[i].Endpoint)
		if ep == nil || rows[i].Test {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"endpointId":`...)
		dst = dialect.AppendString(dst, ep.ID)
		dst = append(dst, `,"status":`...)
		dst = append(dialect.AppendString(dst, string(statusOf(&rows[i], ep))), '}')
	}
	return append(dialect.AppendNext(append(dst, ']'), next), '}'), nil
}

// query reads what a list is asked for.
func (d *Deliveries) query(ctx context.Context, ep *endpoint.Endpoint, query func(string) string) (q attempts.Query, err error) {
	q.Endpoint = ep.ID
	if q.Limit, err = readLimit(query("limit")); err != nil {
		return q, err
	}
	if q.Before, err = parseDeliveryPlace(query("cursor")); err != nil {
		return q, err
	}
	past := d.Past[ep.Environment]
	from, err := readTime("from", query("from"), 0)
	if err != nil {
		return q, err
	}
	to, err := readTime("to", query("to"), 24*time.Hour) // a bare date means the whole day
	if err != nil {
		return q, err
	}
	if !from.IsZero() && !to.IsZero() && from.After(to) {
		return q, wrong("from", "is later than to")
	}
	if q.From, err = past.At(ctx, from); err != nil {
		return q, err
	}
	if !to.IsZero() {
		if q.To, err = past.At(ctx, to); err != nil {
			return q, err
		}
		if to.After(time.Now()) {
			q.To++ // a test of now stands where the next event will
		} else if q.To == 0 {
			q.From = 1 // nothing is that old
			q.To = 1
		}
	}
	return q, d.ofStatus(&q, ep, query("status"))
}

// ofStatus has the query ask for a status.
func (d *Deliveries) ofStatus(q *attempts.Query, ep *endpoint.Endpoint, status string) error {
	if status == "" {
		return nil
	}
	if status == string(dialect.Cancelled) {
		q.Statuses = unsettled
		q.To = cut(q.To, ep.Skip)
		if ep.Skip == 0 {
			q.From, q.To = 1, 1
		}
		return nil
	}
	for s, name := range statusNames {
		if string(name) == status {
			q.Statuses = []attempts.Status{s}
			if slices.Contains(unsettled, s) {
				q.From = max(q.From, ep.Skip)
			}
			return nil
		}
	}
	return wrong("status", "must be pending, retrying, held, delivered, dead, cancelled or failed")
}

// cut gives the lower of two ends; 0 is none.
func cut(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

func readLimit(s string) (int, error) {
	if s == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxDeliveries {
		return 0, wrong("limit", fmt.Sprintf("must be a number from 1 to %d", maxDeliveries))
	}
	return n, nil
}

// A place in a list of deliveries is opaque to clients: a version, the offset of
// the event and the delivery's id, in base64url.
const deliveryPlaceVersion = 2

var unlisted = &dialect.Error{Status: 503, Code: dialect.Unavailable,
	Message: "this server keeps no list of deliveries: its operator gives it --attempts-db, or a --data that it can write"}

var badPlace = &dialect.Error{Status: 400, Code: dialect.InvalidCursor, Message: "cursor isn't one that this list gave: leave it out to begin anew"}

func formatDeliveryPlace(k *attempts.Key) string {
	if *k == (attempts.Key{}) {
		return ""
	}
	raw := binary.BigEndian.AppendUint64([]byte{deliveryPlaceVersion}, uint64(k.Event))
	return base64.RawURLEncoding.EncodeToString(append(raw, k.Delivery...))
}

func parseDeliveryPlace(s string) (k attempts.Key, err error) {
	if s == "" {
		return k, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 10 || len(raw) > 128 || raw[0] != deliveryPlaceVersion || raw[1] >= 0x80 || !event.ValidID(string(raw[9:])) {
		return k, badPlace
	}
	return attempts.Key{Event: int64(binary.BigEndian.Uint64(raw[1:])), Delivery: string(raw[9:])}, nil
}

// refusal says for the client why deliveries can't be shown.
func (d *Deliveries) refusal(err error) error {
	var e *dialect.Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, attempts.ErrUnready):
		return &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "the list of deliveries is being made anew from the log: try again", RetryAfter: 5}
	}
	if d.Logger != nil {
		d.Logger.Warn("deliveries not shown", "error", err)
	}
	return unavailable
}
