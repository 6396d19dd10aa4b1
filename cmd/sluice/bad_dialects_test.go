package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// asks is what TestBadDialects needs to know of a dialect to ask what nobody should.
type asks struct {
	create, list, endpoint string // paths; %s stands for an id
	change                 string // method and path of a call with a body about one endpoint
	spec                   string // the body of create; %s stands for the URL, in whose member it begins
	listed                 bool   // the body has events, and may have a secret
	headers                string // beside the key, ended with \r\n
	stream                 string // empty: it has none
	enter                  string // a message that lets in; %s stands for the key
	subscribe              string // one that subscribes; %s stands for a list of patterns
	more                   []asked
	said                   [][]string // messages on the stream, and what they come to
}

// TestBadDialects holds every answer to bad input, to the letter, in the words of
// the dialect: in testdata/bad_<dialect>.txt; -update writes it anew.
func TestBadDialects(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a, b, free := n.member(t), n.member(t), n.member(t)
	if _, err := n.admin.call(t.Context(), "PATCH", "/admin/v1/orgs/"+free.org, map[string]string{"plan": "free"}, nil); err != nil {
		t.Fatal(err)
	}
	var live apiKey
	in := map[string]any{"environment": "live", "scopes": []string{"manage"}}
	if _, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs/"+a.org+"/keys", in, &live); err != nil {
		t.Fatal(err)
	}
	registered := map[string]string{"email": "taken@example.com", "password": accountPassword, "organization_name": "Taken", "organization_slug": "taken"}
	if _, err := a.call(t.Context(), "POST", "/auth/register", registered, nil); err != nil {
		t.Fatal(err)
	}
	json := "Content-Type: application/json\r\n"
	const transfer = `"type":"TRANSFER","network":"mainnet","address":"0x2000000000000000000000000000000000000001"`
	filtered := func(filters string) string {
		return `{"webhook_url":"` + somewhere + `",` + transfer + `,"filters":[` + filters + `]}`
	}
	const register, login = "POST /auth/register", "POST /auth/login"
	account := func(more, instead string) string { // a registration, with one member instead of its own
		email, password := `"email":"user@example.com"`, `"password":"`+accountPassword+`"`
		if strings.HasPrefix(instead, `"email"`) {
			email = instead
		} else if instead != "" {
			password = instead
		}
		return "{" + email + "," + password + `,"organization_name":"My Company"` + more + "}"
	}
	const listed = `{"url":"%s","events":["a.b"]}`
	tenant := "X-Tenant-ID: " + a.org + "\r\n"
	for name, d := range map[string]asks{
		"tenzro": {
			create: "/api/events/webhook", list: "/api/events/webhook/list", endpoint: "/api/events/webhook/%s", change: "POST /api/events/webhook/%s/enable",
			spec: listed, listed: true,
			stream: "/events/stream", enter: `{"type":"subscribe","events":["a.b"],"apiKey":"%s"}`, subscribe: `{"type":"subscribe","events":[%s]}`,
			said: [][]string{{`{"type":"subscribe","events":["a.b"],"apiKey":"` + b.token + `"}`}},
		},
		"quub": {
			create: "/events/v1/webhooks", list: "/events/v1/webhooks", endpoint: "/events/v1/webhooks/%s", change: "PATCH /events/v1/webhooks/%s",
			spec: listed, listed: true, headers: tenant, stream: "/events/v1/stream",
			enter: `{"type":"auth","token":"%s","orgId":"` + a.org + `"}`, subscribe: `{"type":"subscribe","events":[%s]}`,
			more: []asked{
				{name: "31 no tenant", line: "GET /events/v1/webhooks"},
				{name: "31 a tenant that the key isn't of", line: "GET /events/v1/webhooks", headers: "X-Tenant-ID: " + b.org + "\r\n"},
				{name: "31 two tenants", line: "GET /events/v1/webhooks", headers: tenant + "X-Tenant-ID: " + b.org + "\r\n"},
				{name: "31 no tenant, and no key", line: "GET /events/v1/webhooks", key: "-"},
				{name: "50 a test of no type", line: "POST /events/v1/webhooks/{mine}/test", headers: tenant + json, body: `{"eventType":"Not A Type"}`},
				{name: "50 a test of a number", line: "POST /events/v1/webhooks/{mine}/test", headers: tenant + json, body: `{"eventType":7}`},
				{name: "36 logs, limit 0", line: "GET /events/v1/webhooks/{mine}/logs?limit=0", headers: tenant},
				{name: "37 logs, cursor no cursor", line: "GET /events/v1/webhooks/{mine}/logs?cursor=garbage", headers: tenant},
			},
			said: [][]string{
				{`{"type":"auth","token":"` + b.token + `","orgId":"` + b.org + `"}`},
				{`{"type":"auth","token":"` + a.token + `","orgId":"` + b.org + `"}`},
			},
		},
		"tempo": {
			create: "/api/v1/subscriptions", list: "/api/v1/subscriptions", endpoint: "/api/v1/subscriptions/%s", change: "PATCH /api/v1/subscriptions/%s",
			spec: `{"webhook_url":"%s",` + transfer + `}`,
			more: []asked{
				{name: "19 a type of another kind", body: `{"webhook_url":"https://example.com/","type":"SWAP","network":"mainnet","address":"0x2000000000000000000000000000000000000001"}`},
				{name: "28 mainnet, on a plan without", key: free.token, body: filtered("")},
				{name: "32 to see another org's", line: "GET /api/v1/subscriptions/{theirs}"},
				{name: "32 the logs of another org's", line: "GET /api/v1/webhooks/logs?subscription_id={theirs}"},
				{name: "32 to see one's own by a key for live", line: "GET /api/v1/subscriptions/{mine}", key: live.Key},
				{name: "36 offset -1", line: "GET /api/v1/subscriptions?offset=-1"},
				{name: "36 offset 1e9", line: "GET /api/v1/subscriptions?offset=1000000000"},
				{name: "36 logs, limit 0", line: "GET /api/v1/webhooks/logs?limit=0"},
				{name: "36 logs of what is no subscription", line: "GET /api/v1/webhooks/logs?subscription_id=garbage"},
				{name: "36 logs by another parameter", line: "GET /api/v1/webhooks/logs?subscription=x"},
				{name: "53 no address", body: `{"webhook_url":"https://example.com/","type":"TRANSFER","network":"mainnet"}`},
				{name: "53 an address that is too short", body: `{"webhook_url":"https://example.com/","type":"TRANSFER","network":"mainnet","address":"0x20c0"}`},
				{name: "53 an address with a wrong checksum", body: `{"webhook_url":"https://example.com/","type":"TRANSFER","network":"mainnet","address":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"}`},
				{name: "53 another network", body: `{"webhook_url":"https://example.com/","type":"TRANSFER","network":"both","address":"0x2000000000000000000000000000000000000001"}`},
				{name: "53 21 filters", body: filtered(`{"type":"amount_min","value":"1"}` + strings.Repeat(`,{"type":"amount_min","value":"1"}`, 20))},
				{name: "53 4 filters on the smallest plan", key: free.token, body: strings.Replace(filtered(`{"type":"amount_min","value":"1"}`+strings.Repeat(`,{"type":"amount_min","value":"1"}`, 3)), "mainnet", "testnet", 1)},
				{name: "53 3 filters on the smallest plan", key: free.token, body: strings.Replace(filtered(`{"type":"amount_min","value":"1"}`+strings.Repeat(`,{"type":"amount_min","value":"1"}`, 2)), "mainnet", "testnet", 1)},
				{name: "53 10,000 filters that are none", body: filtered("{}" + strings.Repeat(",{}", 9999))},
				{name: "53 a negative amount", body: filtered(`{"type":"amount_min","value":"-1"}`)},
				{name: "53 an amount that is none", body: filtered(`{"type":"amount_min","value":"1e400"}`)},
				{name: "53 an amount that is a number", body: filtered(`{"type":"amount_min","value":1}`)},
				{name: "53 an unknown filter", body: filtered(`{"type":"memo","value":"x"}`)},
				{name: "53 a filter with another member", body: filtered(`{"type":"amount_min","value":"1","not":true}`)},
				{name: "34 nothing at a path below", line: "GET /api/v1/nothing/here"},
				{name: "34 nothing at the top", line: "GET /api/v1"},
				{name: "31 a key for live, made by one for the sandbox", line: "POST /api/v1/api-keys", body: `{"environment":"live"}`},
				{name: "51 a key that isn't there", line: "DELETE /api/v1/api-keys/key_none"},
				{name: "53 a key for another network", line: "POST /api/v1/api-keys", body: `{"network":"devnet"}`},
				{name: "53 a key for -1 days", line: "POST /api/v1/api-keys", body: `{"expires_in_days":-1}`},
				{name: "53 a key for 1e9 days", line: "POST /api/v1/api-keys", body: `{"expires_in_days":1000000000}`},
				{name: "53 a key for 1e99 days", line: "POST /api/v1/api-keys", body: `{"expires_in_days":1e99}`},
				{name: "53 a key with a name of 257 bytes", line: "POST /api/v1/api-keys", body: `{"name":"` + strings.Repeat("x", 257) + `"}`},
				{name: "53 a key with scopes", line: "POST /api/v1/api-keys", body: `{"scopes":["broadcast"]}`},
				{name: "36 usage of no dates", line: "GET /api/v1/usage?start_date=2026-02-30&end_date=x"},
				{name: "36 usage of a period that ends before it begins", line: "GET /api/v1/usage?start_date=2026-02-02&end_date=2026-02-01"},
				{name: "36 usage by another parameter", line: "GET /api/v1/usage?from=2026-02-02"},
				{name: "36 keys, offset -1", line: "GET /api/v1/api-keys?offset=-1"},
				// One address may register thirty times in a minute.
				{name: "54 register with nothing", line: register, key: "-", body: `{}`},
				{name: "54 register an address that is none", line: register, key: "-", body: account("", `"email":"user at example.com"`)},
				{name: "54 register with a password of 7 bytes", line: register, key: "-", body: account("", `"password":"1234567"`)},
				{name: "54 register with a password of 1,025 bytes", line: register, key: "-", body: account("", `"password":"`+strings.Repeat("x", 1025)+`"`)},
				{name: "54 register a slug that is a path", line: register, key: "-", body: account(`,"organization_slug":"../"`, "")},
				{name: "54 register a slug of ours", line: register, key: "-", body: account(`,"organization_slug":"admin"`, "")},
				{name: "54 register with a plan", line: register, key: "-", body: account(`,"plan":"pro"`, "")},
				{name: "54 register an address that is taken", line: register, key: "-", body: account("", `"email":"TAKEN@example.com"`)},
				{name: "54 register a slug that is taken", line: register, key: "-", body: account(`,"organization_slug":"taken"`, "")},
				{name: "54 log in with nothing", line: login, key: "-", body: `{}`},
				{name: "54 log in with a number", line: login, key: "-", body: `{"email":7,"password":"x"}`},
				{name: "54 log in with a wrong password", line: login, key: "-", body: `{"email":"taken@example.com","password":"wrong"}`},
				{name: "54 log in as nobody", line: login, key: "-", body: `{"email":"nobody@example.com","password":"wrong"}`},
				{name: "54 log in with 8 kB", line: login, key: "-", body: `{"email":"taken@example.com","password":"` + strings.Repeat("x", 8<<10) + `"}`},
				{name: "54 log in by another method", line: "GET /auth/login", key: "-"},
				{name: "54 log out with a key", line: "POST /auth/logout"},
				{name: "54 log out with none", line: "POST /auth/logout", key: "-"},
				{name: "54 log out with a session that has ended", line: "POST /auth/logout", key: "-", headers: "Cookie: __Host-session=session_live_x\r\n"},
				{name: "34 nothing at a path of accounts", line: "GET /auth/me"},
				{name: "53 a change to a filter that is none", line: "PATCH /api/v1/subscriptions/{mine}", body: `{"filters":[{"type":"amount_min","value":""}]}`},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := badStage{t: t, n: n, a: a, b: b, d: d}
			got := s.calls() + s.streams()
			got = strings.NewReplacer(a.org, "ORG", b.org, "OTHER ORG", a.token, "THE KEY", b.token, "OTHER KEY").Replace(got)
			holdAnswers(t, "bad_"+name+".txt", got)
		})
	}
}

// somewhere is a URL that may be an endpoint's.
const somewhere = "https://example.com/"

type badStage struct {
	t    *testing.T
	n    *storyNode
	a, b member
	d    asks
}

// calls asks by HTTP.
func (s *badStage) calls() string {
	t, d := s.t, &s.d
	made := make(map[string]string) // an endpoint of each org's
	for who, m := range map[string]member{"mine": s.a, "theirs": s.b} {
		headers := strings.ReplaceAll(d.headers, s.a.org, m.org)
		first := asked{line: "POST " + d.create, key: m.token, headers: headers + "Content-Type: application/json\r\n", body: fmt.Sprintf(d.spec, somewhere)}
		made[who] = first.made(t, strings.TrimPrefix(s.n.URL(), "http://"))
	}
	poor, revoked := s.key("subscribe"), s.key("manage")
	if _, err := s.n.admin.call(t.Context(), "DELETE", "/admin/v1/orgs/"+s.a.org+"/keys/"+revoked.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	url := func(u string) string { return fmt.Sprintf(d.spec, u) }
	ok := url(somewhere)
	member, rest, _ := strings.Cut(ok[1:], ",")
	with := func(more string) string { return ok[:len(ok)-1] + "," + more + "}" }
	events := func(list string) string { return `{"url":"https://example.com/","events":` + list + `}` }
	secret := func(text string) string { return with(`"secret":"` + text + `"`) }
	at := func(id string) string { return fmt.Sprintf(d.endpoint, id) }
	cases := []asked{
		{name: "1 nothing"},
		{name: "2 an open brace", body: `{`},
		{name: "3 a list", body: `[]`},
		{name: "3 a text", body: `"x"`},
		{name: "3 null", body: `null`},
		{name: "4 something behind", body: ok + ok},
		{name: "5 a name twice", body: "{" + member + "," + ok[1:]},
		{name: "6 bad UTF-8", body: url("https://example.com/\xff")},
		{name: "7 a lone surrogate", body: url(`https://example.com/\ud800`)},
		{name: "8 a million brackets", body: strings.Repeat("[", 1<<20)},
		{name: "11 one byte more", body: strings.Repeat(" ", 1<<20+1)},
		{name: "13 much declared, nothing sent", headers: "Content-Length: 999999999\r\n"},
		{name: "14 XML", headers: "Content-Type: text/xml\r\n", body: `<a/>`},
		{name: "15 compressed", headers: "Content-Encoding: gzip\r\n", body: ok},
		{name: "16 a byte order mark", body: "\ufeff" + ok},
		{name: "23 a member of another name", body: with(`"retries":3`)},
		{name: "25 no key", key: "-", body: ok},
		{name: "26 a key with a mistake", key: "sk_test_" + strings.Repeat("x", 38), body: ok},
		{name: "26 a key of nobody's", key: string(key.New(event.Sandbox)), body: ok},
		{name: "27 a revoked key", key: revoked.Key, body: ok},
		{name: "29 two keys", headers: "X-API-Key: another\r\n", body: ok},
		{name: "30 a key in the query", line: "GET " + d.list + "?apiKey=" + s.a.token, key: "-"},
		{name: "31 a key that may not manage", key: poor.Key, body: ok},
		{name: "32 to remove another org's endpoint", line: "DELETE " + at(made["theirs"])},
		{name: "32 to change another org's endpoint", line: fmt.Sprintf(d.change, made["theirs"]), body: `{}`},
		{name: "33 an id with a slash", line: "DELETE " + at("a/b")},
		{name: "33 an id with a slash, encoded", line: "DELETE " + at("a%2Fb")},
		{name: "33 an id with a zero byte", line: "DELETE " + at("a%00b")},
		{name: "33 an id of 10 kB", line: "DELETE " + at(strings.Repeat("x", 10<<10))},
		{name: "34 another method", line: "PUT " + d.create},
		{name: "34 another method for one endpoint", line: "PUT " + at(made["mine"])},
		{name: "35 a slash behind", line: "GET " + d.list + "/"},
		{name: "36 limit 0", line: "GET " + d.list + "?limit=0"},
		{name: "36 limit -1", line: "GET " + d.list + "?limit=-1"},
		{name: "36 limit 1e9", line: "GET " + d.list + "?limit=1000000000"},
		{name: "36 limit a word", line: "GET " + d.list + "?limit=abc"},
		{name: "37 cursor no cursor", line: "GET " + d.list + "?cursor=garbage"},
		{name: "40 no URL", body: "{" + rest},
		{name: "40 URL a number", body: strings.Replace(ok, `"`+somewhere+`"`, "7", 1)},
		{name: "40 URL of another scheme", body: url("ftp://example.com/")},
		{name: "40 URL a program", body: url("javascript:alert(1)")},
		{name: "40 URL of no host", body: url("/hook")},
		{name: "42 URL with a password", body: url("https://user:word@example.com/")},
		{name: "44 URL with port 0", body: url("https://example.com:0/")},
		{name: "44 URL with port 65536", body: url("https://example.com:65536/")},
		{name: "45 URL of 2,049 bytes", body: url("https://example.com/" + strings.Repeat("x", 2029))},
	}
	if d.listed {
		cases = append(cases, []asked{
			{name: "47 no events", body: events(`[]`)},
			{name: "47 events left out", body: `{"url":"https://example.com/"}`},
			{name: "47 101 events", body: events(`["a.b"` + strings.Repeat(`,"a.b"`, 100) + `]`)},
			{name: "47 two stars", body: events(`["a.b","**"]`)},
			{name: "47 an event that is a number", body: events(`["a.b",7]`)},
			{name: "47 an event with a capital", body: events(`["Order.filled"]`)},
			{name: "48 secret empty", body: secret("")},
			{name: "48 secret of one byte", body: secret("x")},
			{name: "48 secret of 10 kB", body: secret(strings.Repeat("x", 10<<10))},
			{name: "48 secret with a control character", body: secret(`12345678\u0007`)},
			{name: "48 secret that is no base64", body: secret("whsec_no base64")},
		}...)
	}
	cases = append(cases, []asked{
		{name: "50 a change of another name", line: fmt.Sprintf(d.change, made["mine"]), body: `{"id":"wh_1"}`},
		{name: "51 to remove", line: "DELETE " + at(made["mine"])},
		{name: "51 to remove once more", line: "DELETE " + at(made["mine"])},
	}...)
	var said strings.Builder
	for i := range cases {
		cases[i].headers += d.headers
	}
	for _, c := range append(d.more, cases...) {
		if c.line == "" {
			c.line = "POST " + d.create
		}
		if c.body != "" && !strings.Contains(c.headers, "Content-Type") {
			c.headers += "Content-Type: application/json\r\n"
		}
		c.line = strings.NewReplacer("{mine}", made["mine"], "{theirs}", made["theirs"]).Replace(c.line)
		began := processorTime(t)
		answer := c.ask(t, strings.TrimPrefix(s.n.URL(), "http://"), s.a.token)
		said.WriteString(strings.NewReplacer(made["mine"], "MINE", made["theirs"], "THEIRS").Replace(answer))
		if took := processorTime(t) - began; took > 10*time.Second {
			t.Errorf("%s: answered after %v of processor time", c.name, took)
		}
	}
	return said.String()
}

func (s *badStage) key(scopes ...string) (made apiKey) {
	s.t.Helper()
	in := map[string]any{"environment": "sandbox", "scopes": scopes}
	if _, err := s.n.admin.call(s.t.Context(), "POST", "/admin/v1/orgs/"+s.a.org+"/keys", in, &made); err != nil {
		s.t.Fatal(err)
	}
	return made
}

// streams says on a WebSocket what nobody should, each time on a new one.
func (s *badStage) streams() string {
	d := &s.d
	if d.stream == "" {
		return ""
	}
	enter := fmt.Sprintf(d.enter, s.a.token)
	subscribe := func(list string) string { return fmt.Sprintf(d.subscribe, list) }
	bad := `{"type":"no such thing"}`
	talks := [][]string{
		{fmt.Sprintf(d.enter, "sk_test_nobodys")},
		{subscribe(`"a.b"`)},
		{bad, "[]", "not JSON", "binary", `{"type":7}`},
		{enter, "\xff"},
		{enter, `{"type":"` + strings.Repeat("x", 64<<10) + `"}`},
		{enter, subscribe(`"a.b"` + strings.Repeat(`,"a.b"`, 100))},
		{enter, subscribe(`"` + strings.Repeat("x", 257) + `"`)},
		{enter, subscribe(`"` + strings.Repeat("a*", 60) + `"`)},
		{enter, subscribe(`"a.b","**"`)},
		{enter, strings.Replace(subscribe(`"a.b"`), `"type"`, `"cursor":"garbage","type"`, 1)},
	}
	for _, more := range d.said {
		talks = append(talks, append([]string{enter}, more...))
	}
	var said strings.Builder
	for _, talk := range talks {
		said.WriteString(s.talk(talk))
	}
	return said.String()
}

// talk says one message after the other, and what each is answered with until the
// next is: all that comes before the answer to a ping.
func (s *badStage) talk(messages []string) string {
	s.t.Helper()
	ctx := s.t.Context()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.n.URL(), "http")+s.d.stream, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.CloseNow()
	var said strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&said, "> %.120q\n", m)
		kind := websocket.MessageText
		if m == "binary" {
			kind = websocket.MessageBinary
		}
		conn.Write(ctx, kind, []byte(m))
		conn.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`))
		for {
			_, text, err := conn.Read(ctx)
			var closed websocket.CloseError
			if errors.As(err, &closed) {
				fmt.Fprintf(&said, "\tclosed with %d %s\n", closed.Code, closed.Reason)
				return said.String()
			} else if err != nil {
				s.t.Fatalf("%.100q: %v", m, err)
			}
			if string(text) == `{"type":"pong"}` {
				break
			}
			before, _, _ := strings.Cut(string(text), `,"cursor":`) // which differs each time
			fmt.Fprintf(&said, "\t%s\n", before)
		}
	}
	return said.String()
}
