package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A key that is revoked, or whose org is deleted, opens nothing on any node a
// second after the answer, and what it had opened is closed and says why: also
// connections that were being authenticated when it happened.
func TestRevokedOnEveryNode(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		n := startStory(t, nodeConfig{})
		tellRevoked(t, n)
	})
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		first, second := startStory(t, cfg), startStory(t, cfg)
		tellRevoked(t, first, second)
	})
}

// revokedWithin is how long a key may open something after it was taken away: a second,
// and what a machine that has much else to do adds to that.
const revokedWithin = 3 * time.Second

func tellRevoked(t *testing.T, nodes ...*storyNode) {
	first := nodes[0]
	a, other := first.member(t), first.member(t)
	var keys struct{ Data []apiKey }
	if _, err := first.admin.call(t.Context(), http.MethodGet, "/admin/v1/orgs/"+a.org+"/keys", nil, &keys); err != nil {
		t.Fatal(err)
	}
	var second apiKey // of the same org, revoked with it
	in := map[string]any{"environment": "sandbox", "scopes": []string{"publish", "subscribe", "manage"}}
	if _, err := first.admin.call(t.Context(), http.MethodPost, "/admin/v1/orgs/"+a.org+"/keys", in, &second); err != nil {
		t.Fatal(err)
	}
	var revoked, deleted, stays visitors
	for _, n := range nodes {
		revoked.come(t, n, a.token)
		deleted.come(t, n, second.Key)
		stays.come(t, n, other.token)
	}
	take := func(path string, v *visitors, says string) {
		t.Helper()
		v.keepComing(t) // some are in the middle of it then
		if _, err := first.admin.call(t.Context(), http.MethodDelete, path, nil, nil); err != nil {
			t.Fatal(err)
		}
		v.mustGo(t, time.Now().Add(revokedWithin), says)
	}
	take("/admin/v1/orgs/"+a.org+"/keys/"+keys.Data[0].ID, &revoked, "the key was revoked")
	deleted.mustStay(t)
	take("/admin/v1/orgs/"+a.org, &deleted, "the key was revoked")
	stays.mustStay(t)
	for _, n := range nodes { // its id is nobody's again, on any node
		_, err := n.admin.call(t.Context(), http.MethodPost, "/admin/v1/orgs", map[string]string{"id": a.org, "name": "again"}, nil)
		if err == nil || !strings.Contains(err.Error(), "conflict") {
			t.Errorf("the id of a deleted org, for another: %v", err)
		}
	}
}

// visitors call and listen with one key, on several nodes.
type visitors struct {
	token string
	nodes []*storyNode

	mu      sync.Mutex
	open    []*visit
	coming  sync.WaitGroup
	goingOn context.CancelFunc
}

// visit is one connection: over is closed when it is, with the last that it said.
type visit struct {
	over   chan struct{}
	code   websocket.StatusCode
	reason string
}

func (v *visitors) come(t *testing.T, n *storyNode, token string) {
	t.Helper()
	v.token = token
	v.nodes = append(v.nodes, n)
	if !v.visit(t, n) {
		t.Fatal("not let in")
	}
}

// visit opens a stream; false: the key isn't good.
func (v *visitors) visit(t *testing.T, n *storyNode) bool {
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(n.URL(), "http")+"/v1/ws", nil)
	if err != nil {
		t.Error(err)
		return false
	}
	t.Cleanup(func() { conn.CloseNow() })
	auth, _ := json.Marshal(map[string]string{"type": "auth", "token": v.token})
	if err := conn.Write(t.Context(), websocket.MessageText, auth); err != nil {
		t.Error(err)
		return false
	}
	hear := func() (m struct{ Type, Message string }, err error) {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			return m, err
		}
		return m, json.Unmarshal(text, &m)
	}
	if m, err := hear(); err != nil || m.Type != "auth.ok" {
		return false
	}
	is := &visit{over: make(chan struct{})}
	v.mu.Lock()
	v.open = append(v.open, is)
	v.mu.Unlock()
	go func() {
		defer close(is.over)
		for {
			m, err := hear()
			if err != nil {
				is.code = websocket.CloseStatus(err)
				return
			}
			is.reason = m.Message
		}
	}()
	return true
}

// keepComing has more of them come on every node, until the key isn't good or the
// test is over. It returns when some have.
func (v *visitors) keepComing(t *testing.T) {
	t.Helper()
	opened := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.open)
	}
	before := opened()
	ctx, cancel := context.WithCancel(t.Context())
	v.goingOn = cancel
	for _, n := range v.nodes {
		for range 4 {
			v.coming.Go(func() {
				for range 100 {
					if ctx.Err() != nil || !v.visit(t, n) {
						return
					}
				}
			})
		}
	}
	eventually(t, time.Minute, func() error {
		if n := opened() - before; n < 4 {
			return fmt.Errorf("%d came", n)
		}
		return nil
	})
}

// mustGo makes sure that by then the key opens nothing any more, and that all it had
// opened is closed.
func (v *visitors) mustGo(t *testing.T, then time.Time, says string) {
	t.Helper()
	for i, n := range v.nodes {
		for {
			_, err := (&client{base: n.URL(), token: v.token}).call(t.Context(), http.MethodGet, "/v1/webhooks", nil, nil)
			if err != nil && strings.Contains(err.Error(), "unauthorized") {
				break
			}
			if time.Now().After(then) {
				t.Fatalf("node %d, %v later: %v", i, revokedWithin, err)
			}
		}
	}
	v.goingOn()
	v.coming.Wait()
	for i, n := range v.nodes {
		if v.visit(t, n) {
			t.Errorf("node %d lets it in again", i)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, is := range v.open {
		select {
		case <-is.over:
			if is.code != 4401 || is.reason != says {
				t.Errorf("closed with %d, %q", is.code, is.reason)
			}
		case <-time.After(max(time.Until(then), 100*time.Millisecond)):
			t.Errorf("a stream is open %v later", revokedWithin)
		}
	}
	t.Logf("%d streams were closed", len(v.open))
}

func (v *visitors) mustStay(t *testing.T) {
	t.Helper()
	for i, n := range v.nodes {
		if _, err := (&client{base: n.URL(), token: v.token}).call(t.Context(), http.MethodGet, "/v1/webhooks", nil, nil); err != nil {
			t.Errorf("node %d, another key: %v", i, err)
		}
	}
	for _, is := range v.open {
		select {
		case <-is.over:
			t.Errorf("another's stream was closed with %d, %q", is.code, is.reason)
		default:
		}
	}
}
