package tetrafi

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/plan"
)

// stubCore answers with one endpoint and writes down what it was asked.
type stubCore struct {
	dialect.Core // nil: what isn't below isn't asked for
	ep           endpoint.Endpoint
	err          error
	next         string
	asked        string
}

func (c *stubCore) ask(p *key.Principal, format string, args ...any) {
	c.asked = p.Org + " " + p.Environment.String() + " " + fmt.Sprintf(format, args...)
}

func (c *stubCore) Plan(*key.Principal) plan.Plan { return plan.Free }

func (c *stubCore) CreateEndpoint(_ context.Context, p *key.Principal, s dialect.EndpointSpec) (*endpoint.Endpoint, error) {
	c.ask(p, "create {Dialect:%s URL:%s Patterns:%v Secret:%s Description:%s}%s", s.Dialect, s.URL, s.Patterns, s.Secret, s.Description, said(s.Options))
	return &c.ep, c.err
}

func (c *stubCore) Endpoint(_ context.Context, p *key.Principal, id string) (*endpoint.Endpoint, error) {
	c.ask(p, "get %s", id)
	return &c.ep, c.err
}

func (c *stubCore) Endpoints(_ context.Context, p *key.Principal, cursor string, limit int) ([]*endpoint.Endpoint, string, error) {
	c.ask(p, "list %q %d", cursor, limit)
	if limit == 1 {
		return nil, "", c.err
	}
	return []*endpoint.Endpoint{&c.ep, &c.ep}, c.next, c.err
}

func (c *stubCore) PatchEndpoint(_ context.Context, p *key.Principal, id string, patch dialect.EndpointPatch) (*endpoint.Endpoint, error) {
	var b strings.Builder
	if patch.URL != nil {
		fmt.Fprintf(&b, " url=%s", *patch.URL)
	}
	if patch.Patterns != nil {
		fmt.Fprintf(&b, " events=%v", *patch.Patterns)
	}
	if patch.Description != nil {
		fmt.Fprintf(&b, " description=%s", *patch.Description)
	}
	if patch.Status != nil {
		fmt.Fprintf(&b, " status=%s", *patch.Status)
	}
	c.ask(p, "patch %s%s%s", id, b.String(), said(patch.Options))
	return &c.ep, c.err
}

// said is what a patch says of options.
func said(p endpoint.OptionsPatch) string {
	var b strings.Builder
	if p.Headers != nil {
		b.WriteString(" headers=")
		for _, h := range *p.Headers {
			fmt.Fprintf(&b, "[%s %s]", h.Name, h.Value)
		}
	}
	if p.ASCIIBody != nil {
		fmt.Fprintf(&b, " asciiBody=%v", *p.ASCIIBody)
	}
	if p.Ordered != nil {
		fmt.Fprintf(&b, " ordered=%v", *p.Ordered)
	}
	if p.MaxInFlight != nil {
		fmt.Fprintf(&b, " maxInFlight=%d", *p.MaxInFlight)
	}
	if p.RatePerSecond != nil {
		fmt.Fprintf(&b, " ratePerSecond=%v", *p.RatePerSecond)
	}
	if p.Filter != nil {
		fmt.Fprintf(&b, " filter=%s", *p.Filter)
	}
	return b.String()
}

func (c *stubCore) RotateSecret(_ context.Context, p *key.Principal, id string, overlap int64) (*endpoint.Endpoint, error) {
	c.ask(p, "rotate %s overlap=%d", id, overlap)
	return &c.ep, c.err
}

func (c *stubCore) DeleteEndpoint(_ context.Context, p *key.Principal, id string) error {
	c.ask(p, "delete %s", id)
	return c.err
}

func (c *stubCore) TestEndpoint(_ context.Context, p *key.Principal, id, eventType string) (string, error) {
	c.ask(p, "test %s%s", id, eventType)
	return "dlv_00112233445566778899aabbccddeeff", c.err
}

func (c *stubCore) Deliveries(_ context.Context, p *key.Principal, id, _ string, _ int) ([]dialect.Delivery, string, error) {
	c.ask(p, "deliveries %s", id)
	return nil, "", c.err
}

func (c *stubCore) Recent(_ context.Context, p *key.Principal, ids []string, _, _ int) ([]dialect.Delivery, int, error) {
	c.ask(p, "recent %v", ids)
	return nil, 0, c.err
}

func (c *stubCore) EventsPage(_ context.Context, p *key.Principal, _ dialect.EventQuery) (dialect.EventPage, error) {
	c.ask(p, "events")
	return dialect.EventPage{}, c.err
}

func (c *stubCore) EnableEndpoint(_ context.Context, p *key.Principal, id string, replay bool) (*endpoint.Endpoint, error) {
	c.ask(p, "enable %s replay=%v", id, replay)
	ep := c.ep
	ep.Status, ep.Missed = endpoint.Active, 12
	return &ep, c.err
}

func patterns(t *testing.T, texts ...string) (out event.Patterns) {
	t.Helper()
	for _, s := range texts {
		p, err := event.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestRoutes holds what each call asks of the core, and the bytes it answers.
// -update writes testdata/routes anew.
func TestRoutes(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 4, 5, 678e6, time.UTC)
	active := endpoint.Endpoint{
		ID: "wh_1", Org: "org_a", Environment: event.Sandbox, Dialect: "tetrafi", URL: "https://example.com/a?b=\"c\"&d",
		Patterns: patterns(t, "settlement.*", "audit.recorded"), Description: "line 1\nline 2 ✓", Secret: endpoint.Secret("whsec_c2VjcmV0"),
		Status: endpoint.Active, CreatedAt: at, UpdatedAt: at.Add(time.Hour),
	}
	disabled := active
	disabled.Status, disabled.Reason, disabled.DisabledAt = endpoint.Disabled, "5 failures in a row: HTTP 500", at.Add(2*time.Hour)
	rotated := active
	rotated.Previous = []endpoint.Retired{{Secret: endpoint.Secret("whsec_b2xk"), Until: at.Add(24 * time.Hour)}, {Secret: endpoint.Secret("x"), Until: at}}
	rotated.Options = endpoint.Options{ASCIIBody: true, Ordered: true, MaxInFlight: 4, RatePerSecond: 0.5, Filter: `{"a":"whsec"}`, Headers: []endpoint.Header{{Name: "Authorization", Value: "whsec_of a header"}, {Name: "X-B"}}}
	paused := active
	paused.Status = endpoint.Paused

	for _, c := range []struct {
		name, method, path string
		body               string
		query              map[string]string
		core               stubCore
		asked              string
		status             int
	}{
		{name: "create", method: "POST", path: "/v1/webhooks", status: 201, core: stubCore{ep: active},
			body:  `{"url":"https://example.com/","events":["settlement.*"],"secret":"12345678","description":"d"}`,
			asked: `create {Dialect:tetrafi URL:https://example.com/ Patterns:[settlement.*] Secret:12345678 Description:d}`},
		{name: "create-least", method: "POST", path: "/v1/webhooks", status: 201, core: stubCore{ep: active},
			body:  `{"url":"https://example.com/","events":["*"]}`,
			asked: `create {Dialect:tetrafi URL:https://example.com/ Patterns:[*] Secret: Description:}`},
		{name: "list", method: "GET", path: "/v1/webhooks", status: 200, core: stubCore{ep: paused}, asked: `list "" 50`},
		{name: "list-page", method: "GET", path: "/v1/webhooks", status: 200, core: stubCore{ep: active, next: "n"}, asked: `list "c" 2`,
			query: map[string]string{"cursor": "c", "limit": "2"}},
		{name: "list-empty", method: "GET", path: "/v1/webhooks", status: 200, asked: `list "" 1`, query: map[string]string{"limit": "1"}},
		{name: "get", method: "GET", path: "/v1/webhooks/{id}", status: 200, core: stubCore{ep: disabled}, asked: "get wh_1"},
		{name: "patch", method: "PATCH", path: "/v1/webhooks/{id}", status: 200, core: stubCore{ep: active},
			body: `{"url":"u","events":["a.b","c.*"],"description":"","status":"paused"}`, asked: "patch wh_1 url=u events=[a.b c.*] description= status=paused"},
		{name: "patch-nothing", method: "PATCH", path: "/v1/webhooks/{id}", status: 200, core: stubCore{ep: active}, body: `{}`, asked: "patch wh_1"},
		{name: "delete", method: "DELETE", path: "/v1/webhooks/{id}", status: 204, asked: "delete wh_1"},
		{name: "test", method: "POST", path: "/v1/webhooks/{id}/test", status: 202, asked: "test wh_1"},
		{name: "test-empty-object", method: "POST", path: "/v1/webhooks/{id}/test", status: 202, body: `{}`, asked: "test wh_1"},
		{name: "enable", method: "POST", path: "/v1/webhooks/{id}/enable", status: 200, core: stubCore{ep: disabled}, asked: "enable wh_1 replay=true"},
		{name: "enable-without-replay", method: "POST", path: "/v1/webhooks/{id}/enable", status: 200, core: stubCore{ep: disabled},
			body: `{"replay":"none"}`, asked: "enable wh_1 replay=false"},

		{name: "create-with-options", method: "POST", path: "/v1/webhooks", status: 201, core: stubCore{ep: active},
			body:  `{"url":"u","events":["*"],"headers":{"X-b":"1","A":""},"asciiBody":true,"filter":{"a" : 1}}`,
			asked: `create {Dialect:tetrafi URL:u Patterns:[*] Secret: Description:} headers=[X-b 1][A ] asciiBody=true filter={"a" : 1}`},
		{name: "patch-options", method: "PATCH", path: "/v1/webhooks/{id}", status: 200, core: stubCore{ep: rotated},
			body: `{"headers":{},"asciiBody":false,"ordered":true,"maxInFlight":4,"ratePerSecond":0.5}`, asked: "patch wh_1 headers= asciiBody=false ordered=true maxInFlight=4 ratePerSecond=0.5"},
		{name: "patch-options-null", method: "PATCH", path: "/v1/webhooks/{id}", status: 200, core: stubCore{ep: active},
			body:  `{"headers":null,"asciiBody":null,"filter":null,"ordered":null,"maxInFlight":null,"ratePerSecond":null}`,
			asked: "patch wh_1 headers= asciiBody=false ordered=false maxInFlight=0 ratePerSecond=0 filter="},
		{name: "patch-half-in-flight", method: "PATCH", path: "/v1/webhooks/{id}", status: 400, body: `{"maxInFlight":1.5}`},
		{name: "rotate", method: "POST", path: "/v1/webhooks/{id}/rotate-secret", status: 200, core: stubCore{ep: rotated}, asked: "rotate wh_1 overlap=86400"},
		{name: "rotate-at-once", method: "POST", path: "/v1/webhooks/{id}/rotate-secret", status: 200, core: stubCore{ep: active},
			body: `{"overlapSeconds":0}`, asked: "rotate wh_1 overlap=0"},

		{name: "rotate-wrong-kind", method: "POST", path: "/v1/webhooks/{id}/rotate-secret", status: 400, body: `{"overlapSeconds":1.5}`},
		{name: "patch-headers-list", method: "PATCH", path: "/v1/webhooks/{id}", status: 400, body: `{"headers":["X-A"]}`},
		{name: "patch-headers-twice", method: "PATCH", path: "/v1/webhooks/{id}", status: 400, body: `{"headers":{"X-A":"1","X-A":"2"}}`},
		{name: "patch-headers-number", method: "PATCH", path: "/v1/webhooks/{id}", status: 400, body: `{"headers":{"X-A":1}}`},
		{name: "create-unknown-member", method: "POST", path: "/v1/webhooks", status: 400, body: `{"url":"u","events":["*"],"filters":{}}`},
		{name: "create-empty-secret", method: "POST", path: "/v1/webhooks", status: 400, body: `{"url":"u","events":["*"],"secret":""}`},
		{name: "create-wrong-kind", method: "POST", path: "/v1/webhooks", status: 400, body: `{"url":"u","events":["*",{}]}`},
		{name: "create-no-body", method: "POST", path: "/v1/webhooks", status: 400},
		{name: "patch-secret", method: "PATCH", path: "/v1/webhooks/{id}", status: 400, body: `{"secret":"12345678"}`},
		{name: "enable-otherwise", method: "POST", path: "/v1/webhooks/{id}/enable", status: 400, body: `{"replay":"all"}`},
		{name: "test-with-member", method: "POST", path: "/v1/webhooks/{id}/test", status: 400, body: `{"type":"x"}`},
		{name: "list-limit", method: "GET", path: "/v1/webhooks", status: 400, query: map[string]string{"limit": "101"}},
		{name: "list-limit-text", method: "GET", path: "/v1/webhooks", status: 400, query: map[string]string{"limit": "many"}},
		{name: "not-found", method: "GET", path: "/v1/webhooks/{id}", status: 404, asked: "get wh_1",
			core: stubCore{err: &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "there is no such thing"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var serve func(context.Context, dialect.Core, *dialect.Request) (*dialect.Response, error)
			for _, r := range Dialect.Routes {
				if r.Method == c.method && r.Path == c.path {
					serve = r.Serve
					if r.Scope != key.Manage {
						t.Errorf("scope %q", r.Scope)
					}
				}
			}
			resp, err := serve(t.Context(), &c.core, &dialect.Request{
				Principal: key.Principal{Org: "org_a", Environment: event.Sandbox},
				Param:     func(n string) string { return map[string]string{"id": "wh_1"}[n] },
				Query:     func(n string) string { return c.query[n] },
				Body:      []byte(c.body),
			})
			var e *dialect.Error
			if errors.As(err, &e) {
				resp = &dialect.Response{Status: e.Status, Body: e.AppendJSON(nil)}
			} else if err != nil {
				t.Fatal(err)
			}
			if resp.Status != c.status {
				t.Errorf("status %d, want %d: %s", resp.Status, c.status, resp.Body)
			}
			if c.asked != "" {
				c.asked = "org_a sandbox " + c.asked
			}
			if c.core.asked != c.asked {
				t.Errorf("asked %q, want %q", c.core.asked, c.asked)
			}
			if resp.Body != nil && !jsontext.Value(resp.Body).IsValid() {
				t.Errorf("not JSON: %s", resp.Body)
			}
			if !strings.HasPrefix(c.name, "create") && !strings.HasPrefix(c.name, "rotate") && bytes.Contains(resp.Body, []byte("whsec_")) && c.status < 400 {
				t.Errorf("shows the secret: %s", resp.Body)
			}
			golden(t, filepath.Join("testdata", "routes", c.name+".json"), resp.Body)
		})
	}
}

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot  %s\nwant %s", path, got, want)
	}
}
