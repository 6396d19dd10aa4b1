package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// asked is a request as it goes over the wire.
type asked struct {
	name    string
	line    string // method and target; empty: POST /v1/events
	headers string // each ended with \r\n; with a Content-Type, it is the only one
	body    string
	key     string // empty: that of the publisher; "-": none
}

func (a *asked) bytes(publisher string) string {
	line := a.line
	if line == "" {
		line = "POST /v1/events"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", line)
	switch a.key {
	case "":
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", publisher)
	case "-":
	default:
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", a.key)
	}
	if !strings.Contains(a.headers, "Content-Type") && line == "POST /v1/events" {
		b.WriteString("Content-Type: application/json\r\n")
	}
	if !strings.Contains(a.headers, "Content-Length") && !strings.Contains(a.headers, "Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.body))
	}
	return b.String() + a.headers + "\r\n" + a.body
}

// ask sends the request, and gives the answer as the golden file has it.
func (a *asked) ask(t *testing.T, address, publisher string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(conn, a.bytes(publisher)) // which may be answered before it is read
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	if resp.Header.Get("Content-Type") != "application/json" && len(body) > 0 {
		t.Errorf("%s: answered as %q", a.name, resp.Header.Get("Content-Type"))
	}
	said := fmt.Sprintf("%s\n\t%d", a.name, resp.StatusCode)
	for _, name := range []string{"Allow", "WWW-Authenticate", "Idempotent-Replayed"} {
		if value := resp.Header.Get(name); value != "" {
			said += " " + name + ": " + value
		}
	}
	if resp.Header.Get("Retry-After") != "" {
		said += " Retry-After"
	}
	if resp.StatusCode < 300 {
		return said + "\n" // taken as it should be; what is in it differs each time
	}
	return said + "\n\t" + strings.ReplaceAll(string(body), publisher, "THE KEY") + "\n"
}

// made sends the request, and gives the id of what it made.
func (a *asked) made(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, a.bytes(""))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	id := regexp.MustCompile(`(wh|sub)_\w+`).FindString(string(body))
	if resp.StatusCode != http.StatusCreated || id == "" {
		t.Fatalf("%s: %d %s", a.line, resp.StatusCode, body)
	}
	return id
}

// TestBadInput asks what nobody should, and some of what everybody may, and holds
// each answer, to the letter, against testdata/bad_input.txt; -update writes it
// anew.
func TestBadInput(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a, b := n.member(t), n.member(t)
	keyOf := func(m member, environment string, scopes ...string) (made apiKey) {
		in := map[string]any{"environment": environment, "scopes": scopes}
		if _, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs/"+m.org+"/keys", in, &made); err != nil {
			t.Fatal(err)
		}
		return made
	}
	mayRead, mayPublish := keyOf(a, "sandbox", "subscribe"), keyOf(a, "sandbox", "publish")
	live, revoked := keyOf(a, "live", "subscribe"), keyOf(a, "sandbox", "publish")
	if _, err := n.admin.call(t.Context(), "DELETE", "/admin/v1/orgs/"+a.org+"/keys/"+revoked.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	expired := string(key.New(event.Sandbox)) // calls make none that has
	if _, err := n.control.Do(t.Context(), &control.CreateKey{Org: a.org, Environment: event.Sandbox, Scopes: []key.Scope{key.Publish}, Hash: key.Hash(expired), ExpiresAt: time.Now().Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	mine, theirs, hook := a.publish(t, "rfq.created", nil), b.publish(t, "rfq.created", nil), b.hook(t, nil, "*")
	free := n.member(t)
	if _, err := n.admin.call(t.Context(), "PATCH", "/admin/v1/orgs/"+free.org, map[string]string{"plan": "free"}, nil); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(n.URL(), "http://")

	const ok = `{"type":"a.b","data":{}}`
	of := func(data string) string { return `{"type":"a.b","data":` + data + `}` }
	typed := func(typ string) string { return `{"type":` + typ + `,"data":{}}` }
	with := func(member string) string { return `{"type":"a.b","data":{},` + member + `}` }
	batch := func(n int, last string) string {
		return `{"events":[` + strings.Repeat(ok+",", n-1) + last + `]}`
	}
	cases := []asked{
		{name: "1 nothing"},
		{name: "2 an open brace", body: `{`},
		{name: "3 a list", body: `[]`},
		{name: "3 a text", body: `"x"`},
		{name: "3 null", body: `null`},
		{name: "4 something behind", body: ok + ok},
		{name: "5 a name twice", body: `{"type":"a.b","data":{},"type":"a.b"}`},
		{name: "5 a name twice in data", body: of(`{"a":{"b":1,"b":2}}`)},
		{name: "6 bad UTF-8", body: of("{\"a\":\"\xff\"}")},
		{name: "7 a lone surrogate", body: of(`{"a":"\ud800"}`)},
		{name: "8 as deep as may be", body: of(strings.Repeat(`{"a":`, 63) + `{}` + strings.Repeat(`}`, 63))},
		{name: "8 one deeper", body: of(strings.Repeat(`{"a":`, 64) + `{}` + strings.Repeat(`}`, 64))},
		{name: "8 a million brackets", body: strings.Repeat("[", 1<<20)},
		{name: "8 a million brackets in data", body: `{"type":"a.b","data":{"a":` + strings.Repeat("[", 1<<20)},
		{name: "9 a number of a million digits", body: of(`{"a":` + strings.Repeat("1", 1<<20) + `}`)},
		{name: "9 a number beyond 2^53", body: of(`{"a":[9007199254740993]}`)},
		{name: "9 a number that overflows", body: of(`{"a":1e400}`)},
		{name: "10 not a number", body: of(`{"a":NaN}`)},
		{name: "11 as large as may be, but no JSON", body: strings.Repeat(" ", 4<<20)},
		{name: "11 one byte more", body: strings.Repeat(" ", 4<<20+1)},
		{name: "11 data too large", body: of(`{"a":"` + strings.Repeat("x", 256<<10) + `"}`)},
		{name: "12 chunked, one byte more", headers: "Transfer-Encoding: chunked\r\n", body: "400001\r\n" + strings.Repeat(" ", 4<<20+1) + "\r\n0\r\n\r\n"},
		{name: "13 much declared, nothing sent", headers: "Content-Length: 999999999\r\n"},
		{name: "14 XML", headers: "Content-Type: text/xml\r\n", body: `<a/>`},
		{name: "14 a form", headers: "Content-Type: application/x-www-form-urlencoded\r\n", body: `type=a.b`},
		{name: "14 JSON by another name", headers: "Content-Type: APPLICATION/JSON; charset=utf-8\r\n", body: ok},
		{name: "15 compressed", headers: "Content-Encoding: gzip\r\n", body: ok},
		{name: "16 a byte order mark", body: "\ufeff" + ok},
		{name: "17 no type", body: `{"data":{}}`},
		{name: "17 no data", body: `{"type":"a.b"}`},
		{name: "18 type empty", body: typed(`""`)},
		{name: "18 type with an empty word", body: typed(`"a..b"`)},
		{name: "18 type of one word", body: typed(`"a"`)},
		{name: "18 type *", body: typed(`"*"`)},
		{name: "18 type of 257 bytes", body: typed(`"a.` + strings.Repeat("b", 255) + `"`)},
		{name: "18 type a path", body: typed(`"../x"`)},
		{name: "18 type with a control character", body: typed(`"a.\u0000"`)},
		{name: "18 type a number", body: typed(`7`)},
		{name: "20 id with a space", body: with(`"id":"a b"`)},
		{name: "20 id empty", body: with(`"id":""`)},
		{name: "20 id of 65 bytes", body: with(`"id":"` + strings.Repeat("x", 65) + `"`)},
		{name: "20 id twice in a batch", body: `{"events":[` + with(`"id":"x"`) + `,` + with(`"id":"x"`) + `]}`},
		{name: "21 key of 256 bytes", headers: "Idempotency-Key: " + strings.Repeat("k", 256) + "\r\n", body: ok},
		{name: "21 key that isn't ASCII", headers: "Idempotency-Key: \u00e9\r\n", body: ok},
		{name: "21 key of 255 bytes", headers: "Idempotency-Key: " + strings.Repeat("k", 255) + "\r\n", body: ok},
		{name: "21 the same key", headers: "Idempotency-Key: " + strings.Repeat("k", 255) + "\r\n", body: ok},
		{name: "21 the same key, another body", headers: "Idempotency-Key: " + strings.Repeat("k", 255) + "\r\n", body: of(`{"a":1}`)},
		{name: "21 an id", body: with(`"id":"once"`)},
		{name: "21 the same id, another event", body: with(`"id":"once","key":"x"`)},
		{name: "22 time a word", body: with(`"timestamp":"not-a-date"`)},
		{name: "22 time a day", body: with(`"timestamp":"2026-11-22"`)},
		{name: "22 time a number", body: with(`"timestamp":1795315842`)},
		{name: "22 time past the year 9999", body: with(`"timestamp":"9999-12-31T23:59:59-01:00"`)},
		{name: "23 a member of another name", body: with(`"audiense":"*"`)},
		{name: "24 a batch of none", body: `{"events":[]}`},
		{name: "24 a batch of 1,001", body: batch(1001, ok)},
		{name: "24 one bad of 100", body: batch(100, typed(`"A"`))},
		{name: "24 a line of none", headers: "Content-Type: application/x-ndjson\r\n"},
		{name: "24 one bad line", headers: "Content-Type: application/x-ndjson\r\n", body: ok + "\n" + typed(`"A"`) + "\n"},
		{name: "25 no key", key: "-", body: ok},
		{name: "26 a key with a mistake", key: "sk_test_" + strings.Repeat("x", 38), body: ok},
		{name: "26 a key of nobody's", key: string(key.New(event.Sandbox)), body: ok},
		{name: "27 a revoked key", key: revoked.Key, body: ok},
		{name: "27 an expired key", key: expired, body: ok},
		{name: "28 sandbox's event, live's key", line: "GET /v1/events/" + mine, key: live.Key},
		{name: "29 two keys", headers: "X-API-Key: another\r\n", body: ok},
		{name: "29 another scheme", key: "-", headers: "Authorization: Basic YTpi\r\n", body: ok},
		{name: "30 a key in the query", line: "GET /v1/events?apiKey=" + mayRead.Key, key: "-"},
		{name: "30 a key in the query beside one in the header", line: "GET /v1/events?apiKey=" + mayRead.Key},
		{name: "31 a key that may not publish", key: mayRead.Key, body: ok},
		{name: "31 a key that may not read", line: "GET /v1/events", key: mayPublish.Key},
		{name: "31 a key that may not broadcast", key: mayPublish.Key, body: with(`"audience":"*"`)},
		{name: "31 an org that isn't", body: with(`"audience":["org_nobody"]`)},
		{name: "32 another org's event", line: "GET /v1/events/" + theirs},
		{name: "32 another org's endpoint", line: "GET /v1/webhooks/" + hook.id},
		{name: "32 to change another org's endpoint", line: "PATCH /v1/webhooks/" + hook.id, headers: "Content-Type: application/json\r\n", body: `{}`},
		{name: "32 to remove another org's endpoint", line: "DELETE /v1/webhooks/" + hook.id},
		{name: "33 an id with a slash", line: "GET /v1/events/a/b"},
		{name: "33 an id with a slash, encoded", line: "GET /v1/events/a%2Fb"},
		{name: "33 an id with a zero byte", line: "GET /v1/events/a%00b"},
		{name: "33 an id of 10 kB", line: "GET /v1/events/" + strings.Repeat("x", 10<<10)},
		{name: "33 an endpoint's id of 10 kB", line: "GET /v1/webhooks/" + strings.Repeat("x", 10<<10)},
		{name: "33 dots", line: "GET /v1/webhooks/../events"},
		{name: "34 another method", line: "PUT /v1/events"},
		{name: "34 another method for one event", line: "DELETE /v1/events/" + mine},
		{name: "35 another path", line: "GET /v1/nothing"},
		{name: "35 a slash behind", line: "GET /v1/events/"},
		{name: "36 limit 0", line: "GET /v1/events?limit=0"},
		{name: "36 limit -1", line: "GET /v1/events?limit=-1"},
		{name: "36 limit 1e9", line: "GET /v1/events?limit=1000000000"},
		{name: "36 limit a word", line: "GET /v1/events?limit=abc"},
		{name: "37 cursor no cursor", line: "GET /v1/events?cursor=garbage"},
		{name: "37 cursor of another log", line: "GET /v1/events?cursor=ATRvSWZjUkF4AQAAAAAAAAAA"},
		{name: "38 from behind to", line: "GET /v1/events?from=2026-11-22T00:00:00Z&to=2026-11-21T00:00:00Z"},
		{name: "38 from no time", line: "GET /v1/events?from=yesterday"},
		{name: "38 a parameter of another name", line: "GET /v1/events?type=rfq.created"},
	}
	var got strings.Builder
	for _, c := range cases {
		began := processorTime(t)
		got.WriteString(c.ask(t, address, a.token))
		if took := processorTime(t) - began; took > 5*time.Second {
			t.Errorf("%s: answered after %v of processor time", c.name, took)
		}
	}
	limited := asked{name: "39 more than the plan has", line: "GET /v1/webhooks", key: free.token}
	for range 11 {
		if said := limited.ask(t, address, a.token); strings.Contains(said, "429") {
			got.WriteString(said)
			break
		}
	}
	holdAnswers(t, "bad_input.txt", got.String())
}

// processorTime is what this process has had of the processors, the node that it asks
// included: others on the machine don't add to it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// holdAnswers compares what was answered with a file of testdata, line by line.
func holdAnswers(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	is, should := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(is), len(should)) {
		if is[i] != should[i] {
			t.Errorf("%s: line %d is\n%.600s\nand not\n%.600s", file, i+1, is[i], should[i])
		}
	}
	if len(is) != len(should) {
		t.Errorf("%s: %d lines, not %d", file, len(is), len(should))
	}
}
