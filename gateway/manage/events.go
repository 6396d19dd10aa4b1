package manage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/replay"
)

// Events serves what an org may see of the past: GET /v1/events, oldest first
// and a page at a time, and GET /v1/events/{id}.
type Events struct {
	Past map[event.Environment]*replay.Reader
	// Append adds an event as it goes out on the stream of the dialect whose path
	// this is.
	Append func(dst []byte, ev *event.Event, cursor event.Cursor) []byte
	Logger *slog.Logger // nil: the default one
}

// The bounds of a page, and of the time that a call takes.
const (
	defaultPage  = 50
	maxPage      = 1000
	pageBytes    = 8 << 20 // of data
	readWithin   = 10 * time.Second
	lookForFirst = 2 * time.Second // for a page that isn't empty
)

// Routes gives the calls.
func (e *Events) Routes() []web.Route {
	return []web.Route{
		{Method: "GET", Path: "/v1/events", Scope: key.Subscribe, Serve: func(c *web.Call) error {
			if err := c.OnlyQuery("types", "from", "to", "limit", "cursor"); err != nil {
				return err
			}
			body, err := e.List(c.Context(), c.Principal, c.Query)
			if err == nil {
				c.JSON(200, body)
			}
			return err
		}},
		{Method: "GET", Path: "/v1/events/{id}", Scope: key.Subscribe, Serve: func(c *web.Call) error {
			body, err := e.One(c.Context(), c.Principal, c.Param("id"))
			if err == nil {
				c.JSON(200, body)
			}
			return err
		}},
	}
}

// List answers GET /v1/events: {"data":[…],"nextCursor":"…","hasMore":…}.
// nextCursor is always there, to go on from or to poll.
func (e *Events) List(ctx context.Context, p *key.Principal, query func(name string) string) ([]byte, error) {
	q := dialect.EventQuery{From: query("from"), To: query("to"), Limit: query("limit"), Cursor: query("cursor")}
	var wrong *dialect.Error
	if q.Types, wrong = dialect.Types("types", query("types")); wrong != nil {
		return nil, wrong
	}
	page, err := e.EventsPage(ctx, p, q)
	if err != nil {
		return nil, err
	}
	past := e.Past[p.Environment]
	dst := append(make([]byte, 0, 4<<10), `{"data":[`...)
	for i, ev := range page.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.Append(dst, ev, past.Cursor(ev.Offset+1))
	}
	dst = append(append(dst, `],"nextCursor":"`...), page.Next...)
	dst = append(dst, `","hasMore":`...)
	dst = strconv.AppendBool(dst, page.More)
	return append(dst, '}'), nil
}

// EventsPage reads a page of what the caller may see.
func (e *Events) EventsPage(ctx context.Context, p *key.Principal, asked dialect.EventQuery) (dialect.EventPage, error) {
	q, err := readQuery(asked)
	if err != nil {
		return dialect.EventPage{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	past := e.Past[p.Environment]
	page, err := q.page(ctx, past, p.Org)
	if errors.Is(err, replay.ErrCursorExpired) && asked.Cursor == "" {
		// The oldest that was shown when the span was looked up isn't any more.
		page, err = q.page(ctx, past, p.Org)
	}
	if err != nil {
		return dialect.EventPage{}, e.refusal(err)
	}
	return dialect.EventPage{Events: page.Events, Next: past.Cursor(page.Next).String(), More: page.More}, nil
}

// One answers GET /v1/events/{id}. What the org may not see doesn't exist.
func (e *Events) One(ctx context.Context, p *key.Principal, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	past := e.Past[p.Environment]
	var ev *event.Event
	if event.ValidID(id) {
		var err error
		if ev, err = past.Find(ctx, id, p.Org); err != nil {
			return nil, e.refusal(err)
		}
	}
	if ev == nil {
		return nil, &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "there is no such event in the last seven days"}
	}
	return e.Append(nil, ev, past.Cursor(ev.Offset+1)), nil
}

// eventQuery is what is asked for, read.
type eventQuery struct {
	dialect.EventQuery
	from, to time.Time // when the log took them; zero: no bound. to itself is outside
	limit    int
}

func readQuery(asked dialect.EventQuery) (q eventQuery, err error) {
	q.EventQuery = asked
	if q.from, err = readTime("from", asked.From, 0); err != nil {
		return q, err
	}
	// A bare date means the whole day.
	if q.to, err = readTime("to", asked.To, 24*time.Hour); err != nil {
		return q, err
	}
	from := q.from
	if len(asked.To) == len(time.DateOnly) {
		from = from.Add(1) // the end of a day is the first moment that is later than it
	}
	if !q.from.IsZero() && !q.to.IsZero() && from.After(q.to) {
		return q, wrong("from", "is later than to")
	}
	q.limit = defaultPage
	if asked.Limit != "" {
		if q.limit, err = strconv.Atoi(asked.Limit); err != nil || q.limit < 1 || q.limit > maxPage {
			return q, wrong("limit", fmt.Sprintf("must be a number from 1 to %d", maxPage))
		}
	}
	return q, nil
}

// readTime reads RFC 3339, or a date in UTC, to which day is added.
func readTime(name, s string, day time.Duration) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.Add(day), nil
	}
	// A plus that wasn't escaped arrives as a blank.
	if err := t.UnmarshalText([]byte(strings.ReplaceAll(s, " ", "+"))); err != nil {
		return t, wrong(name, `must be a time or a date, as in "2026-11-22T03:10:00Z" or "2026-11-22"`)
	}
	return t, nil
}

// page reads what the query asks for and the org may see.
func (q *eventQuery) page(ctx context.Context, past *replay.Reader, org string) (replay.Page, error) {
	from, to, err := q.span(ctx, past)
	if err != nil {
		return replay.Page{}, err
	}
	match := func(ev *event.Event) bool {
		return ev.Audience.Includes(org) && (q.Types == nil || q.Types.Match(ev.Type)) && (q.Match == nil || q.Match(ev))
	}
	most := replay.Most{Events: q.limit, Data: pageBytes}
	page, err := past.Forward(ctx, from, to, most, match)
	for begun := time.Now(); err == nil && page.More && len(page.Events) == 0 && time.Since(begun) < lookForFirst; {
		page, err = past.Forward(ctx, page.Next, to, most, match)
	}
	return page, err
}

// span gives the offsets that the query is about.
func (q *eventQuery) span(ctx context.Context, past *replay.Reader) (from, to int64, err error) {
	if to, err = past.End(ctx); err != nil {
		return 0, 0, err
	}
	if !q.to.IsZero() {
		at, err := past.At(ctx, q.to)
		if err != nil {
			return 0, 0, err
		}
		to = min(to, at)
	}
	if from, err = past.At(ctx, q.from); err != nil { // the zero time: the oldest that is shown
		return 0, 0, err
	}
	if q.Cursor != "" {
		place, err := past.Place(ctx, q.Cursor)
		if err != nil {
			return 0, 0, err
		}
		from = max(from, place)
	}
	return from, max(from, to), nil
}

// refusal says for the client why the past can't be read.
func (e *Events) refusal(err error) error {
	switch {
	case errors.Is(err, replay.ErrCursorExpired):
		return &dialect.Error{Status: 410, Code: dialect.CursorExpired,
			Message: "what followed this cursor is no longer kept: leave the cursor out to begin with the oldest"}
	case errors.Is(err, replay.ErrCursorInvalid):
		return &dialect.Error{Status: 400, Code: dialect.InvalidCursor,
			Message: "this is no cursor of this environment: send one that you got from here, as it was",
			Issues:  []dialect.Issue{{Path: []string{"cursor"}, Message: "is no cursor of this environment"}}}
	}
	log := e.Logger
	if log == nil {
		log = slog.Default()
	}
	log.Warn("events not read", "error", err)
	return &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "events can't be read now; try again", RetryAfter: 1}
}

// wrong is the error of a query's parameter.
func wrong(name, message string) error {
	return &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: name + " " + message,
		Issues: []dialect.Issue{{Path: []string{name}, Message: message}}}
}
