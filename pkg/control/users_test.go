package control_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

func registration(email, slug string) *control.Register {
	token := key.New(event.Live)
	return &control.Register{
		Email: email, Name: "Canary", Password: "canary-of-" + email,
		Org: control.CreateOrg{Name: "Acme", Plan: control.Free, Email: email}, Slug: slug,
		Key: control.CreateKey{Environment: event.Live, Scopes: []key.Scope{key.Manage}, Hash: key.Hash(string(token)), Start: token.Start()},
	}
}

// session is a login of the user with that address, and what it is let in by.
func session(t *testing.T, c *control.Control, email string, until time.Duration) (key.Token, *control.CreateSession) {
	t.Helper()
	u, _ := c.User(email)
	if u == nil {
		t.Fatalf("%s isn't there", email)
	}
	token := key.New(event.Live)
	return token, &control.CreateSession{User: u.ID, Email: email, Scopes: []key.Scope{key.Manage}, Hash: key.Hash(string(token)), ExpiresAt: time.Now().Add(until)}
}

// Users, slugs and sessions are the same over the log and a snapshot, no password lies in
// either, and an org takes its own away with it.
func TestUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		path := filepath.Join(t.TempDir(), "snapshot")
		c, err := withKeys(t, log, path, oldKey)
		if err != nil {
			t.Fatal(err)
		}
		made := registration("a@example.com", "acme")
		do(t, c, made)
		refused(t, c, registration("a@example.com", "other"), control.ErrEmail)
		refused(t, c, registration("b@example.com", "acme"), control.ErrExists)
		do(t, c, registration("b@example.com", ""))
		do(t, c, registration("c@example.com", ""))
		if n := len(c.Orgs()); n != 3 {
			t.Fatalf("%d orgs: one that was refused left something behind", n)
		}
		token, first := session(t, c, "a@example.com", time.Hour)
		do(t, c, first)
		c.Save()
		for _, from := range []string{path, ""} {
			again, err := withKeys(t, log, from, oldKey)
			if err != nil {
				t.Fatal(err)
			}
			sameState(t, c, again)
			u, password := again.User("a@example.com")
			if u == nil || u.Name != "Canary" || u.Org != made.Org.ID || password != "canary-of-a@example.com" {
				t.Errorf("from %q: %+v with %q", from, u, password)
			}
			if org := again.Org(u.Org); org.Slug != "acme" || org.Plan != control.Free || org.Email != "a@example.com" {
				t.Errorf("from %q: %+v", from, org)
			}
			refused(t, again, registration("d@example.com", "acme"), control.ErrExists)
			p, err := again.Authenticate(t.Context(), string(token))
			if err != nil || !p.Session || p.Org != u.Org || p.Environment != event.Live {
				t.Errorf("from %q: %+v, %v", from, p, err)
			}
			again.Close()
		}
		time.Sleep(time.Hour)
		if _, err := c.Authenticate(t.Context(), string(token)); !errors.Is(err, control.ErrExpired) {
			t.Errorf("after its end: %v", err)
		}
		_, late := session(t, c, "a@example.com", time.Hour)
		do(t, c, &control.DeleteOrg{Org: made.Org.ID})
		if u, _ := c.User("a@example.com"); u != nil || c.Key(first.ID) != nil {
			t.Errorf("with its org gone: %+v", u)
		}
		refused(t, c, late, control.ErrNotFound)
		do(t, c, registration("a@example.com", "acme"))
		refused(t, c, late, control.ErrNotFound) // the address is another user's
		sealedIn(t, log, c, "canary-of")
	})
}

// A user's sessions are bounded and don't count as keys; who logs in once too often, or
// after a session has expired, ends the oldest.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, eventlogtest.Mem(t, topics...))
		reg := registration("a@example.com", "")
		do(t, c, reg)
		var mu sync.Mutex
		var ended []string
		stop := c.Watch(func(ch control.Change) {
			mu.Lock()
			defer mu.Unlock()
			if ch.Key == nil && ch.KeyBefore != nil {
				ended = append(ended, ch.KeyBefore.ID)
			}
		})
		defer stop()
		var ids []string
		login := func(until time.Duration) {
			t.Helper()
			_, cmd := session(t, c, "a@example.com", until)
			do(t, c, cmd)
			ids = append(ids, cmd.ID)
		}
		for range control.MaxSessions {
			login(2 * time.Hour)
		}
		if len(ended) > 0 {
			t.Fatalf("ended %d before there were too many", len(ended))
		}
		login(time.Hour)
		if !slices.Equal(ended, ids[:1]) {
			t.Errorf("ended %v, want the oldest of %v", ended, ids)
		}
		time.Sleep(time.Hour)
		login(time.Hour) // takes the place of the one that has expired
		if want := []string{ids[0], ids[control.MaxSessions]}; !slices.Equal(ended, want) {
			t.Errorf("ended %v, want %v", ended, want)
		}
		limited := &control.LimitedKey{Most: 2}
		limited.Org, limited.Environment, limited.Hash = reg.Org.ID, event.Live, key.Hash("another")
		do(t, c, limited)
	})
}

// However many nodes are asked for one address at once, one user gets it.
func TestEmailIsOneUsers(t *testing.T) {
	for name, openLog := range map[string]func(*testing.T) eventlog.Log{
		"embedded": func(t *testing.T) eventlog.Log { return eventlogtest.Mem(t, topics...) },
		"kafka":    func(t *testing.T) eventlog.Log { return eventlogtest.Kafka(t, topics...) },
	} {
		t.Run(name, func(t *testing.T) {
			log := openLog(t)
			nodes := []*control.Control{open(t, log), open(t, log), open(t, log)}
			const addresses = 5
			var won [addresses]atomic.Int32
			var wg sync.WaitGroup
			for _, c := range nodes {
				for i := range addresses * 2 {
					wg.Go(func() {
						_, err := c.Do(t.Context(), registration(fmt.Sprint(i%addresses, "@example.com"), ""))
						switch {
						case err == nil:
							won[i%addresses].Add(1)
						case !errors.Is(err, control.ErrEmail):
							t.Error(err)
						}
					})
				}
			}
			wg.Wait()
			for i := range won {
				if n := won[i].Load(); n != 1 {
					t.Errorf("%d users have the address %d", n, i)
				}
			}
			sameState(t, nodes[0], nodes[1])
			sameState(t, nodes[0], nodes[2])
		})
	}
}
