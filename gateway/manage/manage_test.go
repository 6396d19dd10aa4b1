package manage_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/gateway/manage"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

type world struct {
	log     eventlog.Log
	control *control.Control
	core    *manage.Core
}

func openWorld(t *testing.T) *world {
	t.Helper()
	log := eventlogtest.Mem(t, control.Topic,
		eventlog.Topic{Name: event.Sandbox.Topic(), Partitions: 1}, eventlog.Topic{Name: event.Live.Topic(), Partitions: 1},
		eventlog.Topic{Name: delivery.Tier(0), Partitions: delivery.Lanes})
	w := &world{log: log}
	w.control = w.node(t)
	for _, org := range []string{"org_a", "org_b"} {
		if _, err := w.control.Do(t.Context(), &control.CreateOrg{ID: org, Name: org, Plan: control.Pro}); err != nil {
			t.Fatal(err)
		}
	}
	w.core = manage.NewCore(w.control, log, checkURL, dialects, nil)
	return w
}

// node opens another node's state on the same log.
func (w *world) node(t *testing.T) *control.Control {
	t.Helper()
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Open(t.Context(), control.Config{Log: w.log, Sealer: sealer, Lanes: delivery.Lanes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// dialects is one that signs with a header of its own.
var dialects = []*dialect.Dialect{{Name: "silent"}, {Name: "d", Webhook: &dialect.Webhook{
	AppendHeaders: func(dst []dialect.Header, _ *dialect.Attempt) []dialect.Header {
		return append(dst, dialect.Header{Name: "X-D-Signature"})
	},
}}}

func checkURL(url string) error {
	if !strings.HasPrefix(url, "https://") {
		return errors.New("the URL must begin with https://")
	}
	return nil
}

func principal(org string, env event.Environment) *key.Principal {
	return &key.Principal{Org: org, Environment: env, Scopes: key.Scopes}
}

var (
	owner     = principal("org_a", event.Sandbox)
	ownerLive = principal("org_a", event.Live)
	stranger  = principal("org_b", event.Sandbox)
)

func spec() dialect.EndpointSpec {
	return dialect.EndpointSpec{Dialect: "d", URL: "https://example.com/x", Patterns: []string{"rfq.*"}}
}

func wantError(t *testing.T, err error, status int, code dialect.Code) *dialect.Error {
	t.Helper()
	var e *dialect.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	return e
}

// A bound on endpoints of a dialect holds over both environments, until one is gone.
func TestPlanLimit(t *testing.T) {
	w := openWorld(t)
	if p := w.core.Plan(owner); p != control.Pro {
		t.Errorf("the plan is %s", p)
	}
	s := spec()
	s.AtMost, s.IDPrefix = 2, "sub_"
	first, err := w.core.CreateEndpoint(t.Context(), owner, s)
	if err != nil || !strings.HasPrefix(first.ID, "sub_") {
		t.Fatal(first, err)
	}
	if _, err := w.core.CreateEndpoint(t.Context(), ownerLive, s); err != nil {
		t.Fatal(err)
	}
	_, err = w.core.CreateEndpoint(t.Context(), owner, s)
	wantError(t, err, 400, dialect.PlanLimit)
	if _, err := w.core.CreateEndpoint(t.Context(), stranger, s); err != nil {
		t.Error("another org:", err)
	}
	if err := w.core.DeleteEndpoint(t.Context(), owner, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.core.CreateEndpoint(t.Context(), owner, s); err != nil {
		t.Error(err)
	}
}

func TestCreateChecksWhatItIsGiven(t *testing.T) {
	w := openWorld(t)
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("a.b%d", i))
		}
		return out
	}
	for _, c := range []struct {
		name string
		edit func(*dialect.EndpointSpec)
		path string // of the issue; empty: it is good
	}{
		{"good", func(*dialect.EndpointSpec) {}, ""},
		{"100 patterns", func(s *dialect.EndpointSpec) { s.Patterns = many(100) }, ""},
		{"a short secret", func(s *dialect.EndpointSpec) { s.Secret = "12345678" }, ""},
		{"a long secret", func(s *dialect.EndpointSpec) { s.Secret = strings.Repeat("~ ", 128) }, ""},
		{"a base64 secret", func(s *dialect.EndpointSpec) { s.Secret = "whsec_c2VjcmV0" }, ""},
		{"no URL", func(s *dialect.EndpointSpec) { s.URL = "" }, "url"},
		{"a bad URL", func(s *dialect.EndpointSpec) { s.URL = "ftp://example.com" }, "url"},
		{"no patterns", func(s *dialect.EndpointSpec) { s.Patterns = nil }, "events"},
		{"101 patterns", func(s *dialect.EndpointSpec) { s.Patterns = many(101) }, "events"},
		{"a bad pattern", func(s *dialect.EndpointSpec) { s.Patterns = []string{"a.b", "**"} }, "events.1"},
		{"an empty pattern", func(s *dialect.EndpointSpec) { s.Patterns = []string{""} }, "events.0"},
		{"a secret of 7", func(s *dialect.EndpointSpec) { s.Secret = "1234567" }, "secret"},
		{"a secret of 257", func(s *dialect.EndpointSpec) { s.Secret = strings.Repeat("x", 257) }, "secret"},
		{"a secret with a tab", func(s *dialect.EndpointSpec) { s.Secret = "1234\t5678" }, "secret"},
		{"a secret with a letter outside ASCII", func(s *dialect.EndpointSpec) { s.Secret = "1234é5678" }, "secret"},
		{"whsec_ without base64", func(s *dialect.EndpointSpec) { s.Secret = "whsec_not base64" }, "secret"},
		{"whsec_ without padding", func(s *dialect.EndpointSpec) { s.Secret = "whsec_c2VjcmV0cw" }, "secret"},
		{"whsec_ and nothing", func(s *dialect.EndpointSpec) { s.Secret = "whsec_" }, "secret"},
		{"a long description", func(s *dialect.EndpointSpec) { s.Description = strings.Repeat("x", 1025) }, "description"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec()
			c.edit(&s)
			ep, err := w.core.CreateEndpoint(t.Context(), owner, s)
			if c.path == "" {
				if err != nil || s.Secret != "" && string(ep.Secret) != s.Secret {
					t.Fatalf("%v, %v", ep, err)
				}
				return
			}
			e := wantError(t, err, 400, dialect.BadRequest)
			if len(e.Issues) != 1 || strings.Join(e.Issues[0].Path, ".") != c.path {
				t.Errorf("issues %v", e.Issues)
			}
			if s.Secret != "" && s.Secret != "whsec_" && strings.Contains(string(e.AppendJSON(nil)), s.Secret) {
				t.Errorf("repeats the secret: %v", e)
			}
		})
	}
	_, err := w.core.CreateEndpoint(t.Context(), owner, dialect.EndpointSpec{Secret: "x"})
	if e := wantError(t, err, 400, dialect.BadRequest); len(e.Issues) != 3 {
		t.Errorf("doesn't name all that is wrong: %v", e.Issues)
	}
}

func TestSecretsAreMade(t *testing.T) {
	w := openWorld(t)
	seen := map[string]bool{}
	for range 20 {
		ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
		if err != nil {
			t.Fatal(err)
		}
		text, ok := strings.CutPrefix(string(ep.Secret), "whsec_")
		b, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(b) != 32 || seen[text] {
			t.Errorf("made %q", string(ep.Secret))
		}
		seen[text] = true
	}
}

func TestWhatBelongsToOthersDoesNotExist(t *testing.T) {
	w := openWorld(t)
	ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	before := w.control.Applied()
	for name, p := range map[string]*key.Principal{"another org": stranger, "the other environment": ownerLive} {
		ctx, url, status := t.Context(), "https://example.com/y", endpoint.Paused
		_, err := w.core.Endpoint(ctx, p, ep.ID)
		wantError(t, err, 404, dialect.NotFound)
		_, err = w.core.PatchEndpoint(ctx, p, ep.ID, dialect.EndpointPatch{URL: &url, Status: &status})
		wantError(t, err, 404, dialect.NotFound)
		wantError(t, w.core.DeleteEndpoint(ctx, p, ep.ID), 404, dialect.NotFound)
		_, err = w.core.TestEndpoint(ctx, p, ep.ID, "")
		wantError(t, err, 404, dialect.NotFound)
		_, err = w.core.EnableEndpoint(ctx, p, ep.ID, true)
		wantError(t, err, 404, dialect.NotFound)
		if page, next, err := w.core.Endpoints(ctx, p, "", 10); len(page) != 0 || next != "" || err != nil {
			t.Errorf("%s lists %v", name, page)
		}
	}
	// The same words for what isn't there at all.
	_, theirs := w.core.Endpoint(t.Context(), stranger, ep.ID)
	_, nobodys := w.core.Endpoint(t.Context(), stranger, "wh_nothing")
	if theirs.Error() != nobodys.Error() {
		t.Errorf("%v, but %v", theirs, nobodys)
	}
	if w.control.Applied() != before {
		t.Error("something was written")
	}
}

func TestPatchEnableDelete(t *testing.T) {
	w := openWorld(t)
	ctx := t.Context()
	ep, err := w.core.CreateEndpoint(ctx, owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	patch := func(p dialect.EndpointPatch) (*endpoint.Endpoint, error) {
		return w.core.PatchEndpoint(ctx, owner, ep.ID, p)
	}
	bad, empty, none := "http://x", "", []string{}
	paused, active, disabled := endpoint.Paused, endpoint.Active, endpoint.Disabled
	for _, p := range []dialect.EndpointPatch{{URL: &bad}, {URL: &empty}, {Patterns: &none}, {Status: &disabled}} {
		_, err := patch(p)
		wantError(t, err, 400, dialect.BadRequest)
	}
	if got, err := patch(dialect.EndpointPatch{Status: &paused}); err != nil || got.Status != endpoint.Paused {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err := patch(dialect.EndpointPatch{Status: &active, Description: &empty}); err != nil || got.Status != endpoint.Active {
		t.Fatalf("%v, %v", got, err)
	}
	for _, cmd := range []control.Command{
		&control.DisableEndpoint{Endpoint: ep.ID, Epoch: 1, Reason: "dead"}, &control.AddMissed{Endpoint: ep.ID, Count: 4},
	} {
		if _, err := w.control.Do(ctx, cmd); err != nil {
			t.Fatal(err)
		}
	}
	_, err = patch(dialect.EndpointPatch{Status: &active})
	if e := wantError(t, err, 409, dialect.Conflict); !strings.Contains(e.Message, "/enable") {
		t.Errorf("doesn't say what to do: %v", e)
	}
	record := []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: []byte("x")}}
	for range 3 {
		if _, err := w.log.Append(ctx, record); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.core.EnableEndpoint(ctx, owner, ep.ID, false)
	if err != nil || got.Status != endpoint.Active || got.Missed != 4 || got.Skip != 3 || got.Epoch != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if now, _ := w.core.Endpoint(ctx, owner, ep.ID); now.Missed != 0 {
		t.Errorf("missed %d once it was told", now.Missed)
	}
	if got, err := w.core.EnableEndpoint(ctx, owner, ep.ID, true); err != nil || got.Skip != 3 || got.Epoch != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.core.DeleteEndpoint(ctx, owner, ep.ID); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.core.DeleteEndpoint(ctx, owner, ep.ID), 404, dialect.NotFound)
}

func TestTestDelivery(t *testing.T) {
	w := openWorld(t)
	ep, err := w.core.CreateEndpoint(t.Context(), ownerLive, spec())
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.core.TestEndpoint(t.Context(), ownerLive, ep.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.core.TestEndpoint(t.Context(), ownerLive, ep.ID, "")
	if err != nil || second == first {
		t.Fatalf("%q, %q, %v", first, second, err)
	}
	records, err := w.log.Read(t.Context(), eventlog.Partition{Topic: "tier.0s", Number: delivery.Lane(ep.ID)}, 0, 1<<20)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	d, err := delivery.DecodeDelivery(records[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	if d.ID != first || !d.Test || d.First || d.Endpoint != ep.ID || d.Event.Environment != event.Live || d.Event.Org != "org_a" ||
		d.Event.Type != manage.TestType || d.Control < ep.Control || !event.ValidType(d.Event.Type) || !event.ValidID(d.Event.ID) {
		t.Errorf("%+v", d)
	}
	data, members, err := event.Canonical(d.Event.Data)
	if err != nil || string(data) != string(d.Event.Data) || members != d.Event.Members {
		t.Errorf("data %s: %v, %v", d.Event.Data, members, err)
	}
}

func TestListsInPages(t *testing.T) {
	w := openWorld(t)
	var want, got []string
	for range 5 {
		ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, ep.ID)
	}
	cursor := ""
	for {
		page, next, err := w.core.Endpoints(t.Context(), owner, cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, ep := range page {
			got = append(got, ep.ID)
		}
		if cursor = next; next == "" {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"x", "AQAAAAAAAAA", "AgAAAAAAAAAB", "Af__________", "AQAAAAAAAAAB=", strings.Repeat("A", 1000)} {
		_, _, err := w.core.Endpoints(t.Context(), owner, bad, 2)
		wantError(t, err, 400, dialect.InvalidCursor)
	}
}

func TestAnotherNodesEndpointIsFound(t *testing.T) {
	w := openWorld(t)
	other := manage.NewCore(w.node(t), w.log, checkURL, dialects, nil)
	for range 20 {
		ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Endpoint(t.Context(), owner, ep.ID); err != nil {
			t.Fatalf("made a moment ago: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := other.CreateEndpoint(ctx, owner, spec())
	if e := wantError(t, err, 503, dialect.Unavailable); e.RetryAfter == 0 {
		t.Error("doesn't say when to try again")
	}
}

const token = "admin-token"

func admin(t *testing.T, a *manage.Admin, method, path, tok, body string) (int, string, http.Header) {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if tok != "" {
		req.Header.Set("Authorization", "Bearer "+tok)
	}
	rec := httptest.NewRecorder()
	a.ServeHTTP(rec, req)
	b, err := io.ReadAll(rec.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Code, string(b), rec.Result().Header
}

func TestAdmin(t *testing.T) {
	w := openWorld(t)
	a := manage.NewAdmin(w.control, token, nil)
	call := func(method, path, body string) (int, string) {
		status, out, _ := admin(t, a, method, path, token, body)
		return status, out
	}
	soon, past := time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "2020-01-01T00:00:00Z"
	for _, c := range []struct {
		method, path, body string
		status             int
		holds              string
	}{
		{"POST", "/admin/v1/orgs", `{"id":"org_x","name":"X","plan":"free","email":"x@example.com"}`, 201, `{"id":"org_x","name":"X","plan":"free","email":"x@example.com","createdAt":"20`},
		{"POST", "/admin/v1/orgs", `{"name":"Y"}`, 201, `"name":"Y","plan":"enterprise"`},
		{"POST", "/admin/v1/orgs", `{"id":"org_x","name":"X"}`, 409, `"conflict"`},
		{"POST", "/admin/v1/orgs", `{"id":"../x","name":"X"}`, 400, `"path":["id"]`},
		{"POST", "/admin/v1/orgs", `{}`, 400, `"path":["name"]`},
		{"POST", "/admin/v1/orgs", `{"name":"X","plan":"huge"}`, 400, `"path":["plan"]`},
		{"POST", "/admin/v1/orgs", `{"name":"X","email":"X <x@example.com>"}`, 400, `"path":["email"]`},
		{"POST", "/admin/v1/orgs", `{"name":"X","colour":"red"}`, 400, `"path":["colour"]`},
		{"POST", "/admin/v1/orgs", ``, 400, `must be a JSON object`},
		{"POST", "/admin/v1/orgs", `{"name":"` + strings.Repeat("x", 70_000) + `"}`, 413, `"too_large"`},
		{"GET", "/admin/v1/orgs", ``, 200, `{"data":[{"id":"org_a"`},
		{"GET", "/admin/v1/orgs/org_x", ``, 200, `"id":"org_x"`},
		{"GET", "/admin/v1/orgs/org_z", ``, 404, `"not_found"`},
		{"PATCH", "/admin/v1/orgs/org_x", `{"plan":"pro","email":""}`, 200, `{"id":"org_x","name":"X","plan":"pro","createdAt"`},
		{"PATCH", "/admin/v1/orgs/org_x", `{"id":"org_y"}`, 400, `"path":["id"]`},
		{"PATCH", "/admin/v1/orgs/org_x", `{"name":""}`, 400, `"path":["name"]`},
		{"PATCH", "/admin/v1/orgs/org_z", `{}`, 404, `"not_found"`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live","scopes":["manage","publish"],"name":"n","expiresAt":"` + soon + `"}`, 201, `"name":"n","environment":"live","scopes":["publish","manage"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"scopes":["publish"]}`, 400, `"path":["environment"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live"}`, 400, `"path":["scopes"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live","scopes":["admin"]}`, 400, `"path":["scopes"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live","scopes":["publish"],"expiresAt":"` + past + `"}`, 400, `"path":["expiresAt"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live","scopes":["publish"],"expiresAt":"0001-01-01T00:00:00Z"}`, 400, `"path":["expiresAt"]`},
		{"POST", "/admin/v1/orgs/org_x/keys", `{"environment":"live","scopes":["publish"],"expiresAt":"9999-12-31T23:59:59-01:00"}`, 400, `"path":["expiresAt"]`},
		{"POST", "/admin/v1/orgs/org_z/keys", `{"environment":"live","scopes":["publish"]}`, 404, `"not_found"`},
		{"GET", "/admin/v1/orgs/org_x/keys", ``, 200, `{"data":[{"id":"key_`},
		{"GET", "/admin/v1/orgs/org_z/keys", ``, 404, `"not_found"`},
		{"DELETE", "/admin/v1/orgs/org_x/keys/key_nothing", ``, 404, `"not_found"`},
		{"DELETE", "/admin/v1/orgs/org_x", ``, 204, ``},
		{"POST", "/admin/v1/orgs", `{"id":"org_x","name":"X"}`, 409, `or once did`},
		{"PUT", "/admin/v1/orgs", ``, 405, `"method_not_allowed"`},
		{"GET", "/admin/v1/nothing", ``, 404, `"not_found"`},
		{"GET", "/admin/v1/orgs/", ``, 404, `"not_found"`},
		{"GET", "/admin/v1/orgs//keys", ``, 404, `"not_found"`},
		{"GET", "/admin/v1/orgs/x/../org_a", ``, 404, `"not_found"`},
	} {
		status, out := call(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(out, c.holds) || (out != "" && !json.Valid([]byte(out))) {
			t.Errorf("%s %s %.60s: %d %s", c.method, c.path, c.body, status, out)
		}
	}
}

func TestAdminKeysWorkUntilRevoked(t *testing.T) {
	w := openWorld(t)
	a := manage.NewAdmin(w.control, token, nil)
	_, out, _ := admin(t, a, "POST", "/admin/v1/orgs/org_a/keys", token, `{"environment":"sandbox","scopes":["broadcast"]}`)
	var made struct{ ID, Key string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	p, err := w.control.Authenticate(t.Context(), made.Key)
	if err != nil || p.Org != "org_a" || p.KeyID != made.ID || p.Environment != event.Sandbox || !p.Can(key.Broadcast) || p.Can(key.Publish) {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, list, _ := admin(t, a, "GET", "/admin/v1/orgs/org_a/keys", token, ""); strings.Contains(list, made.Key) || !strings.Contains(list, made.ID) {
		t.Errorf("the list: %s", list)
	}
	if status, _, _ := admin(t, a, "DELETE", "/admin/v1/orgs/org_b/keys/"+made.ID, token, ""); status != 404 {
		t.Errorf("revoked as another org's: %d", status)
	}
	if status, _, _ := admin(t, a, "DELETE", "/admin/v1/orgs/org_a/keys/"+made.ID, token, ""); status != 204 {
		t.Errorf("revoke: %d", status)
	}
	if _, err := w.control.Authenticate(t.Context(), made.Key); !errors.Is(err, control.ErrUnauthorized) {
		t.Errorf("revoked: %v", err)
	}
}

func TestAdminToken(t *testing.T) {
	w := openWorld(t)
	a := manage.NewAdmin(w.control, token, nil)
	for _, tok := range []string{"", "x", token + "x", token[1:]} {
		status, out, h := admin(t, a, "GET", "/admin/v1/orgs", tok, "")
		if status != 401 || !strings.Contains(out, `"unauthorized"`) || h.Get("WWW-Authenticate") != "Bearer" || strings.Contains(out, "org_a") {
			t.Errorf("%q: %d %s", tok, status, out)
		}
	}
	req := httptest.NewRequest("GET", "/admin/v1/orgs", nil)
	req.Header.Set("Authorization", "bearer "+token)
	rec := httptest.NewRecorder()
	if a.ServeHTTP(rec, req); rec.Code != 200 {
		t.Errorf("the scheme in lower case: %d", rec.Code)
	}
	req.Header.Set("Origin", "https://evil.example")
	rec = httptest.NewRecorder()
	if a.ServeHTTP(rec, req); rec.Code != 403 {
		t.Errorf("from a web page: %d", rec.Code)
	}

	dir := t.TempDir()
	made, err := manage.LoadAdminToken(dir, "")
	if err != nil || len(made) < 26 {
		t.Fatalf("%q, %v", made, err)
	}
	info, err := os.Stat(filepath.Join(dir, manage.AdminTokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if again, err := manage.LoadAdminToken(dir, ""); again != made || err != nil {
		t.Errorf("%q, %v", again, err)
	}
	if given, err := manage.LoadAdminToken(dir, "given"); given != "given" || err != nil {
		t.Errorf("%q, %v", given, err)
	}
	if err := os.WriteFile(filepath.Join(dir, manage.AdminTokenFile), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if tok, err := manage.LoadAdminToken(dir, ""); err == nil {
		t.Errorf("took %q from an empty file", tok)
	}
}
