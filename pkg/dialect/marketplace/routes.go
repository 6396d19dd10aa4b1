package marketplace

import (
	"context"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/filter"
	"sluice/pkg/key"
)

var routes = []dialect.Route{
	{Method: "GET", Path: "/api/events", Scope: key.Subscribe, Params: []string{"limit", "cursor", "type", "status", "from", "to"}, Serve: list},
}

// list answers with {items,nextCursor}, oldest first; nextCursor is null once there is
// nothing more.
func list(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	types, wrong := dialect.Types("type", r.Query("type"))
	if wrong != nil {
		return nil, wrong
	}
	q := dialect.EventQuery{Types: types, From: r.Query("from"), To: r.Query("to"), Limit: r.Query("limit"), Cursor: r.Query("cursor")}
	if s := r.Query("status"); s != "" {
		status, err := withStatus(s)
		if err != nil {
			return nil, dialect.Invalid(dialect.Issue{Path: []string{"status"}, Message: "must be the text of a status, as in InProgress"})
		}
		q.Match = status.Match
	}
	page, err := core.EventsPage(ctx, &r.Principal, q)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"items":[`)
	for i, ev := range page.Events {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendItem(body, ev)
	}
	next := ""
	if page.More {
		next = page.Next
	}
	return &dialect.Response{Status: 200, Body: append(dialect.AppendNext(append(body, ']'), next), '}')}, nil
}

// withStatus is the condition that data, or the object in it, has that status.
func withStatus(status string) (*filter.Filter, error) {
	quoted := string(dialect.AppendString(nil, status))
	text, err := filter.Parse([]byte(`{"$or":[{"status":` + quoted + `},{"object.status":` + quoted + `}]}`))
	if err != nil {
		return nil, err
	}
	return filter.Of(text)
}

func appendItem(dst []byte, ev *event.Event) []byte {
	dst = dialect.AppendString(append(dst, `{"id":`...), ev.ID)
	dst = dialect.AppendMember(dst, "type", ev.Type)
	dst = dialect.AppendMember(dst, "timestamp", dialect.Timestamp(ev.Timestamp))
	return append(append(append(dst, `,"data":`...), ev.Data...), '}')
}
