package manage_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// Who has a key makes others, which can do no more than it can; they are good until
// they expire or are revoked.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t)
		ctx := t.Context()
		spec := dialect.KeySpec{Brand: "acme", Environment: event.Live, Scopes: []key.Scope{key.Publish}, Name: "n", ExpiresAt: time.Now().Add(time.Hour)}
		made, err := w.core.CreateKey(ctx, ownerLive, spec)
		if err != nil {
			t.Fatal(err)
		}
		token := string(made.Token)
		if !strings.HasPrefix(token, "acme_live_") || made.Start != token[:13] || made.Name != "n" || made.Environment != event.Live || !made.ExpiresAt.Equal(spec.ExpiresAt) {
			t.Errorf("made %+v", made)
		}
		other := w.node(t)
		for _, c := range []*control.Control{w.control, other} {
			p, err := c.Authenticate(ctx, token)
			if err != nil || p.Org != "org_a" || p.Environment != event.Live || p.Network != "" || !p.Can(key.Publish) || p.Can(key.Manage) {
				t.Errorf("it is %+v, %v", p, err)
			}
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if _, err := w.control.Authenticate(ctx, token); err != nil {
			t.Error("it expired too early:", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := w.control.Authenticate(ctx, token); err != control.ErrExpired {
			t.Error("it didn't expire:", err)
		}

		spec.ExpiresAt, spec.Network = time.Time{}, "testnet"
		bound, err := w.core.CreateKey(ctx, ownerLive, spec)
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.control.Authenticate(ctx, string(bound.Token))
		if err != nil || p.Network != "testnet" {
			t.Fatalf("it is %+v, %v", p, err)
		}
		spec.Environment = event.Sandbox
		if _, err := w.core.CreateKey(ctx, p, spec); err != nil {
			t.Error(err)
		}
		for what, change := range map[string]func(*dialect.KeySpec){
			"for all networks":   func(s *dialect.KeySpec) { s.Network = "" },
			"for another":        func(s *dialect.KeySpec) { s.Network = "mainnet" },
			"with another scope": func(s *dialect.KeySpec) { s.Scopes = []key.Scope{key.Manage} },
		} {
			s := spec
			change(&s)
			if _, err := w.core.CreateKey(ctx, p, s); err == nil {
				t.Errorf("a key for testnet that may publish makes one %s", what)
			} else {
				wantError(t, err, 403, dialect.Forbidden)
			}
		}
		spec.Environment = event.Live
		_, err = w.core.CreateKey(ctx, owner, spec)
		wantError(t, err, 403, dialect.Forbidden)
		spec.Name = strings.Repeat("x", 257)
		_, err = w.core.CreateKey(ctx, ownerLive, spec)
		wantError(t, err, 400, dialect.BadRequest)
	})
}

// Keys are their org's, and those for live aren't the sandbox's.
func TestKeysAreListedAndRevoked(t *testing.T) {
	w := openWorld(t)
	ctx := t.Context()
	make := func(p *key.Principal, env event.Environment) *dialect.Key {
		t.Helper()
		made, err := w.core.CreateKey(ctx, p, dialect.KeySpec{Brand: "acme", Environment: env, Scopes: key.Scopes})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	live, sandbox, theirs := make(ownerLive, event.Live), make(owner, event.Sandbox), make(stranger, event.Sandbox)
	ours := key.New(event.Live)
	if _, err := w.control.Do(ctx, &control.CreateKey{Org: "org_a", Environment: event.Live, Scopes: key.Scopes, Hash: key.Hash(string(ours))}); err != nil {
		t.Fatal(err)
	}
	starts := func(p *key.Principal) (all []string) {
		keys, err := w.core.Keys(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.Token != "" {
				t.Errorf("%s is shown again", k.ID)
			}
			all = append(all, k.Start)
		}
		return all
	}
	for p, want := range map[*key.Principal]string{
		ownerLive: live.Start + " " + sandbox.Start + " sk_live_", owner: sandbox.Start, stranger: theirs.Start,
	} {
		if got := strings.Join(starts(p), " "); got != want {
			t.Errorf("%s, %v sees %s, want %s", p.Org, p.Environment, got, want)
		}
	}
	for p, ids := range map[*key.Principal][]string{owner: {live.ID, theirs.ID, "key_none", ""}, ownerLive: {theirs.ID}} {
		for _, id := range ids {
			wantError(t, w.core.RevokeKey(ctx, p, id), 404, dialect.NotFound)
		}
	}
	for _, k := range []*dialect.Key{live, theirs} {
		if _, err := w.control.Authenticate(ctx, string(k.Token)); err != nil {
			t.Error(err)
		}
	}
	if err := w.core.RevokeKey(ctx, ownerLive, sandbox.ID); err != nil {
		t.Error(err)
	}
	if _, err := w.control.Authenticate(ctx, string(sandbox.Token)); err != control.ErrUnauthorized {
		t.Error("a revoked key is good:", err)
	}
}
