// Package accounts is how people come in: they register an org and log in to it. What it
// makes is control's: users, their orgs, and sessions, which are keys that a login makes.
//
//	/auth/register ─► check ─► hash ─────────────────────────► control: org, user, key
//	/auth/login ────► limits ─► user, or a decoy ─► verify ──► control: session
//	                    │                             │
//	                   429                     503: too many at once
//
//	accounts.go  Accounts: register, log in, log out
//	check.go     what a registration must be
//	password.go  what is kept of passwords
package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/usage"
)

// The bounds of logins on one process in a minute, whatever becomes of them. Who guesses
// at one account is stopped by the first; by the second who does from many addresses.
// The first is the only one that its owner meets, unless the second is used up on purpose.
const (
	perAccountAndAddress = 5
	perAccount           = 100
	mostWindows          = 200_000 // of each: some 30 MB
)

// SessionFor is how long a session lasts.
const SessionFor = 12 * time.Hour

// scopes are what a registered org's key, and its user's sessions, may do.
var scopes = []key.Scope{key.Publish, key.Subscribe, key.Manage}

// Config is what Accounts are made of.
type Config struct {
	Control    *control.Control
	Closed     bool                  // nobody may register
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics aren't shown
}

// Accounts registers people and lets them in. Its methods may be called from any number
// of goroutines.
type Accounts struct {
	cfg       Config
	passwords hasher
	decoy     string
	pairs     usage.Minutes // by account and address
	accounts  usage.Minutes
	logins    *prometheus.CounterVec
}

var _ dialect.Accounts = (*Accounts)(nil)

// How a login may end, for whoever counts.
const (
	letIn   = "in"
	wrong   = "wrong"   // no such user, or another password
	limited = "limited" // too many in this minute
	failed  = "failed"  // on our side: too many at once, or the log didn't answer
)

// New gives accounts of the control state.
func New(cfg Config) *Accounts {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Accounts{
		cfg: cfg, passwords: newHasher(), decoy: decoy(), pairs: usage.Minutes{Most: mostWindows}, accounts: usage.Minutes{Most: mostWindows},
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_logins_total", Help: "Logins by how they ended: in, wrong, limited, failed."}, []string{"outcome"}),
	}
	for _, outcome := range []string{letIn, wrong, limited, failed} {
		a.logins.WithLabelValues(outcome)
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(a.logins)
	}
	return a
}

// Register makes an org, its user and a key.
func (a *Accounts) Register(ctx context.Context, r dialect.Registration) (*dialect.Account, error) {
	if a.cfg.Closed {
		return nil, &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "nobody can register here: ask the operator for an org and a key"}
	}
	if issues := check(&r); len(issues) > 0 {
		return nil, dialect.Invalid(issues...)
	}
	hash, err := a.passwords.hash(ctx, r.Password)
	if err != nil {
		return nil, err
	}
	token := key.Branded(r.Brand, event.Live)
	cmd := &control.Register{
		Email: account(r.Email), Name: r.Name, Password: hash, Slug: r.Slug,
		Org: control.CreateOrg{Name: r.Org, Plan: control.Free, Email: r.Email},
		Key: control.CreateKey{Environment: event.Live, Scopes: scopes, Name: "registration", Hash: key.Hash(string(token)), Start: token.Start()},
	}
	change, err := a.cfg.Control.Do(ctx, cmd)
	switch {
	case errors.Is(err, control.ErrEmail):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "there is an account with this e-mail address: log in, or use another"}
	case errors.Is(err, control.ErrExists):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: "another organization has this slug: choose another, or leave it out"}
	case err != nil:
		return nil, a.unavailable("register", err)
	}
	a.cfg.Logger.Info("org registered", "org", cmd.Org.ID)
	return &dialect.Account{
		User: cmd.User, Email: cmd.Email, Name: cmd.Name, Org: cmd.Org.ID, OrgName: cmd.Org.Name, Slug: cmd.Slug,
		Key: &dialect.Key{ID: change.Key.ID, Token: token, Start: token.Start(), Name: change.Key.Name, Environment: event.Live, CreatedAt: change.Key.CreatedAt},
	}, nil
}

// account is the address as an account is known by: whoever registered knows it with
// these letters, large or small.
func account(email string) string { return strings.ToLower(email) }

// noSuchUser doesn't say what was wrong.
var noSuchUser = &dialect.Error{Status: 401, Code: dialect.Unauthorized, Message: "Invalid email or password"}

// Login lets a user in. What is done for an address that nobody has is what is done for
// one that somebody has: the log is looked at, and a password verified.
func (a *Accounts) Login(ctx context.Context, from, email string, password key.Password) (*dialect.Session, error) {
	email = account(email)
	if refused := a.limit(from, email); refused != nil {
		a.logins.WithLabelValues(limited).Inc()
		return nil, refused
	}
	session, err := a.login(ctx, email, password)
	switch {
	case err == nil:
		a.logins.WithLabelValues(letIn).Inc()
	case errors.Is(err, noSuchUser):
		a.logins.WithLabelValues(wrong).Inc()
	default:
		a.logins.WithLabelValues(failed).Inc()
	}
	return session, err
}

func (a *Accounts) login(ctx context.Context, email string, password key.Password) (*dialect.Session, error) {
	if err := a.cfg.Control.Recheck(ctx); err != nil { // they may have registered on another node a moment ago
		return nil, a.unavailable("log in", err)
	}
	u, kept := a.cfg.Control.User(email)
	if u == nil {
		kept = a.decoy
	}
	right, err := a.passwords.verify(ctx, kept, password)
	switch {
	case err != nil:
		return nil, err
	case !right || u == nil:
		return nil, noSuchUser
	}
	token := key.Branded("session", event.Live)
	until := time.Now().Add(SessionFor).UTC().Truncate(time.Millisecond)
	_, err = a.cfg.Control.Do(ctx, &control.CreateSession{User: u.ID, Email: email, Scopes: scopes, Hash: key.Hash(string(token)), ExpiresAt: until})
	switch {
	case errors.Is(err, control.ErrNotFound): // their org was deleted meanwhile
		return nil, noSuchUser
	case err != nil:
		return nil, a.unavailable("log in", err)
	}
	s := &dialect.Session{Account: dialect.Account{User: u.ID, Email: u.Email, Name: u.Name, Org: u.Org}, Token: token, ExpiresAt: until}
	if org := a.cfg.Control.Org(u.Org); org != nil {
		s.OrgName, s.Slug = org.Name, org.Slug
	}
	return s, nil
}

// limit counts a login. An account's window is one whether or not there is the account.
func (a *Accounts) limit(from, email string) *dialect.Error {
	now := time.Now()
	sum := sha256.Sum256([]byte(email)) // windows are bounded in number; so they are in bytes
	id := string(sum[:])
	left, ends := a.pairs.Take(id+from, perAccountAndAddress, now)
	if left >= 0 {
		left, ends = a.accounts.Take(id, perAccount, now)
	}
	if left >= 0 {
		return nil
	}
	return &dialect.Error{Status: 429, Code: dialect.RateLimited, Message: "there were too many logins to this account: wait", RetryAfter: web.Seconds(ends.Sub(now))}
}

// Logout ends the session that the caller came with.
func (a *Accounts) Logout(ctx context.Context, p *key.Principal) error {
	_, err := a.cfg.Control.Do(ctx, &control.RevokeKey{Org: p.Org, ID: p.KeyID})
	if err != nil && !errors.Is(err, control.ErrNotFound) { // it ended meanwhile
		return a.unavailable("log out", err)
	}
	return nil
}

// unavailable is what a client is told of an error of control's that says nothing about
// what it asked for.
func (a *Accounts) unavailable(what string, err error) error {
	a.cfg.Logger.Warn("account call couldn't be done", "call", what, "error", err)
	return &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "that can't be done now: try again", RetryAfter: 1}
}
