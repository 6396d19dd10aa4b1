// Package dialecttest is the suite that every dialect passes: the bytes that it
// puts on the wire, held in its testdata/wire, and what the core may rely on
// whatever the dialect.
//
//	events.golden    one line for each sample: the message on the WebSocket
//	bodies.golden    one line for each sample: a webhook's body
//	sse.golden       data of each sample, then name and data of each reply, as server-sent events
//	replies.golden   one line for each reply; "-" where the dialect says nothing
//	commands.golden  what clients send, each with what is read from it
//	headers.golden   the headers of attempts: the first, one in a rotation's overlap
//	inbound.golden   what providers send, each with the event that is read from it
//	calls.golden     HTTP calls, each with what it asks of the core and its answer
//
// What is in calls, bodies and headers is of the shapes, too, that the dialect's OpenAPI
// document gives (document.go, described.go).
//
// `go test ./pkg/dialect/dialecttest -update` writes them anew; the lines that
// begin with > in commands.golden, inbound.golden and calls.golden are kept and answered.
package dialecttest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

var update = flag.Bool("update", false, "write the golden files")

// Run runs the suite; dir is the dialect's testdata/wire.
func Run(t *testing.T, d *dialect.Dialect, dir string) {
	if d.Stream != nil {
		t.Run("events", func(t *testing.T) { events(t, d.Stream, filepath.Join(dir, "events.golden")) })
		t.Run("replies", func(t *testing.T) { replies(t, d.Stream, filepath.Join(dir, "replies.golden")) })
		t.Run("commands", func(t *testing.T) { commands(t, d.Stream, filepath.Join(dir, "commands.golden")) })
		t.Run("nonsense", func(t *testing.T) { nonsense(t, d.Stream) })
	}
	if d.SSE != nil {
		t.Run("sse", func(t *testing.T) { sse(t, d.SSE, filepath.Join(dir, "sse.golden")) })
	}
	own := func(path string) {
		if !slices.ContainsFunc(d.Prefixes, func(p string) bool { return strings.HasPrefix(path+"/", p+"/") }) {
			t.Errorf("%s is below none of its prefixes %v", path, d.Prefixes)
		}
	}
	for _, r := range d.Routes {
		own(r.Path)
	}
	for _, in := range d.Inbound {
		own(in.Path)
	}
	if len(d.Inbound) > 0 {
		t.Run("inbound", func(t *testing.T) { inbound(t, d, filepath.Join(dir, "inbound.golden")) })
	}
	if len(d.Routes) > 0 {
		t.Run("calls", func(t *testing.T) { calls(t, d, filepath.Join(dir, "calls.golden")) })
	}
	t.Run("document", func(t *testing.T) { described(t, d, dir) })
	if d.Webhook != nil {
		t.Run("bodies", func(t *testing.T) { bodies(t, d.Webhook, filepath.Join(dir, "bodies.golden")) })
		t.Run("headers", func(t *testing.T) { headers(t, d.Webhook, filepath.Join(dir, "headers.golden")) })
	}
}

// samples are events that are hard to write: names that an envelope has too,
// text that JSON escapes, nothing at all.
func samples(t *testing.T) []*event.Event {
	var all []*event.Event
	for i, data := range []string{
		`{"rfq":{"id":"rfq_xyz789","pair":"USDC/USDT","amount":"1000000.00","deadline":1710000005}}`,
		`{}`,
		`{"id":"x","timestamp":{"type":1},"type":[",\"}"],"cursor":null,"network":"n","subscription_id":1,"data":2,"eventId":3,"last":true}`,
		`{"cursor":"kept"}`,
		`{"text":"für 日本 𝒳 \u001f \" \\ </script> \u2028","":0,"0":[[],{}],"deep":{"id":1,"cursor":2}}`,
	} {
		canonical, members, err := event.Canonical([]byte(data))
		if err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		all = append(all, &event.Event{
			ID: "evt_abc" + strconv.Itoa(i), Type: "rfq.created", Timestamp: time.Date(2024, 3, 10, 13, 0, 0, 999_999, time.FixedZone("", 3600)),
			Environment: event.Sandbox, Org: "org_default", Audience: event.Audience{All: true}, Key: "k",
			Data: canonical, Members: members, Offset: int64(i),
		})
	}
	return all
}

var cursor = event.Cursor{Incarnation: event.Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, Environment: event.Sandbox, Next: 258}

func events(t *testing.T, s *dialect.Stream, file string) {
	var lines []string
	for _, ev := range samples(t) {
		lines = append(lines, appended(t, func(dst []byte) []byte { return s.AppendEvent(dst, ev, cursor) }))
	}
	golden(t, file, lines)
}

func bodies(t *testing.T, w *dialect.Webhook, file string) {
	var lines []string
	ep := &endpoint.Endpoint{ID: "wh_abc123", Org: "org_456", Environment: event.Sandbox}
	for _, ev := range samples(t) {
		lines = append(lines, appended(t, func(dst []byte) []byte { return w.AppendBody(dst, ev, ep) }))
	}
	golden(t, file, lines)
	if len(w.Schedule) == 0 || w.Schedule[0] != 0 {
		t.Errorf("the schedule %v doesn't begin at once", w.Schedule)
	}
	if w.DisableAfter < 1 && !w.DisableExhausted {
		t.Error("never disables an endpoint that is dead")
	}
}

// headers holds what signs: an HMAC that anybody can make again from the lines.
func headers(t *testing.T, w *dialect.Webhook, file string) {
	attempts := []dialect.Attempt{
		{Number: 1, Secret: endpoint.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
		{Number: 3, Secret: endpoint.Secret("the oldest"), Newer: []endpoint.Secret{endpoint.Secret("the second"), endpoint.Secret("the newest")}},
	}
	var lines []string
	for i := range attempts {
		a := &attempts[i]
		a.Body, a.Now = []byte(`{"text":"für"}`), time.Unix(1710072000, 999e6)
		a.EventID, a.EventType, a.EndpointID, a.DeliveryID = "evt_1", "rfq.created", "wh_1", "dlv_1"
		lines = append(lines, fmt.Sprintf("> attempt %d at %d of %s with %d secrets", a.Number, a.Now.Unix(), a.Body, 1+len(a.Newer)))
		for _, h := range w.AppendHeaders(nil, a) {
			lines = append(lines, h.Name+": "+h.Value)
			if endpoint.Reserved(h.Name) {
				t.Errorf("%s is the dispatcher's to send", h.Name)
			}
		}
	}
	golden(t, file, lines)
}

// sse writes data of events, then names and data of all else that is said.
func sse(t *testing.T, s *dialect.SSE, file string) {
	var lines []string
	for _, ev := range samples(t) {
		lines = append(lines, appended(t, func(dst []byte) []byte { return s.AppendData(dst, ev) }))
	}
	for _, r := range allReplies() {
		var name string
		data := appended(t, func(dst []byte) []byte { dst, name = s.AppendReply(dst, &r); return dst })
		if (name == "") != (data == "-") || strings.Contains(name, ".") {
			t.Errorf("%s is named %q", data, name)
		}
		lines = append(lines, strings.TrimSpace(name+" "+data))
	}
	golden(t, file, lines)
}

func replies(t *testing.T, s *dialect.Stream, file string) {
	all := allReplies()
	var lines []string
	for i := range all {
		lines = append(lines, appended(t, func(dst []byte) []byte { return s.AppendReply(dst, &all[i]) }))
	}
	golden(t, file, lines)
	if unknown := s.AppendReply(nil, &dialect.Reply{Kind: 255}); len(unknown) > 0 {
		t.Errorf("a reply that it doesn't know is written as %s", unknown)
	}
}

func allReplies() []dialect.Reply {
	c := cursor.String()
	all := []dialect.Reply{
		{Kind: dialect.ReplyAuthOK, Environment: event.Sandbox},
		{Kind: dialect.ReplyAuthOK, Environment: event.Live},
		{Kind: dialect.ReplySubscribeOK, Channels: []string{"rfq.*", "a.b"}, Cursor: c},
		{Kind: dialect.ReplySubscribeOK, Channels: []string{"*"}, Corridors: []string{"ethereum-optimism", `"<é>"`}, Cursor: c},
		{Kind: dialect.ReplyUnsubscribeOK, Channels: []string{"rfq.*"}},
		{Kind: dialect.ReplyPing},
		{Kind: dialect.ReplyPong},
		{Kind: dialect.ReplyDropped, Count: 7, Cursor: c},
		{Kind: dialect.ReplyTruncated, Count: 1399, Cursor: c},
		{Kind: dialect.ReplyTruncated, Count: 65536, AtLeast: true, Cursor: c},
		{Kind: dialect.ReplyGoingAway, Cursor: c},
		{Kind: dialect.ReplyGoingAway},
	}
	for _, code := range []dialect.Code{dialect.BadRequest, dialect.Unauthorized, dialect.Forbidden, dialect.RateLimited, dialect.CursorExpired, dialect.InvalidCursor, dialect.Unavailable} {
		all = append(all, dialect.Reply{Kind: dialect.ReplyError, Error: &dialect.Error{Code: code, Message: "what is \"wrong\", \xff and the remedy"}})
	}
	return all
}

// appended checks what every message must be: one JSON value of valid UTF-8 with
// no name twice, on one line, behind whatever was there, the same each time.
func appended(t *testing.T, app func([]byte) []byte) string {
	t.Helper()
	const prefix = "before"
	line := string(app(nil))
	if line == "" {
		return "-"
	}
	if got := string(app([]byte(prefix))); got != prefix+line {
		t.Errorf("behind %q it is %q, alone %q", prefix, got, line)
	}
	if !jsontext.Value(line).IsValid() {
		t.Errorf("not valid JSON, or a name twice: %s", line)
	}
	if strings.ContainsAny(line, "\r\n") {
		t.Errorf("more than a line: %q", line)
	}
	return line
}

// commands decodes each line of the file that begins with >; the next says what
// is to come of it.
func commands(t *testing.T, s *dialect.Stream, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("what clients send must be in %s: %v", file, err)
	}
	var lines []string
	verbs := make(map[dialect.Verb]bool)
	for line := range strings.Lines(string(text)) {
		sent, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "> ")
		if !found {
			continue
		}
		buf := []byte(sent)
		cmd, wrong := s.Decode(buf)
		verbs[cmd.Verb] = true
		before := describe(&cmd, wrong)
		for i := range buf {
			buf[i] = '!' // the decoder must have kept none of it
		}
		if after := describe(&cmd, wrong); after != before {
			t.Errorf("the bytes of %s were kept: %s became %s", sent, before, after)
		}
		lines = append(lines, "> "+sent, before)
	}
	golden(t, file, lines)
	if !verbs[dialect.VerbSubscribe] || !verbs[0] {
		t.Errorf("%s needs a subscribe, and a message that is refused", file)
	}
}

func describe(cmd *dialect.Command, wrong *dialect.Error) string {
	if wrong != nil {
		return fmt.Sprintf("%s %s", wrong.Code, wrong.Message)
	}
	corridors := "any"
	if cmd.Corridors != nil {
		corridors = fmt.Sprintf("%q", cmd.Corridors)
	}
	text := fmt.Sprintf("%s token=%q channels=%q corridors=%s cursor=%q", verbNames[cmd.Verb], cmd.Token, cmd.Channels, corridors, cmd.Cursor)
	if cmd.Filter != "" {
		text += " filter=" + cmd.Filter
	}
	if cmd.Keep {
		text += " keep"
	}
	if cmd.Org != "" {
		text += " org=" + strconv.Quote(cmd.Org)
	}
	return text
}

var verbNames = map[dialect.Verb]string{
	dialect.VerbAuth: "auth", dialect.VerbSubscribe: "subscribe", dialect.VerbUnsubscribe: "unsubscribe",
	dialect.VerbPong: "pong", dialect.VerbPing: "ping",
}

// nonsense must be refused in words, in every dialect.
func nonsense(t *testing.T, s *dialect.Stream) {
	for _, text := range []string{
		"", " ", "null", "true", "7", `"auth"`, "[]", `[{"type":"ping"}]`, "{", "}", `{"type"}`, `{"type":}`, `{"type":"ping"`, `{"type":"ping",}`,
		`{"type":"ping"} x`, `{"type":"ping"}{"type":"ping"}`, `{"type":"ping","type":"pong"}`, `{type:"ping"}`, "{}", `{"type":null}`, `{"type":""}`,
		`{"type":7}`, `{"type":["ping"]}`, `{"type":"PING"}`, `{"type":"no such thing"}`, `{"type":"\ud800"}`, "\ufeff{}",
		strings.Repeat("[", 60_000), `{"a":` + strings.Repeat("[", 60_000), `{"type":"` + strings.Repeat("x", 60_000) + `"}`,
	} {
		_, wrong := s.Decode([]byte(text))
		switch {
		case wrong == nil:
			t.Errorf("%.60q was taken for a message", text)
		case wrong.Code != dialect.BadRequest:
			t.Errorf("%.60q: %s, want %s", text, wrong.Code, dialect.BadRequest)
		case wrong.Message == "" || len(wrong.Message) > 300:
			t.Errorf("%.60q: says %.400q", text, wrong.Message)
		}
	}
}

func golden(t *testing.T, file string, lines []string) {
	t.Helper()
	got := []byte(strings.Join(lines, "\n") + "\n")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	wanted := strings.Split(string(want), "\n")
	for i, line := range lines {
		if i >= len(wanted) || wanted[i] != line {
			t.Fatalf("%s:%d\ngot  %s\nwant %s", file, i+1, line, strings.Join(wanted[min(i, len(wanted)):min(i+1, len(wanted))], ""))
		}
	}
	t.Fatalf("%s has %d lines more", file, len(wanted)-1-len(lines))
}
