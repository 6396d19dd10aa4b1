package stream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/gateway/stream"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/quub"
	"sluice/pkg/dialect/tenzro"
	"sluice/pkg/dialect/tetrafi"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// several opens a stage on which all streams are spoken.
func several(t *testing.T) *stage {
	return open(t, func(cfg *stream.Config) {
		cfg.Streams = []*dialect.Stream{tetrafi.Dialect.Stream, tenzro.Dialect.Stream, quub.Dialect.Stream}
	})
}

func (s *stage) dialPath(path string) *client {
	s.t.Helper()
	ws, _, err := websocket.Dial(s.t.Context(), "ws://"+s.addr+path, nil)
	ok(s.t, err)
	ws.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { ws.CloseNow() })
	return &client{s.t, ws}
}

// A subscribe that brings its key along is let in and acted on, and nothing is said
// of the key unless it is bad.
func TestKeyInSubscribe(t *testing.T) {
	s := several(t)
	for _, path := range tenzro.Dialect.Stream.Paths {
		c := s.dialPath(path)
		c.say(`{"type":"subscribe","events":["rfq.*"]}`)
		c.wantError("unauthorized")
		c.say(`{"type":"subscribe","events":["rfq.*"],"apiKey":"` + s.newKey(s.org, event.Sandbox, time.Time{}, key.Manage) + `"}`)
		c.wantError("forbidden")
		c.say(`{"type":"subscribe","events":["rfq.*"],"apiKey":"` + s.token + `"}`)
		c.want("subscribed")
		c.say(`{"type":"subscribe","events":["quote.*"]}`)
		c.want("subscribed")
		c.say(`{"type":"subscribe","events":["audit.*"],"apiKey":"` + s.newKey(s.org, event.Sandbox, time.Time{}, key.Manage) + `"}`)
		c.wantError("forbidden") // and nothing was subscribed to
		s.publish("audit.recorded")
		s.publish("quote.received")
		m := c.want("quote.received")
		c.say(`{"type":"subscribe","events":["*"],"apiKey":"sk_test_nobodys"}`)
		c.wantError("unauthorized")
		c.wantClose(4401)
		if !strings.HasPrefix(m.text, `{"id":"evt_`) || !strings.Contains(m.text, `"data":{"n":`) || !strings.Contains(m.text, `,"cursor":"`) {
			t.Errorf("an event came as %s", m.text)
		}
	}
}

// A key that isn't of the org that its client names is refused.
func TestOrgInAuth(t *testing.T) {
	s := several(t)
	c := s.dialPath("/events/v1/stream")
	c.say(`{"type":"auth","token":"` + s.token + `","orgId":"org_b"}`)
	c.wantError("forbidden")
	c.say(`{"type":"subscribe","events":["*"]}`)
	c.wantError("unauthorized")
	c.say(`{"type":"auth","token":"` + s.token + `","orgId":"org_a"}`)
	c.want("auth.ok")
	c.say(`{"type":"subscribe","events":["*"]}`)
	c.want("subscribe.ok")
}

// What names the org that it is for names each its own, live and replayed, whoever
// published it, and however many share a frame.
func TestPerOrg(t *testing.T) {
	s := several(t)
	tokens := map[string]string{"org_a": s.token, "org_b": s.newKey("org_b", event.Sandbox, time.Time{}, key.Subscribe)}
	join := func(org, more string) *client {
		c := s.dialPath("/events/v1/stream")
		c.say(`{"type":"auth","token":"` + tokens[org] + `","orgId":"` + org + `"}`)
		c.want("auth.ok")
		c.say(`{"type":"subscribe","events":["order.*"]` + more + `}`)
		return c
	}
	clients := make(map[*client]string)
	for _, org := range []string{"org_a", "org_b", "org_a", "org_b"} {
		clients[join(org, "")] = org
	}
	for c := range clients {
		c.want("subscribe.ok")
	}
	begin := s.cursor(s.publish("order.filled"))
	s.publish("order.created", to("org_b"))
	check := func(c *client, org string) {
		t.Helper()
		want := []string{"order.filled", "order.created"}
		if org == "org_a" {
			want = want[:1]
		}
		for _, typ := range want {
			m, err := c.hear()
			if err != nil || !strings.Contains(m.text, `"eventType":"`+typ+`"`) || !strings.Contains(m.text, `"orgId":"`+org+`"`) {
				t.Errorf("%s got %s, %v; want %s", org, m.text, err, typ)
			}
		}
	}
	for c, org := range clients {
		check(c, org)
	}
	for org := range tokens {
		c := join(org, `,"cursor":"`+begin+`"`)
		c.want("subscribe.ok")
		check(c, org)
	}
}
