package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
	"sluice/replay"
)

// eventsPast is a log with both environments, and the calls that read it.
type eventsPast struct {
	*Events
	t   *testing.T
	log eventlog.Log
}

func newEventsPast(t *testing.T) *eventsPast {
	var topics []eventlog.Topic
	for _, env := range event.Environments {
		topics = append(topics, eventlog.Topic{Name: env.Topic(), Partitions: 1, Retention: event.Kept})
	}
	e := &eventsPast{t: t, log: eventlogtest.Mem(t, topics...), Events: &Events{
		Past:   make(map[event.Environment]*replay.Reader),
		Logger: slog.New(slog.DiscardHandler),
		Append: func(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
			return fmt.Appendf(dst, `{"id":%q,"type":%q,"cursor":%q}`, ev.ID, ev.Type, cursor)
		},
	}}
	for _, env := range event.Environments {
		e.Past[env] = replay.New(replay.Config{Log: e.log, Environment: env, Incarnation: event.Incarnation{7}})
	}
	return e
}

func (e *eventsPast) publish(env event.Environment, id, typ, org string, orgs ...string) {
	e.t.Helper()
	ev := event.Event{Environment: env, ID: id, Type: typ, Org: org, Key: org, Data: []byte(`{}`), Timestamp: time.Now(), Audience: event.Audience{Orgs: orgs}}
	if len(orgs) == 0 {
		ev.Audience = event.Audience{All: true}
	}
	_, err := e.log.Append(e.t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: env.Topic()}, Value: ev.AppendRecord(nil)}})
	if err != nil {
		e.t.Fatal(err)
	}
}

type listAnswer struct {
	Data       []struct{ ID, Cursor string }
	NextCursor string
	HasMore    bool
}

func (l *listAnswer) ids() string {
	var out []string
	for _, d := range l.Data {
		out = append(out, d.ID)
	}
	return strings.Join(out, " ")
}

func (e *eventsPast) list(org string, env event.Environment, query string) (listAnswer, error) {
	e.t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		e.t.Fatal(err)
	}
	body, err := e.List(e.t.Context(), &key.Principal{Org: org, Environment: env}, values.Get)
	var answer listAnswer
	if err == nil {
		if err := json.Unmarshal(body, &answer); err != nil {
			e.t.Fatalf("%s: %v", body, err)
		}
	}
	return answer, err
}

func TestListEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins on 2000-01-01
		e := newEventsPast(t)
		e.publish(event.Sandbox, "e0", "rfq.created", "org_a")
		e.publish(event.Sandbox, "e1", "rfq.created", "org_a", "org_a")
		e.publish(event.Sandbox, "e2", "quote.received", "org_a", "org_b")
		e.publish(event.Live, "live", "rfq.created", "org_a")
		time.Sleep(24 * time.Hour)
		e.publish(event.Sandbox, "e3", "rfq.closed", "org_b")
		e.publish(event.Sandbox, "e4", "quote.received", "org_b", "org_a", "org_b")
		for _, c := range []struct{ org, query, want string }{
			{"org_a", "", "e0 e1 e3 e4"},
			{"org_b", "", "e0 e2 e3 e4"},
			{"org_c", "", "e0 e3"},
			{"org_a", "types=rfq.*", "e0 e1 e3"},
			{"org_a", "types=quote.received,%20rfq.closed", "e3 e4"},
			{"org_a", "types=nothing.*", ""},
			{"org_a", "to=2000-01-01", "e0 e1"},
			{"org_a", "from=2000-01-02", "e3 e4"},
			{"org_a", "from=2000-01-01&to=2000-01-02", "e0 e1 e3 e4"},
			{"org_a", "to=2000-01-01T00:00:00Z", ""},
			{"org_a", "from=2000-01-01T02:00:00+02:00&to=2000-01-01T01:00:00Z", "e0 e1"},
			{"org_a", "from=1990-01-01&to=1990-01-02", ""},
			{"org_a", "from=2010-01-01", ""},
		} {
			answer, err := e.list(c.org, event.Sandbox, c.query)
			if err != nil || answer.ids() != c.want || answer.HasMore || answer.NextCursor == "" {
				t.Errorf("%s, %s: %+v, %v; want %s", c.org, c.query, answer, err, c.want)
			}
		}
		if answer, err := e.list("org_b", event.Live, ""); err != nil || answer.ids() != "live" {
			t.Errorf("live: %+v, %v", answer, err)
		}
		if err := e.log.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestListEventsPages(t *testing.T) {
	e := newEventsPast(t)
	for i := range 25 {
		e.publish(event.Sandbox, fmt.Sprint("e", i), "a.b", "org_a")
		e.publish(event.Sandbox, fmt.Sprint("x", i), "a.b", "org_a", "org_b")
	}
	var got []string
	query, pages := "limit=4", 0
	for {
		answer, err := e.list("org_a", event.Sandbox, query)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, d := range answer.Data {
			got = append(got, d.ID)
		}
		query = "limit=4&cursor=" + answer.NextCursor
		if !answer.HasMore {
			break
		}
	}
	if len(got) != 25 || got[0] != "e0" || got[24] != "e24" || pages != 7 {
		t.Errorf("%d pages of %v", pages, got)
	}
	// The last cursor is one to poll from, and each event's own is too.
	if answer, err := e.list("org_a", event.Sandbox, query); err != nil || len(answer.Data) != 0 || answer.HasMore {
		t.Errorf("%+v, %v", answer, err)
	}
	e.publish(event.Sandbox, "new", "a.b", "org_a")
	answer, err := e.list("org_a", event.Sandbox, query)
	if err != nil || answer.ids() != "new" {
		t.Errorf("%+v, %v", answer, err)
	}
	if answer, err := e.list("org_a", event.Sandbox, "cursor="+answer.Data[0].Cursor); err != nil || len(answer.Data) != 0 {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestListEventsRefuses(t *testing.T) {
	e := newEventsPast(t)
	e.publish(event.Sandbox, "e0", "a.b", "org_a")
	foreign := event.Cursor{Incarnation: event.Incarnation{7}, Environment: event.Live}.String()
	past := event.Cursor{Incarnation: event.Incarnation{8}, Environment: event.Sandbox}.String()
	beyond := event.Cursor{Incarnation: event.Incarnation{7}, Environment: event.Sandbox, Next: 99}.String()
	for query, want := range map[string]struct {
		status int
		code   dialect.Code
	}{
		"limit=0":                              {400, dialect.BadRequest},
		"limit=-1":                             {400, dialect.BadRequest},
		"limit=1001":                           {400, dialect.BadRequest},
		"limit=1e9":                            {400, dialect.BadRequest},
		"limit=abc":                            {400, dialect.BadRequest},
		"types=A":                              {400, dialect.BadRequest},
		"types=a.b,,":                          {400, dialect.BadRequest},
		"types=" + strings.Repeat("a.b,", 101): {400, dialect.BadRequest},
		"from=yesterday":                       {400, dialect.BadRequest},
		"to=2026-13-01":                        {400, dialect.BadRequest},
		"from=2026-01-02&to=2026-01-01T00:00:00Z": {400, dialect.BadRequest},
		"from=2026-01-02&to=2026-01-01":           {400, dialect.BadRequest},
		"cursor=garbage":                          {400, dialect.InvalidCursor},
		"cursor=" + foreign:                       {400, dialect.InvalidCursor},
		"cursor=" + beyond:                        {400, dialect.InvalidCursor},
		"cursor=" + past:                          {410, dialect.CursorExpired},
	} {
		_, err := e.list("org_a", event.Sandbox, query)
		var refused *dialect.Error
		if !errors.As(err, &refused) || refused.Status != want.status || refused.Code != want.code {
			t.Errorf("%.60s: %v, want %d %s", query, err, want.status, want.code)
		}
	}
}

// aging is a log of one event, in which six seconds go by while it looks up
// where the query begins.
type aging struct {
	eventlog.Reader
	record  eventlog.Record
	lookups int
}

func (a *aging) Bounds(context.Context, eventlog.Partition) (start, end int64, err error) {
	return 0, 1, nil
}

func (a *aging) Read(context.Context, eventlog.Partition, int64, int) ([]eventlog.Record, error) {
	return []eventlog.Record{a.record}, nil
}

func (a *aging) OffsetAt(_ context.Context, _ eventlog.Partition, t time.Time) (int64, error) {
	if a.lookups++; a.lookups == 2 { // the first is of the oldest
		defer time.Sleep(6 * time.Second)
	}
	if t.After(a.record.Time) {
		return 1, nil
	}
	return 0, nil
}

func TestWhatExpiresMeanwhileIsNoExpiredCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := time.Now().Add(3*time.Second - event.Shown)
		e := Events{Append: func(dst []byte, _ *event.Event, _ event.Cursor) []byte { return dst }, Logger: slog.New(slog.DiscardHandler), Past: map[event.Environment]*replay.Reader{
			event.Sandbox: replay.New(replay.Config{Log: &aging{record: eventlog.Record{Time: logged}}, Environment: event.Sandbox}),
		}}
		query := url.Values{"from": {logged.Add(-time.Second).UTC().Format(time.RFC3339)}}
		body, err := e.List(t.Context(), &key.Principal{Org: "org_a", Environment: event.Sandbox}, query.Get)
		if err != nil || !strings.HasPrefix(string(body), `{"data":[],"nextCursor":"`) {
			t.Errorf("%s, %v", body, err)
		}
	})
}

func TestOneEvent(t *testing.T) {
	e := newEventsPast(t)
	e.publish(event.Sandbox, "mine", "a.b", "org_a", "org_a")
	e.publish(event.Sandbox, "both", "a.first", "org_a", "org_a", "org_b")
	e.publish(event.Sandbox, "both", "a.second", "org_b", "org_a", "org_b")
	for _, c := range []struct{ org, id, typ string }{
		{"org_a", "mine", "a.b"},
		{"org_b", "mine", ""},
		{"org_a", "both", "a.first"},
		{"org_b", "both", "a.second"},
		{"org_a", "nothing", ""},
		{"org_a", "", ""},
		{"org_a", "a/b\x00", ""},
		{"org_a", strings.Repeat("x", 10_000), ""},
	} {
		body, err := e.One(t.Context(), &key.Principal{Org: c.org, Environment: event.Sandbox}, c.id)
		var refused *dialect.Error
		switch {
		case c.typ == "":
			if !errors.As(err, &refused) || refused.Status != 404 {
				t.Errorf("%s for %s: %s, %v", c.id, c.org, body, err)
			}
		case err != nil || !strings.Contains(string(body), `"type":"`+c.typ+`"`):
			t.Errorf("%s for %s: %s, %v", c.id, c.org, body, err)
		}
	}
	if _, err := e.One(t.Context(), &key.Principal{Org: "org_a", Environment: event.Live}, "mine"); err == nil {
		t.Error("a live key saw a sandbox event")
	}
}
