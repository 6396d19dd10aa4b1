package stream_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
)

func TestStory(t *testing.T) { carried(t, testStory) }

func testStory(t *testing.T) {
	s := open(t, nil)
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.token + `"}`)
	c.say(`{"type":"subscribe","channels":["rfq.*","settlement.complete"]}`)
	c.wantText(`{"type":"auth.ok","environment":"sandbox"}`)
	c.wantText(`{"type":"subscribe.ok","channels":["rfq.*","settlement.complete"],"cursor":"` + s.cursor(0) + `"}`)
	s.publish("quote.received")
	at := s.publish("rfq.created")
	s.publish("settlement.complete")
	c.wantText(`{"type":"rfq.created","id":"evt_1","timestamp":"2026-01-02T03:04:05.006Z","n":1,"cursor":"` + s.cursor(at+1) + `"}`)
	c.wantN(2)
	c.say(`{"type":"unsubscribe","channels":["rfq.*","never.was"]}`)
	c.wantText(`{"type":"unsubscribe.ok","channels":["rfq.*","never.was"]}`)
	s.publish("rfq.created")
	s.publish("settlement.complete")
	c.wantN(4)
}

func TestWhoSeesWhat(t *testing.T) { carried(t, testWhoSeesWhat) }

func testWhoSeesWhat(t *testing.T) {
	s := open(t, nil)
	a := s.join(`"*"`)
	b, live := s.dial(), s.dial()
	b.say(`{"type":"auth","token":"` + s.newKey("org_b", event.Sandbox, time.Time{}, key.Subscribe) + `"}`)
	live.say(`{"type":"auth","token":"` + s.newKey(s.org, event.Live, time.Time{}, key.Subscribe) + `"}`)
	for _, c := range []*client{b, live} {
		c.say(`{"type":"subscribe","channels":["*"]}`)
	}
	b.want("auth.ok")
	b.want("subscribe.ok")
	if m := live.want("auth.ok"); m.Environment != "live" {
		t.Errorf("auth.ok says %s", m.text)
	}
	live.want("subscribe.ok")

	s.publish("a.b", to("org_a"))          // 0
	s.publish("a.b", to("org_a", "org_b")) // 1
	s.publish("a.b", to("org_b"))          // 2
	s.publish("a.b", to("org_c"))          // 3
	s.publish("a.b", func(ev *event.Event) { ev.Environment = event.Live })
	s.publish("a.b") // 5
	a.wantN(0, 1, 5)
	b.wantN(1, 2, 5)
	live.wantN(4)
	for _, c := range []*client{a, b, live} {
		c.silentlyOpen()
	}

	// Who comes back sees as much of the past, by either kind of stream.
	s.settle()
	s.token = s.newKey("org_b", event.Sandbox, time.Time{}, key.Subscribe)
	again := s.join(`"other.thing"`)
	again.say(`{"type":"subscribe","channels":["*"],"cursor":"` + s.cursor(0) + `"}`)
	again.want("subscribe.ok")
	again.wantN(1, 2, 5)
	again.silentlyOpen()
	events := s.read("", "Last-Event-ID: "+s.cursor(0))
	events.wantN(1, 2, 5)
	s.publish("a.b") // 6
	events.wantN(6)
}

func TestPairs(t *testing.T) { carried(t, testPairs) }

func testPairs(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"quote.*"`)
	c.say(`{"type":"subscribe","channels":["rfq.*","quote.received"],"corridors":["ethereum-optimism","base"]}`)
	if m := c.want("subscribe.ok"); !strings.Contains(m.text, `"corridors":["ethereum-optimism","base"]`) {
		t.Error(m.text)
	}
	c.say(`{"type":"subscribe","channels":["quote.*"]}`) // a second time: no second copy
	c.want("subscribe.ok")
	s.publish("rfq.created", in("base"))    // 0
	s.publish("rfq.created", in("solana"))  // 1: no
	s.publish("rfq.created")                // 2: has none
	s.publish("quote.received", in("base")) // 3: once, though two pairs match
	s.publish("quote.received", in("solana"))
	c.wantN(0, 2, 3, 4)
	c.say(`{"type":"unsubscribe","channels":["quote.*"]}`)
	c.want("unsubscribe.ok")
	s.publish("quote.received", in("solana")) // 5: no more
	s.publish("quote.received", in("base"))   // 6
	c.wantN(6)
}

// TestWrapped has clients come and go in a crowd over connections that the
// server wraps and pools, so that there is no *net.TCPConn to write to.
func TestWrapped(t *testing.T) {
	maxPerIP = 1000
	defer func() { maxPerIP = 0 }()
	s := open(t, nil)
	quiet := s.join(`"rfq.*"`)
	token, id := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			c, err := s.tryDial(nil)
			if err != nil {
				t.Error(err)
				return
			}
			c.say(`{"type":"auth","token":"` + token + `"}`)
			c.say(`{"type":"subscribe","channels":["rfq.*"]}`)
			for { // until it is revoked, or leaves
				m, err := c.hear()
				if err != nil || m.N != nil && *m.N%7 == 0 {
					c.ws.CloseNow()
					return
				}
			}
		})
	}
	for range 200 {
		s.publish("rfq.created")
	}
	s.revoke(id)
	wg.Wait()
	for n := range int64(200) {
		quiet.wantN(n)
	}
	quiet.silentlyOpen()
}

func TestSlowClient(t *testing.T) { carried(t, testSlowClient) }

func testSlowClient(t *testing.T) {
	const total = 4000
	s := open(t, func(c *stream.Config) { c.Limits.SendBuffer, c.Limits.Stall = 4<<10, time.Hour })
	slow, fast := s.join(`"rfq.*"`), s.join(`"rfq.*"`)
	big := func(ev *event.Event) {
		ev.Data = append([]byte(`{"pad":"`+strings.Repeat("x", 4000)+`",`), ev.Data[1:]...)
	}
	heard := make(chan int64)
	var fastDropped int64
	go func() {
		var n int64
		for n < total {
			m, err := fast.hear()
			if err != nil {
				t.Error(err)
				break
			}
			n += m.Count
			fastDropped += m.Count
			if m.N != nil {
				n++
			}
		}
		heard <- n
	}()
	for range total / 50 {
		s.publishAll(50, "rfq.created", big)
		time.Sleep(2 * time.Millisecond)
	}
	if n := <-heard; n != total {
		t.Fatalf("the fast client heard of %d", n)
	}
	eventually(t, "the slow client's queue overflows", func() bool { return s.count("sluice_stream_events_dropped_total", "") > 0 })

	// Now it reads on: each event, or its loss, in its place.
	var next, dropped int64
	var resume string
	for next < total {
		m, err := slow.hear()
		if err != nil {
			t.Fatalf("at %d: %v", next, err)
		}
		switch {
		case m.Type == "dropped":
			if m.Cursor != s.cursor(next) {
				t.Fatalf("lost at %d, but its cursor is %s", next, m.text)
			}
			if resume == "" {
				resume = m.Cursor
			}
			next += m.Count
			dropped += m.Count
		case m.N == nil || *m.N != next:
			t.Fatalf("want %d, got %.80s", next, m.text)
		default:
			next++
		}
	}
	if dropped == 0 || float64(dropped+fastDropped) != s.count("sluice_stream_events_dropped_total", "") {
		t.Errorf("declared %d, counted %v", dropped, s.count("sluice_stream_events_dropped_total", ""))
	}
	// Lost isn't covered: it may be asked for on the same connection.
	slow.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + resume + `"}`)
	slow.want("subscribe.ok")
	if m := slow.want("replay.truncated"); m.Missed != dropped-100 {
		t.Errorf("lost %d, %s", dropped, m.text)
	}
	for range 100 {
		slow.want("rfq.created")
	}
	slow.silentlyOpen()
}

func TestAuth(t *testing.T) { carried(t, testAuth) }

func testAuth(t *testing.T) {
	s := open(t, nil)
	auth := func(c *client, token string) { c.say(`{"type":"auth","token":"` + token + `"}`) }
	t.Run("first of all", func(t *testing.T) {
		c := s.dial()
		c.say(`{"type":"subscribe","channels":["*"]}`)
		c.wantError("unauthorized")
		auth(c, s.token)
		c.want("auth.ok")
	})
	t.Run("no such key", func(t *testing.T) {
		for _, token := range []string{"sk_test_nonsense", string(key.New(event.Sandbox))} {
			c := s.dial()
			auth(c, token)
			c.wantError("unauthorized")
			c.wantClose(4401)
		}
	})
	t.Run("without the scope", func(t *testing.T) {
		c := s.dial()
		auth(c, s.newKey(s.org, event.Sandbox, time.Time{}, key.Publish))
		c.wantError("forbidden")
		c.say(`{"type":"subscribe","channels":["*"]}`)
		c.wantError("unauthorized")
	})
	t.Run("again", func(t *testing.T) {
		c := s.join(`"rfq.*"`)
		token, id := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
		old, oldID := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
		auth(c, old)
		c.want("auth.ok")
		auth(c, token)
		c.want("auth.ok")
		s.revoke(oldID) // not its key any more
		n := s.publish("rfq.created")
		c.wantN(n)
		s.revoke(id)
		c.wantError("unauthorized")
		c.wantClose(4401)
	})
	t.Run("again as somebody else", func(t *testing.T) {
		for _, token := range []string{
			s.newKey("org_other", event.Sandbox, time.Time{}, key.Subscribe),
			s.newKey(s.org, event.Live, time.Time{}, key.Subscribe),
		} {
			c := s.join(`"rfq.*"`)
			auth(c, token)
			c.wantError("bad_request")
			c.wantClose(4400)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		token, id := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
		c := s.dial()
		auth(c, token)
		c.want("auth.ok")
		s.revoke(id)
		c.wantError("unauthorized")
		c.wantClose(4401)
	})
	t.Run("expired", func(t *testing.T) {
		c := s.dial()
		for life := 2 * time.Second; ; life *= 2 { // long enough for this machine to let it in before
			auth(c, s.newKey(s.org, event.Sandbox, time.Now().Add(life), key.Subscribe))
			if m, err := c.hear(); err == nil && m.Type == "auth.ok" {
				break
			} else if err != nil || m.Code != "unauthorized" || life > patience {
				t.Fatalf("a key for %v: %s %v", life, m.text, err)
			}
			c = s.dial()
		}
		c.wantError("unauthorized")
		c.wantClose(4401)
	})
	t.Run("its org is removed", func(t *testing.T) {
		c := s.dial()
		auth(c, s.newKey("org_gone", event.Sandbox, time.Time{}, key.Subscribe))
		c.want("auth.ok")
		_, err := s.control.Do(t.Context(), &control.DeleteOrg{Org: "org_gone"})
		ok(t, err)
		c.wantError("unauthorized")
		c.wantClose(4401)
	})
}

func (s *stage) revoke(id string) {
	s.t.Helper()
	_, err := s.control.Do(s.t.Context(), &control.RevokeKey{Org: s.org, ID: id})
	ok(s.t, err)
}

// TestLag: every write of live events is counted by its age, those of a replay aren't.
func TestLag(t *testing.T) { carried(t, testLag) }

func testLag(t *testing.T) {
	s := open(t, nil)
	s.publishAll(3, "rfq.created")
	s.settle()
	c := s.join(`"other.thing"`)
	c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(0) + `"}`)
	c.want("subscribe.ok")
	c.wantN(0, 1, 2)
	if n := s.count("sluice_stream_lag_seconds", ""); n != 0 {
		t.Errorf("a replay counts %v times", n)
	}
	for n := range int64(4) {
		s.publish("rfq.created")
		c.wantN(3 + n)
	}
	eventually(t, "all are counted", func() bool { return s.count("sluice_stream_lag_seconds", "") == 4 })
}

func TestPoisonedRecord(t *testing.T) { carried(t, testPoisonedRecord) }

func testPoisonedRecord(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"*"`)
	s.publish("a.b")
	other := &event.Event{ID: "evt_x", Type: "a.b", Environment: event.Live, Org: "o", Audience: event.Audience{All: true}, Data: []byte(`{}`)}
	lying := *other // to write a record without a sum: its data is looked at
	lying.Environment, lying.Data = event.Sandbox, []byte("{\"a\":\"\xff\"}")
	unsummed := lying.AppendRecord(nil)
	unsummed[3] &^= 4
	for _, value := range [][]byte{nil, []byte("nonsense"), other.AppendRecord(nil), unsummed, []byte(`{"id":"x"}`)} {
		_, err := s.log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: value}})
		ok(t, err)
	}
	s.publish("a.b")
	c.wantN(0)
	if m := c.wantN(1); m.Cursor != s.cursor(7) {
		t.Error(m.text)
	}
	s.wantCount("sluice_stream_records_poisoned_total", "sandbox", 5)
}

func TestOrigins(t *testing.T) { carried(t, testOrigins) }

func testOrigins(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Origins = []string{"https://app.example"} })
	for _, tt := range []struct {
		origin, cookie string
		refused        bool
	}{
		{"https://evil.example", "", false},
		{"https://evil.example", "session=1", true},
		{"null", "session=1", true},
		{"https://app.example", "session=1", false},
		{"http://" + s.addr, "session=1", false},
		{"", "session=1", false},
	} {
		h := http.Header{}
		if tt.origin != "" {
			h.Set("Origin", tt.origin)
		}
		if tt.cookie != "" {
			h.Set("Cookie", tt.cookie)
		}
		_, err := s.tryDial(h)
		if refused := err != nil && strings.Contains(err.Error(), "403"); refused != tt.refused {
			t.Errorf("origin %q cookie %q: %v", tt.origin, tt.cookie, err)
		}
	}
}
