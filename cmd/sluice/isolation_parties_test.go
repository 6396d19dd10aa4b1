package main

import (
	"net/http"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// party is an org in one environment, and all that it ever got to see.
type party struct {
	org, env string
	token    string
	word     string
	ids      map[string]string // of what is its own, by what that is: isolation.id
	heard    lockedBuffer
	secrets  []string // of its endpoints
	minted   int      // events that it published as chain.mint

	revoked, expired string // keys that were its own; of a session: it was logged out of, it has ended
}

func (p *party) name() string { return p.org + ", " + p.env }

// path is below which its endpoints are. Operators may see it.
func (p *party) path() string { return "/of_" + p.org + "_" + p.env }

// session is how a client comes with a token that a login gave.
type session struct {
	env    event.Environment // that it asks for
	cookie bool              // as browsers bring it
}

// allScopes are those that a party needs for all calls.
var allScopes = []key.Scope{key.Publish, key.Subscribe, key.Manage}

// withKeys adds an org that comes with keys.
func (w *isolation) withKeys(org string) {
	w.asAdmin("POST", "/admin/v1/orgs", map[string]string{"id": org, "name": org}, nil)
	for _, env := range event.Environments {
		create := func() (made apiKey) {
			w.asAdmin("POST", "/admin/v1/orgs/"+org+"/keys", map[string]any{"environment": env.String(), "scopes": allScopes}, &made)
			return made
		}
		revoked := create()
		w.asAdmin("DELETE", "/admin/v1/orgs/"+org+"/keys/"+revoked.ID, nil, nil)
		expired := string(key.New(env)) // calls make none that has
		w.do(&control.CreateKey{Org: org, Environment: env, Scopes: allScopes, Hash: key.Hash(expired), ExpiresAt: time.Now().Add(-time.Second)})
		w.parties = append(w.parties, &party{org: org, env: env.String(), token: create().Key, revoked: revoked.Key, expired: expired})
	}
}

func (w *isolation) do(cmd control.Command) {
	w.t.Helper()
	if _, err := w.control.Do(w.t.Context(), cmd); err != nil {
		w.t.Fatal(err)
	}
}

// withSessions adds an org whose user has logged in: for one environment by the cookie
// that the login set, for the other by what it answered. Two of its sessions end at the
// time that is given.
func (w *isolation) withSessions(name string, byCookie event.Environment) (end time.Time) {
	guest := &client{base: w.URL()}
	call := func(c *client, path string, in, out any) {
		w.t.Helper()
		if _, err := c.call(w.t.Context(), "POST", path, in, out); err != nil {
			w.t.Fatal(err)
		}
	}
	email, password := name+"@example.com", "canary_password_of_"+name
	var made account
	call(guest, "/auth/register", map[string]string{"email": email, "password": password, "full_name": name, "organization_name": name}, &made)
	w.asAdmin("PATCH", "/admin/v1/orgs/"+made.Organization.ID, map[string]string{"plan": "enterprise"}, nil)
	login := func() string {
		var in account
		call(guest, "/auth/login", map[string]string{"email": email, "password": password}, &in)
		return in.Token
	}
	for _, env := range event.Environments {
		p := &party{org: made.Organization.ID, env: env.String(), token: login(), revoked: login(), secrets: []string{password}}
		call(&client{base: w.URL(), token: p.revoked}, "/auth/logout", nil, nil)
		p.expired = string(key.Branded("session", event.Live))
		w.parties = append(w.parties, p)
		for _, token := range []string{p.token, p.revoked, p.expired} {
			w.sessions[token] = session{env, env == byCookie}
		}
	}
	// A login's lasts for hours, and each takes those away that have ended.
	end = time.Now().Add(2 * time.Second).UTC().Truncate(time.Millisecond)
	for _, p := range w.parties[len(w.parties)-2:] {
		w.do(&control.CreateSession{User: made.User.ID, Email: email, Scopes: allScopes, Hash: key.Hash(p.expired), ExpiresAt: end})
	}
	return end
}

// bring has a request come with a token, as who has that does.
func (w *isolation) bring(req *http.Request, token string) {
	how, session := w.sessions[token]
	if session && how.env != event.Live {
		query := req.URL.Query()
		query.Set("environment", how.env.String())
		req.URL.RawQuery = query.Encode()
	}
	switch {
	case how.cookie:
		req.Header.Set("Cookie", "__Host-session="+token)
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	}
}
