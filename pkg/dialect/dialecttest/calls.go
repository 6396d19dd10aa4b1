package dialecttest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/dialect/openapi/openapitest"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/plan"
)

// calls makes each call of the file that begins with >; the next lines say what it
// asks of the core, and what it answers.
func calls(t *testing.T, d *dialect.Dialect, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("the calls that clients make must be in %s: %v", file, err)
	}
	var lines []string
	made := make(map[string]bool)
	doc := documentOf(t, d)
	for line := range strings.Lines(string(text)) {
		sent, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "> ")
		if !found {
			continue
		}
		core := &stub{t: t, name: d.Name}
		route, answer := call(t, d, core, doc, sent)
		made[route] = true
		lines = append(append(append(lines, "> "+sent), core.asked...), answer)
	}
	golden(t, file, lines)
	for _, r := range d.Routes {
		if !made[r.Method+" "+r.Path] {
			t.Errorf("%s has no call of %s %s", file, r.Method, r.Path)
		}
	}
}

// call gives the route that a line is of, and its answer.
func call(t *testing.T, d *dialect.Dialect, core dialect.Core, doc *openapitest.Document, line string) (route, answer string) {
	t.Helper()
	method, rest, _ := strings.Cut(line, " ")
	target, body, _ := strings.Cut(rest, " ")
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r, params := find(d, method, u.Path)
	if r == nil {
		t.Fatalf("no route takes %s", line)
	}
	resp, err := r.Serve(t.Context(), core, &dialect.Request{
		Principal: principal,
		Now:       made,
		Used:      12,
		Param:     func(name string) string { return params[name] },
		Query:     u.Query().Get,
		Body:      []byte(body),
	})
	var refused *dialect.Error
	switch {
	case errors.As(err, &refused):
		resp = &dialect.Response{Status: refused.Status}
		if d.AppendError != nil {
			resp.Body = d.AppendError(nil, refused)
		} else {
			resp.Body = refused.AppendJSON(nil)
		}
	case err != nil:
		t.Fatalf("%s: %v", line, err)
	}
	hold(t, doc.Operation(r.Method, r.Path), line, u.Query(), body, resp)
	if resp.Body != nil && !jsontext.Value(resp.Body).IsValid() {
		t.Errorf("%s is answered with what isn't JSON: %s", line, resp.Body)
	}
	answer = strings.TrimSpace(fmt.Sprintf("%d %s", resp.Status, resp.Body))
	if resp.Cookie != nil {
		answer += fmt.Sprintf("\nkeeps %q until %s", string(resp.Cookie.Token), resp.Cookie.ExpiresAt.Format(time.DateTime))
	}
	return r.Method + " " + r.Path, answer
}

// principal is who calls.
var principal = key.Principal{Org: "org_a", Environment: event.Sandbox, Scopes: key.Scopes}

// find does what the gateway's router does: what is written out goes first.
func find(d *dialect.Dialect, method, path string) (best *dialect.Route, params map[string]string) {
	for i := range d.Routes {
		r := &d.Routes[i]
		want, have := strings.Split(r.Path, "/"), strings.Split(path, "/")
		got := make(map[string]string)
		matches := r.Method == method && len(want) == len(have)
		for j := 0; matches && j < len(want); j++ {
			if name, found := strings.CutPrefix(want[j], "{"); found {
				got[strings.TrimSuffix(name, "}")] = have[j]
			} else {
				matches = want[j] == have[j]
			}
		}
		if matches && (best == nil || len(got) < len(params)) {
			best, params = r, got
		}
	}
	return best, params
}

// stub is a core that has one endpoint in each state, wh_active, wh_paused and
// wh_disabled, and wh_other, which is another dialect's; and writes down what it
// is asked.
type stub struct {
	t     *testing.T
	name  string
	asked []string
}

func (c *stub) ask(format string, args ...any) {
	c.asked = append(c.asked, "asks "+fmt.Sprintf(format, args...))
}

var made = time.Date(2026, 11, 22, 3, 4, 5, 678e6, time.UTC)

func (c *stub) endpoint(id string) (*endpoint.Endpoint, error) {
	ep := &endpoint.Endpoint{
		ID: id, Org: "org_a", Environment: event.Sandbox, Dialect: c.name, URL: `https://example.com/a?b="c"&d`, Secret: endpoint.Secret("never shown"),
		Patterns: patterns("settlement.*", "audit.recorded"), Status: endpoint.Active, CreatedAt: made, UpdatedAt: made.Add(time.Hour),
	}
	switch id {
	case "wh_active":
	case "wh_paused":
		ep.Status = endpoint.Paused
	case "wh_disabled":
		ep.Status, ep.Reason, ep.DisabledAt, ep.Missed = endpoint.Disabled, "it answered 410 Gone", made.Add(2*time.Hour), 3
	case "wh_other":
		ep.Dialect = "another"
	default:
		return nil, dialect.ErrNothing
	}
	return ep, nil
}

func patterns(texts ...string) (all event.Patterns) {
	for _, text := range texts {
		if p, err := event.ParsePattern(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func (c *stub) Plan(*key.Principal) plan.Plan { return plan.Starter }

// Usage has a month that is 85 % of the plan's quota and, before it, one that is more.
func (c *stub) Usage(context.Context, *key.Principal) (*dialect.Usage, error) {
	c.ask("usage")
	day := func(month time.Month, day int) time.Time { return time.Date(2026, month, day, 0, 0, 0, 0, time.UTC) }
	used := func(on time.Time, requests, deliveries int64) dialect.UsedIn {
		return dialect.UsedIn{Start: on, Requests: requests, Deliveries: deliveries}
	}
	return &dialect.Usage{
		Month: used(day(11, 1), 1234, 8500), Since: day(10, 14),
		Days: []dialect.UsedIn{used(day(10, 20), 7, 10_001), used(day(11, 1), 1000, 8000), used(day(11, 22), 234, 500)},
	}, nil
}

func (c *stub) CountEndpoints(_ *key.Principal, dialect string) (all, active int) {
	c.ask("count of %s", dialect)
	return 80, 23
}

func (c *stub) CreateEndpoint(_ context.Context, _ *key.Principal, spec dialect.EndpointSpec) (*endpoint.Endpoint, error) {
	text := fmt.Sprintf("create %s %s %v secret=%q", spec.Dialect, spec.URL, spec.Patterns, spec.Secret)
	ep, err := c.endpoint("wh_active")
	if spec.IDPrefix != "" {
		text += " id=" + spec.IDPrefix
	}
	if f := spec.Options.Filter; f != nil {
		text += " filter=" + *f
		ep.Options.Filter = *f
	}
	if spec.AtMost > 0 {
		text += fmt.Sprint(" at most ", spec.AtMost)
	}
	c.ask("%s", text)
	if strings.HasSuffix(spec.URL, "/one-too-many") {
		return nil, &dialect.Error{Status: 400, Code: dialect.PlanLimit, Message: "the plan allows no more"}
	}
	ep.URL, ep.Patterns, ep.Secret = spec.URL, patterns(spec.Patterns...), endpoint.Secret(spec.Secret)
	if spec.Secret == "" {
		ep.Secret = endpoint.Secret("whsec_bWFkZQ==")
	}
	return ep, err
}

func (c *stub) Endpoint(_ context.Context, _ *key.Principal, id string) (*endpoint.Endpoint, error) {
	return c.endpoint(id)
}

// Endpoints has a page of one, then all others.
func (c *stub) Endpoints(_ context.Context, _ *key.Principal, cursor string, limit int) (page []*endpoint.Endpoint, next string, err error) {
	c.ask("list %q %d", cursor, limit)
	ids := []string{"wh_active", "wh_other", "wh_disabled"}
	if cursor == "" {
		next = "second"
		ids = ids[:1]
	} else {
		ids = ids[1:]
	}
	for _, id := range ids {
		ep, _ := c.endpoint(id)
		page = append(page, ep)
	}
	return page, next, nil
}

func (c *stub) PatchEndpoint(_ context.Context, _ *key.Principal, id string, patch dialect.EndpointPatch) (*endpoint.Endpoint, error) {
	text := "patch " + id
	ep, err := c.endpoint(id)
	if patch.URL != nil {
		text += " url=" + *patch.URL
		ep.URL = *patch.URL
	}
	if patch.Patterns != nil {
		text += fmt.Sprintf(" events=%v", *patch.Patterns)
		ep.Patterns = patterns(*patch.Patterns...)
	}
	if patch.Status != nil {
		text += fmt.Sprintf(" status=%s", *patch.Status)
		ep.Status = *patch.Status
	}
	if f := patch.Options.Filter; f != nil {
		text += " filter=" + *f
		ep.Options.Filter = *f
	}
	c.ask("%s", text)
	return ep, err
}

func (c *stub) DeleteEndpoint(_ context.Context, _ *key.Principal, id string) error {
	c.ask("delete %s", id)
	_, err := c.endpoint(id)
	return err
}

func (c *stub) TestEndpoint(_ context.Context, _ *key.Principal, id, eventType string) (string, error) {
	c.ask("test %s %q", id, eventType)
	_, err := c.endpoint(id)
	return "dlv_00112233445566778899aabbccddeeff", err
}

func (c *stub) RotateSecret(_ context.Context, _ *key.Principal, id string, overlap int64) (*endpoint.Endpoint, error) {
	c.ask("rotate %s overlap=%d", id, overlap)
	ep, err := c.endpoint(id)
	if err == nil {
		ep.Secret = endpoint.Secret("whsec_cm90YXRlZA==")
	}
	return ep, err
}

func (c *stub) EnableEndpoint(_ context.Context, _ *key.Principal, id string, replay bool) (*endpoint.Endpoint, error) {
	c.ask("enable %s replay=%v", id, replay)
	ep, err := c.endpoint(id)
	if err == nil {
		ep.Status = endpoint.Active
	}
	return ep, err
}

// EventsPage has a page of the samples that match, then an empty one, the last.
func (c *stub) EventsPage(_ context.Context, _ *key.Principal, q dialect.EventQuery) (dialect.EventPage, error) {
	c.ask("events %v from=%q to=%q limit=%q cursor=%q", q.Types, q.From, q.To, q.Limit, q.Cursor)
	if q.Cursor != "" {
		return dialect.EventPage{Next: "third"}, nil
	}
	page := dialect.EventPage{Next: "second", More: true}
	for _, ev := range samples(c.t) {
		if q.Match == nil || q.Match(ev) {
			page.Events = append(page.Events, ev)
		}
	}
	return page, nil
}

func (c *stub) Deliveries(_ context.Context, _ *key.Principal, id, cursor string, limit int) ([]dialect.Delivery, string, error) {
	c.ask("deliveries %s %q %d", id, cursor, limit)
	if _, err := c.endpoint(id); err != nil {
		return nil, "", err
	}
	if cursor != "" {
		return nil, "", nil
	}
	return deliveries(id), "second", nil
}

func (c *stub) CreateKey(_ context.Context, _ *key.Principal, spec dialect.KeySpec) (*dialect.Key, error) {
	c.ask("create key of %s %s %v %q until %s network=%q", spec.Brand, spec.Environment, spec.Scopes, spec.Name, spec.ExpiresAt.Format(time.DateTime), spec.Network)
	token := key.Token(key.Prefix(spec.Brand, spec.Environment) + "abc0123")
	return &dialect.Key{ID: "key_made", Token: token, Start: string(token[:len(token)-4]), Name: spec.Name, Environment: spec.Environment,
		Network: spec.Network, CreatedAt: made, ExpiresAt: spec.ExpiresAt}, nil
}

func (c *stub) Keys(context.Context, *key.Principal) ([]dialect.Key, error) {
	c.ask("keys")
	return []dialect.Key{
		{ID: "key_a", Start: "sk_test_", Environment: event.Sandbox, CreatedAt: made},
		{ID: "key_b", Start: "acme_live_abc", Name: `"b"`, Environment: event.Live, Network: "testnet", CreatedAt: made, ExpiresAt: made.AddDate(1, 0, 0)},
	}, nil
}

func (c *stub) RevokeKey(_ context.Context, _ *key.Principal, id string) error {
	c.ask("revoke %s", id)
	if id != "key_a" {
		return dialect.ErrNothing
	}
	return nil
}

// Register knows one user already.
func (c *stub) Register(_ context.Context, r dialect.Registration) (*dialect.Account, error) {
	c.ask("register %s with %d bytes as %q of %q %q, a key of %s", r.Email, len(r.Password), r.Name, r.Org, r.Slug, r.Brand)
	switch {
	case r.Email == "taken@example.com":
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "taken"}
	case r.Org == "":
		var issues []dialect.Issue
		for _, member := range []string{"email", "password", "name", "org", "slug"} {
			issues = append(issues, dialect.Issue{Path: []string{member}, Message: "is wrong"})
		}
		return nil, dialect.Invalid(issues...)
	}
	k := dialect.Key{ID: "key_made", Token: key.Token(key.Prefix(r.Brand, event.Live) + "abc0123"), Start: key.Prefix(r.Brand, event.Live) + "abc", Name: "registration", Environment: event.Live, CreatedAt: made}
	return &dialect.Account{User: "usr_a", Email: r.Email, Name: r.Name, Org: "org_a", OrgName: r.Org, Slug: r.Slug, Key: &k}, nil
}

func (c *stub) Login(_ context.Context, from, email string, password key.Password) (*dialect.Session, error) {
	c.ask("login from %q of %s with %d bytes", from, email, len(password))
	if password == "wrong" {
		return nil, &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "wrong"}
	}
	return &dialect.Session{Account: dialect.Account{User: "usr_a", Email: email, Org: "org_a", OrgName: "A"}, Token: "session_live_abc0123", ExpiresAt: made.Add(12 * time.Hour)}, nil
}

func (c *stub) Logout(_ context.Context, p *key.Principal) error {
	c.ask("logout")
	return nil
}

// deliveries are one in each state that dialects tell apart.
func deliveries(id string) []dialect.Delivery {
	return []dialect.Delivery{
		{ID: "dlv_1", Endpoint: id, EventID: "evt_1", EventType: "order.filled", At: made, Attempts: 1, Status: dialect.Delivered, HTTPStatus: 200, Took: 142 * time.Millisecond},
		{ID: "dlv_2", Endpoint: id, EventID: "evt_2", EventType: "order.filled", At: made, Attempts: 3, Status: dialect.Retrying, HTTPStatus: 500, Took: 5 * time.Second, Failure: "Internal server error"},
		{ID: "dlv_3", Endpoint: id, EventID: "evt_3", EventType: "order.filled", At: made, Attempts: 2, Status: dialect.Dead, Took: 30 * time.Second, Failure: `timeout: "no answer" in 30s`},
		{ID: "dlv_4", Endpoint: id, EventID: "evt_4", EventType: "order.filled", At: made, Status: dialect.Pending},
		{ID: "dlv_5", Endpoint: id, EventID: "evt_5", EventType: "order.filled", At: made, Status: dialect.Held, Waits: "the month is used up"},
	}
}

func (c *stub) Recent(_ context.Context, _ *key.Principal, ids []string, offset, limit int) ([]dialect.Delivery, int, error) {
	c.ask("recent %v %d %d", ids, offset, limit)
	all := deliveries(ids[0])
	begin := min(offset, len(all))
	return all[begin:min(begin+limit, len(all))], len(all), nil
}
