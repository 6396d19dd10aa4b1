package manage

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// Admin is the admin API: orgs and keys, for whoever has the admin token. It is
// served beside the metrics, never on the public address.
//
//	POST GET            /admin/v1/orgs
//	GET PATCH DELETE    /admin/v1/orgs/{org}
//	POST GET            /admin/v1/orgs/{org}/keys
//	DELETE              /admin/v1/orgs/{org}/keys/{id}
//	PUT DELETE          /admin/v1/orgs/{org}/providers/{provider}
//	GET                 /admin/v1/orgs/{org}/providers
//	GET                 /admin/v1/orgs/{org}/usage
//	POST                /admin/v1/lanes/{lane}/skip
//	POST                /admin/v1/backup        where the log can be copied
type Admin struct {
	control *control.Control
	token   [32]byte // its hash: comparing takes the same time for any length
	logger  *slog.Logger
	mux     *http.ServeMux
	calls   []string // the patterns that mux has
}

// NewAdmin makes the API; logger may be nil.
func NewAdmin(c *control.Control, token string, logger *slog.Logger) *Admin {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	a := &Admin{control: c, token: sha256.Sum256([]byte(token)), logger: logger, mux: http.NewServeMux()}
	for pattern, serve := range map[string]func(*http.Request) (int, any, error){
		"POST /admin/v1/orgs":                    a.createOrg,
		"GET /admin/v1/orgs":                     a.listOrgs,
		"GET /admin/v1/orgs/{org}":               a.showOrg,
		"PATCH /admin/v1/orgs/{org}":             a.patchOrg,
		"DELETE /admin/v1/orgs/{org}":            a.deleteOrg,
		"POST /admin/v1/orgs/{org}/keys":         a.createKey,
		"GET /admin/v1/orgs/{org}/keys":          a.listKeys,
		"DELETE /admin/v1/orgs/{org}/keys/{key}": a.revokeKey,
	} {
		a.handle(pattern, serve)
	}
	return a
}

// handle adds a call. It is called before the API is served.
func (a *Admin) handle(pattern string, serve func(*http.Request) (status int, body any, err error)) {
	a.calls = append(a.calls, pattern)
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		status, body, err := serve(r)
		a.answer(w, r, status, body, err)
	})
}

// Calls lists what is served, each as a method and a path.
func (a *Admin) Calls() []string { return slices.Clone(a.calls) }

// ServeBackup adds the call that has copy write a backup to a directory on this
// machine. It is called before the API is served.
func (a *Admin) ServeBackup(copy func(dir string) error) {
	a.handle("POST /admin/v1/backup", func(r *http.Request) (int, any, error) {
		var in struct {
			Dir string `json:"dir"`
		}
		err := json.UnmarshalRead(io.LimitReader(r.Body, 64<<10), &in, json.RejectUnknownMembers(true))
		if err != nil || !filepath.IsAbs(in.Dir) {
			err = &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: `send {"dir": "/an/absolute/path"}: a directory on this machine that isn't there yet`}
		} else if err = copy(in.Dir); err != nil {
			a.logger.Error("backup failed", "dir", in.Dir, "error", err)
			err = &dialect.Error{Status: 500, Code: dialect.Internal, Message: err.Error()}
		}
		return http.StatusNoContent, nil, err
	})
}

// ServeSkip adds the call by which an operator has a lane go on that has lost what
// it owes. It is called before the API is served.
func (a *Admin) ServeSkip(skip func(ctx context.Context, lane int32) error) {
	a.handle("POST /admin/v1/lanes/{lane}/skip", func(r *http.Request) (int, any, error) {
		lane, err := strconv.ParseUint(r.PathValue("lane"), 10, 31)
		if err != nil || lane >= delivery.Lanes {
			err = &dialect.Error{Status: 404, Code: dialect.NotFound, Message: fmt.Sprintf("no such lane: they have the numbers 0 to %d", delivery.Lanes-1)}
		} else if err = skip(r.Context(), int32(lane)); err != nil {
			a.logger.Error("lane wasn't told to skip", "lane", lane, "error", err)
			err = &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "the log didn't answer: try again", RetryAfter: 1}
		}
		return http.StatusNoContent, nil, err
	})
}

// ServeUsage adds the call that shows what an org used. It is called before the
// API is served.
func (a *Admin) ServeUsage(totals *usage.Totals) {
	a.handle("GET /admin/v1/orgs/{org}/usage", func(r *http.Request) (int, any, error) { return a.showUsage(r, totals) })
}

// ServeHTTP answers whoever has the token.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	hash := sha256.Sum256([]byte(strings.TrimSpace(given)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(hash[:], a.token[:]) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		a.answer(w, r, 0, nil, &dialect.Error{Status: 401, Code: dialect.Unauthorized,
			Message: "send the admin token as 'Authorization: Bearer …'; it is in admin.token in the data directory, or what SLUICE_ADMIN_TOKEN was set to"})
		return
	}
	// A browser on an operator's machine has no business here.
	if r.Header.Get("Origin") != "" {
		a.answer(w, r, 0, nil, &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "the admin API isn't for web pages"})
		return
	}
	if path.Clean(r.URL.Path) != r.URL.Path { // the mux would lead it elsewhere, with a web page
		a.answer(w, r, 0, nil, nothingThere)
		return
	}
	_, pattern := a.mux.Handler(r)
	if pattern == "" {
		a.unrouted(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	a.mux.ServeHTTP(w, r.WithContext(ctx))
}

var nothingThere = &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "there is nothing at this path"}

// unrouted answers in our shape what the mux would answer in its own: 404, or
// 405 with the methods that the path takes.
func (a *Admin) unrouted(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		a.answer(w, r, 0, nil, nothingThere)
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	a.answer(w, r, 0, nil, &dialect.Error{Status: 405, Code: dialect.NotAllowed, Message: "this path takes " + strings.Join(allow, ", ")})
}

func (a *Admin) answer(w http.ResponseWriter, r *http.Request, status int, body any, err error) {
	var out []byte
	if err == nil && body != nil {
		out, err = json.Marshal(body)
	}
	if err != nil {
		var e *dialect.Error
		if !errors.As(err, &e) {
			a.logger.Error("admin call failed", "method", r.Method, "path", r.URL.Path, "error", err)
			e = &dialect.Error{Status: 500, Code: dialect.Internal, Message: "something went wrong on our side"}
		}
		if e.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
		}
		status, out = e.Status, e.AppendJSON(nil)
	}
	if len(out) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(out)
	a.logger.Info("admin call", "method", r.Method, "path", r.URL.Path, "status", status)
}

// read decodes the body of a call.
func read(r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 64<<10))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &dialect.Error{Status: 413, Code: dialect.TooLarge, Message: "the request body is too large"}
		}
		return dialect.Invalid(dialect.Issue{Message: "the body can't be read"})
	}
	if e := dialect.DecodeStrict(body, v); e != nil {
		return e
	}
	return nil
}

type orgJSON struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Plan      control.Plan `json:"plan"`
	Email     string       `json:"email,omitzero"`
	CreatedAt string       `json:"createdAt"`
	UpdatedAt string       `json:"updatedAt"`
}

func showOrg(o *control.Org) orgJSON {
	return orgJSON{o.ID, o.Name, o.Plan, o.Email, stamp(o.CreatedAt), stamp(o.UpdatedAt)}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(event.TimestampLayout)
}

type list[T any] struct {
	Data []T `json:"data"`
}

var orgID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func (a *Admin) createOrg(r *http.Request) (int, any, error) {
	in := struct {
		ID    string       `json:"id"`
		Name  string       `json:"name"`
		Plan  control.Plan `json:"plan"`
		Email string       `json:"email"`
	}{Plan: control.Enterprise}
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	var issues []dialect.Issue
	if in.ID != "" && !orgID.MatchString(in.ID) {
		issues = append(issues, dialect.Issue{Path: []string{"id"}, Message: "must be 1 to 64 letters, digits, '_' and '-', the first no sign"})
	}
	issues = checkOrg(issues, &in.Name, &in.Plan, &in.Email)
	if err := invalid(issues); err != nil {
		return 0, nil, err
	}
	change, err := a.control.Do(r.Context(), &control.CreateOrg{ID: in.ID, Name: in.Name, Plan: in.Plan, Email: in.Email})
	if err != nil {
		return 0, nil, refusal(err)
	}
	return 201, showOrg(change.Org), nil
}

// checkOrg checks the members that aren't nil.
func checkOrg(issues []dialect.Issue, name *string, plan *control.Plan, email *string) []dialect.Issue {
	if name != nil && *name == "" {
		issues = append(issues, dialect.Issue{Path: []string{"name"}, Message: "is missing"})
	}
	if name != nil && len(*name) > 256 {
		issues = append(issues, dialect.Issue{Path: []string{"name"}, Message: "has more than 256 bytes"})
	}
	if plan != nil && !slices.Contains(control.Plans, *plan) {
		issues = append(issues, dialect.Issue{Path: []string{"plan"}, Message: "must be free, starter, pro or enterprise"})
	}
	if email != nil && *email != "" && !key.ValidEmail(*email) {
		issues = append(issues, dialect.Issue{Path: []string{"email"}, Message: "is no e-mail address"})
	}
	return issues
}

func (a *Admin) listOrgs(r *http.Request) (int, any, error) {
	if err := a.control.Fresh(r.Context()); err != nil {
		return 0, nil, refusal(err)
	}
	out := list[orgJSON]{Data: []orgJSON{}}
	for _, o := range a.control.Orgs() {
		out.Data = append(out.Data, showOrg(o))
	}
	return 200, out, nil
}

// org gives the org of the path, as new as the log.
func (a *Admin) org(r *http.Request) (*control.Org, error) {
	if err := a.control.Fresh(r.Context()); err != nil {
		return nil, refusal(err)
	}
	if o := a.control.Org(r.PathValue("org")); o != nil {
		return o, nil
	}
	return nil, dialect.ErrNothing
}

func (a *Admin) showOrg(r *http.Request) (int, any, error) {
	o, err := a.org(r)
	if err != nil {
		return 0, nil, err
	}
	return 200, showOrg(o), nil
}

func (a *Admin) patchOrg(r *http.Request) (int, any, error) {
	var in struct {
		Name  *string       `json:"name"`
		Plan  *control.Plan `json:"plan"`
		Email *string       `json:"email"`
	}
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	if err := invalid(checkOrg(nil, in.Name, in.Plan, in.Email)); err != nil {
		return 0, nil, err
	}
	change, err := a.control.Do(r.Context(), &control.UpdateOrg{Org: r.PathValue("org"), Name: in.Name, Plan: in.Plan, Email: in.Email})
	if err != nil {
		return 0, nil, refusal(err)
	}
	return 200, showOrg(change.Org), nil
}

func (a *Admin) deleteOrg(r *http.Request) (int, any, error) {
	if _, err := a.control.Do(r.Context(), &control.DeleteOrg{Org: r.PathValue("org")}); err != nil {
		return 0, nil, refusal(err)
	}
	return 204, nil, nil
}

type keyJSON struct {
	ID          string      `json:"id"`
	Key         string      `json:"key,omitzero"` // when it was made just now
	Name        string      `json:"name,omitzero"`
	Environment string      `json:"environment"`
	Scopes      []key.Scope `json:"scopes"`
	CreatedAt   string      `json:"createdAt"`
	ExpiresAt   string      `json:"expiresAt,omitzero"`
	Start       string      `json:"start,omitzero"`   // how it begins, where that was kept
	Network     string      `json:"network,omitzero"` // the one that it is for
}

func showKey(k *control.Key) keyJSON {
	return keyJSON{ID: k.ID, Name: k.Name, Environment: k.Environment.String(), Scopes: k.Scopes, CreatedAt: stamp(k.CreatedAt), ExpiresAt: stamp(k.ExpiresAt),
		Start: k.Start, Network: k.Network}
}

func (a *Admin) createKey(r *http.Request) (int, any, error) {
	var in struct {
		Environment string     `json:"environment"`
		Scopes      []string   `json:"scopes"`
		Name        string     `json:"name"`
		ExpiresAt   *time.Time `json:"expiresAt"`
	}
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	var issues []dialect.Issue
	env, ok := event.ParseEnvironment(in.Environment)
	if !ok {
		issues = append(issues, dialect.Issue{Path: []string{"environment"}, Message: "must be sandbox or live"})
	}
	scopes, err := key.ParseScopes(in.Scopes)
	if err != nil {
		issues = append(issues, dialect.Issue{Path: []string{"scopes"}, Message: err.Error()})
	}
	if len(in.Name) > maxKeyName {
		issues = append(issues, dialect.Issue{Path: []string{"name"}, Message: "has more than 256 bytes"})
	}
	var expires time.Time // zero: never
	if in.ExpiresAt != nil {
		// In UTC a year may be one more than it was written with, and have five digits.
		switch expires = in.ExpiresAt.UTC().Truncate(time.Millisecond); {
		case !expires.After(time.Now()):
			issues = append(issues, dialect.Issue{Path: []string{"expiresAt"}, Message: "is past"})
		case expires.Year() > 9999:
			issues = append(issues, dialect.Issue{Path: []string{"expiresAt"}, Message: "is later than the year 9999: leave it out for a key that never expires"})
		}
	}
	if err := invalid(issues); err != nil {
		return 0, nil, err
	}
	token := string(key.New(env))
	change, err := a.control.Do(r.Context(), &control.CreateKey{
		Org: r.PathValue("org"), Environment: env, Scopes: scopes, Name: in.Name,
		Hash: key.Hash(token), ExpiresAt: expires,
	})
	if err != nil {
		return 0, nil, refusal(err)
	}
	out := showKey(change.Key)
	out.Key = token
	return 201, out, nil
}

func (a *Admin) listKeys(r *http.Request) (int, any, error) {
	o, err := a.org(r)
	if err != nil {
		return 0, nil, err
	}
	out := list[keyJSON]{Data: []keyJSON{}}
	for _, k := range a.control.Keys(o.ID) {
		out.Data = append(out.Data, showKey(k))
	}
	return 200, out, nil
}

func (a *Admin) revokeKey(r *http.Request) (int, any, error) {
	if _, err := a.control.Do(r.Context(), &control.RevokeKey{Org: r.PathValue("org"), ID: r.PathValue("key")}); err != nil {
		return 0, nil, refusal(err)
	}
	return 204, nil, nil
}
