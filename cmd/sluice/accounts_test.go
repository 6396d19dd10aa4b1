package main

import (
	"bufio"
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// account is what registering and logging in answer.
type account struct {
	User, Organization struct{ ID, Email, Name, Slug string }
	Key                struct {
		Key    string
		Prefix string `json:"key_prefix"`
	} `json:"api_key"`
	Token     string
	ExpiresAt time.Time `json:"expires_at"`
}

// A person registers, logs in on one node, and is let in on every other and after a
// restart, until logging out: then streams that the session opened end, wherever.
func TestAccounts(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		cfg := nodeConfig{Data: filepath.Join(t.TempDir(), "data")}
		n := startStory(t, cfg)
		session := tellAccount(t, n, n)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		tellLogout(t, startStory(t, cfg), session)
	})
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		first, second := startStory(t, cfg), startStory(t, cfg)
		session := tellAccount(t, first, second)
		tellLogout(t, startStory(t, cfg), session)
	})
}

const accountPassword = "canary-securepass123"

// tellAccount gives a session that is still good.
func tellAccount(t *testing.T, first, second *storyNode) string {
	there := &client{base: first.URL()}
	call := func(c *client, method, path string, in, out any) {
		t.Helper()
		if _, err := c.call(t.Context(), method, path, in, out); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	var made, in, kept account
	call(there, "POST", "/auth/register", map[string]string{
		"email": "user@example.com", "password": accountPassword, "full_name": "John Doe", "organization_name": "My Company", "organization_slug": "my-company",
	}, &made)
	if made.User.Email != "user@example.com" || made.Organization.Name != "My Company" || made.Organization.Slug != "my-company" ||
		!strings.HasPrefix(made.Key.Key, "tempo_live_") || made.Key.Prefix != made.Key.Key[:len("tempo_live_abc")] {
		t.Fatalf("registered %+v", made)
	}
	var plan struct {
		Current struct{ Tier string } `json:"current_plan"`
	}
	call(&client{base: second.URL(), token: made.Key.Key}, "GET", "/api/v1/plan", nil, &plan)
	if plan.Current.Tier != "free" {
		t.Errorf("on %+v", plan)
	}
	login := map[string]string{"email": "User@example.com", "password": accountPassword}
	call(there, "POST", "/auth/login", login, &in)
	call(&client{base: second.URL()}, "POST", "/auth/login", login, &kept)
	if in.User.ID != made.User.ID || in.Organization.ID != made.Organization.ID || time.Until(in.ExpiresAt) < 11*time.Hour || in.Token == kept.Token {
		t.Fatalf("logged in as %+v, then %+v", in, kept)
	}
	for _, wrong := range []map[string]string{{"email": "user@example.com", "password": "wrong"}, {"email": "nobody@example.com", "password": accountPassword}} {
		if _, err := there.call(t.Context(), "POST", "/auth/login", wrong, nil); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%v: %v", wrong, err)
		}
	}

	live, sandbox := eventsOf(t, first, in.Token, ""), eventsOf(t, second, in.Token, "?environment=sandbox")
	others := eventsOf(t, first, kept.Token, "")
	session := &client{base: second.URL(), token: in.Token}
	publish := func(path, id string) {
		t.Helper()
		call(session, "POST", path, map[string]any{"id": id, "type": "order.paid", "data": map[string]any{}}, nil)
	}
	publish("/v1/events", "evt_live")
	publish("/v1/events?environment=sandbox", "evt_sandbox")
	for name, stream := range map[string]<-chan string{"live": live, "sandbox": sandbox, "live of another session": others} {
		if line := nextLine(t, stream, "event: "); line != "event: order.paid" {
			t.Errorf("%s said %q", name, line)
		}
	}
	call(session, "POST", "/auth/logout", nil, nil)
	for name, stream := range map[string]<-chan string{"live": live, "sandbox": sandbox} {
		if line := nextLine(t, stream, "event: "); line != "event: unauthorized" {
			t.Errorf("logged out, and %s said %q", name, line)
		}
		if line := nextLine(t, stream, "event: "); line != "" {
			t.Errorf("logged out, and %s went on with %q", name, line)
		}
	}
	for _, n := range []*storyNode{first, second} {
		if status := visitWith(t, n, in.Token); status != http.StatusUnauthorized {
			t.Errorf("logged out, and let in with %d", status)
		}
	}
	publish = func(path, id string) {
		t.Helper()
		call(&client{base: first.URL(), token: made.Key.Key}, "POST", path, map[string]any{"id": id, "type": "order.paid", "data": map[string]any{}}, nil)
	}
	publish("/v1/events", "evt_after") // the key, and the other session, go on
	if line := nextLine(t, others, "event: "); line != "event: order.paid" {
		t.Errorf("another session said %q", line)
	}
	return kept.Token
}

func tellLogout(t *testing.T, n *storyNode, session string) {
	if status := visitWith(t, n, session); status != http.StatusOK {
		t.Errorf("after a restart the session is answered with %d", status)
	}
	if _, err := (&client{base: n.URL(), token: session}).call(t.Context(), "POST", "/auth/logout", nil, nil); err != nil {
		t.Error(err)
	}
	if status := visitWith(t, n, session); status != http.StatusUnauthorized {
		t.Errorf("logged out, and let in with %d", status)
	}
}

// withCookie asks as a browser does that keeps the session.
func withCookie(t *testing.T, n *storyNode, session, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", n.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", "__Host-session="+session)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// visitWith gives the status of a list that the session may see.
func visitWith(t *testing.T, n *storyNode, session string) int {
	t.Helper()
	resp := withCookie(t, n, session, "/api/events")
	resp.Body.Close()
	return resp.StatusCode
}

// eventsOf gives the lines of a stream of events that the session opened; closed: it ended.
func eventsOf(t *testing.T, n *storyNode, session, query string) <-chan string {
	t.Helper()
	resp := withCookie(t, n, session, "/api/events/stream"+query)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a stream is answered with %s", resp.Status)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	nextLine(t, lines, "id: ") // from here on it misses nothing
	return lines
}

// nextLine waits for a line that begins so; empty: there is none any more.
func nextLine(t *testing.T, lines <-chan string, begins string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, open := <-lines:
			if !open || strings.HasPrefix(line, begins) {
				return line
			}
		case <-timeout:
			t.Fatalf("nothing that begins %q came within 30 s", begins)
		}
	}
}
