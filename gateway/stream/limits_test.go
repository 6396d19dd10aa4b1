package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

func TestPatternLimit(t *testing.T) { carried(t, testPatternLimit) }

func testPatternLimit(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"first.one"`)
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("a.b%d", i))
	}
	c.say(`{"type":"subscribe","channels":[` + list(many...) + `]}`)
	c.wantError("bad_request")
	c.say(`{"type":"subscribe","channels":[` + list(many[1:]...) + `]}`)
	c.want("subscribe.ok")
	c.say(`{"type":"subscribe","channels":["a.b0"]}`)
	c.wantError("bad_request")
	c.say(`{"type":"subscribe","channels":["Not Good"]}`)
	c.wantError("bad_request")
	s.publish("a.b0")
	s.publish("first.one")
	s.publish("a.b99")
	c.wantN(1, 2)
	s.settle() // every shard has them: who joins now comes behind them

	hostile := s.join(`"first.one"`)
	for _, channels := range []string{
		strings.Repeat(`"a.b",`, 9_999) + `"a.b"`,
		`"` + strings.Repeat("*a", 60) + `"`,
		`"` + strings.Repeat("*", 60) + `"`,
		`"a.` + strings.Repeat("b", 60_000) + `"`,
	} {
		hostile.say(`{"type":"subscribe","channels":[` + channels + `]}`)
		hostile.wantError("bad_request")
	}
	n := s.publish("first.one")
	hostile.wantN(n)
	s.settle()

	// Nor may what all subscribe to be long.
	long := make([]string, 100)
	for i := range long {
		long[i] = strings.Repeat("c", 400+i)
	}
	hostile = s.join(`"first.one"`)
	hostile.say(`{"type":"subscribe","channels":["a.b1"],"corridors":[` + list(long...) + `]}`)
	hostile.want("subscribe.ok")
	hostile.say(`{"type":"subscribe","channels":["a.b2"],"corridors":[` + list(long...) + `]}`)
	hostile.wantError("bad_request")
	s.publish("a.b2")
	hostile.wantN(s.publish("a.b1"))
}

func TestTooManyOfAnOrg(t *testing.T) { carried(t, testTooManyOfAnOrg) }

func testTooManyOfAnOrg(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.PerOrg, c.Limits.Unauth, c.Limits.Auth = 2, 4, time.Hour })
	s.join(`"a.b"`)
	second := s.join(`"a.b"`)
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.token + `"}`)
	c.wantError("rate_limited")
	c.wantClose(1013)
	second.ws.CloseNow()
	eventually(t, "its place is free", func() bool { return s.count("sluice_stream_connections", "authenticated") == 1 })
	s.join(`"a.b"`)

	eventually(t, "the others are gone", func() bool { return s.count("sluice_stream_connections", "unauthenticated") == 0 })
	// Who isn't authenticated can't take all the room, and more addresses can.
	from := func(address string, want int) (open []*client) {
		t.Helper()
		for {
			c, err := s.dialFrom(address, nil)
			if err != nil {
				if !strings.Contains(err.Error(), "503") {
					t.Fatal(err)
				}
				break
			}
			open = append(open, c)
		}
		if len(open) != want {
			t.Errorf("%s had room for %d, want %d", address, len(open), want)
		}
		return open
	}
	first := from("127.0.0.1", 2)
	from("127.0.0.2", 1)
	from("127.0.0.3", 1)
	from("127.0.0.4", 0)
	s.wantCount("sluice_stream_refused_total", "full", 2)
	first[0].ws.CloseNow()
	eventually(t, "a place is free", func() bool { return s.count("sluice_stream_connections", "unauthenticated") == 3 })
	from("127.0.0.1", 0)
	from("127.0.0.4", 1)
}

// TestRefusedComeBackApart: who was refused at one time is told to come back at
// different ones.
func TestRefusedComeBackApart(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Unauth, c.Limits.Auth = 1, time.Hour })
	s.dial()
	told := make(map[string]bool)
	for range 10 {
		resp := s.raw(t, "").response()
		if resp.StatusCode != 503 {
			t.Fatalf("%s", resp.Status)
		}
		told[resp.Header.Get("Retry-After")] = true
	}
	if told[""] || len(told) < 3 {
		t.Errorf("they were told to come back after %v", told)
	}
}

// TestTooManyPatternsOfAnOrg: what an org's connections subscribe to is bounded in
// all, whatever each has, and who leaves makes room.
func TestTooManyPatternsOfAnOrg(t *testing.T) { carried(t, testTooManyPatternsOfAnOrg) }

func testTooManyPatternsOfAnOrg(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.OrgPatterns = 5 })
	first, second := s.join(list("a.b", "a.c")), s.join(list("a.b", "a.c"))
	more := func(c *client, channels ...string) {
		c.say(`{"type":"subscribe","channels":[` + list(channels...) + `]}`)
	}
	other := s.dial()
	other.say(`{"type":"auth","token":"` + s.newKey("org_other", event.Sandbox, time.Time{}, key.Subscribe) + `"}`)
	other.want("auth.ok")
	more(other, "a.b", "a.c")
	other.want("subscribe.ok")
	for range 10 { // nothing is wrong with the messages
		more(second, "a.d", "a.e")
		second.wantError("rate_limited")
	}
	more(second, "a.d")
	second.want("subscribe.ok")
	more(first, "a.e")
	first.wantError("rate_limited")
	n := s.publish("a.c")
	first.wantN(n)
	second.wantN(n)
	second.say(`{"type":"unsubscribe","channels":["a.d","a.c"]}`)
	second.want("unsubscribe.ok")
	more(first, "a.e")
	first.want("subscribe.ok")
	more(first, "a.f")
	first.want("subscribe.ok")
	more(first, "a.g")
	first.wantError("rate_limited")
	second.ws.CloseNow()
	eventually(t, "it is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 2 })
	more(first, "a.g")
	first.want("subscribe.ok")

	full := func() { // for server-sent events, too
		t.Helper()
		if r, err := s.tryRead("?types=a.z"); err != nil || r.resp.StatusCode != 503 {
			t.Errorf("one more: %v, %v", r.resp, err)
		}
	}
	full()
	first.ws.CloseNow()
	eventually(t, "it is gone", func() bool { return s.count("sluice_stream_connections", "authenticated") == 1 })
	s.read("?types=a.1,a.2,a.3,a.4,a.5")
	full()
	s.wantCount("sluice_stream_refused_total", "patterns", 14)
}

// TestConditionsOfAnOrg: a filter counts as ten patterns of its org, and gives them back.
func TestConditionsOfAnOrg(t *testing.T) { carried(t, testConditionsOfAnOrg) }

func testConditionsOfAnOrg(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.OrgPatterns = 25 })
	c := s.join(list("a.b"))
	ask := func(n int) {
		c.say(fmt.Sprintf(`{"type":"subscribe","channels":["rfq.*"],"filter":{"n":%d}}`, n))
	}
	for n := range 2 { // 1 + 11 + 11
		ask(n)
		c.want("subscribe.ok")
	}
	ask(2)
	c.wantError("rate_limited")
	c.say(`{"type":"unsubscribe","channels":["rfq.*"]}`)
	c.want("unsubscribe.ok")
	for n := range 2 {
		ask(n)
		c.want("subscribe.ok")
	}
}

// TestFirstMessage: who isn't authenticated yet may send less at a time.
func TestFirstMessage(t *testing.T) { carried(t, testFirstMessage) }

func testFirstMessage(t *testing.T) {
	s := open(t, nil)
	of := func(size int) []byte {
		return masked(0x81, []byte(`{"type":"`+strings.Repeat("x", size-len(`{"type":""}`))+`"}`))
	}
	for _, tt := range []struct {
		before string
		most   int
	}{{"", 16 << 10}, {`{"type":"auth","token":"` + s.token + `"}`, 64 << 10}} {
		r := s.raw(t, "")
		r.response()
		wants := func(part string) {
			if op, text, err := r.frame(); err != nil || op != 0x81 || !strings.Contains(string(text), part) {
				t.Fatalf("most %d: want %s, got %x %s %v", tt.most, part, op, text, err)
			}
		}
		if tt.before != "" {
			r.nc.Write(masked(0x81, []byte(tt.before)))
			wants("auth.ok")
		}
		r.nc.Write(of(tt.most))
		wants("bad_request")
		r.nc.Write(of(tt.most + 1)[:14]) // its length is enough
		r.wantClose(1009, false)
	}
}
