package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// snippets are the programs and commands that the guides of the dialects print, as
// they are printed, in testdata/snippets. What they leave to their readers is
// beside them: *-receiver.* and flask.py listen, sockets.cjs is Node's.
type snippets struct {
	t       *testing.T
	p       *process
	admin   *client
	clients string
	dir     string // with the host names and placeholders of the guides filled in
}

// fill writes a snippet with what stands for hosts, keys and ids in its place, and
// gives its path.
func (s *snippets) fill(name string, fill ...string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "snippets", name))
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(strings.NewReplacer(fill...).Replace(string(text))), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// run starts a program, until the test ends.
func (s *snippets) run(name string, args ...string) <-chan string {
	s.t.Helper()
	env := []string{"TETRAFI_API_KEY=" + s.p.key, "NODE_PATH=" + filepath.Join(s.clients, "node_modules"), "WEBHOOK_SECRET=your-webhook-secret", "PYTHONDONTWRITEBYTECODE=1"}
	return runClient(s.t, env, nil, name, args...)
}

// port is the one that a receiver says it listens on.
func (s *snippets) port(lines <-chan string) int {
	s.t.Helper()
	var at struct{ Port int }
	if err := json.Unmarshal([]byte(awaitLine(s.t, lines, "port")), &at); err != nil {
		s.t.Fatal(err)
	}
	return at.Port
}

func (s *snippets) publish(event string) {
	s.t.Helper()
	if err := s.p.call(s.t.Context(), "POST", "/v1/events", "application/json", []byte(event), 202, nil); err != nil {
		s.t.Fatal(err)
	}
}

// nasty is data that comes out of Node's and Python's parsers and writers as it went in,
// if it is in their form: whole floats, exponents, the largest integers, names that look
// like numbers, all that JSON escapes, and much in one another.
var nasty = `{"whole":45000.0,"small":0.1,"large":1e21,"negative":-0,"most":9007199254740991,"least":-9007199254740991,"b":1,"2":"two","1":"one","text":"\" \\ \/ ' \u001f </script>",` +
	`"control":"\u0000\u0001\b\t\n\f\r","big":"9007199254740993","deep":` +
	strings.Repeat(`[{"a":`, 25) + `[]` + strings.Repeat(`}]`, 25) + `,"none":null}`

// foreign is text that Python writes in another way than Node does.
const foreign = `"delete":"\u007f","note":"naïve 日本 𝒳 👩‍👩‍👧 \u2028","日本":1`

// tiny is numbers that Python writes in another way than Node does, whose form rules.
const tiny = `"tiny":1e-7,"tinier":5E-324,"largest":1.7976931348623157e308`

// TestPrintedSnippets runs what the guides print against the product as a process.
func TestPrintedSnippets(t *testing.T) {
	clients, err := nodeClients()
	if err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data"), "--admin-token", "the operator"})
	admin := &client{base: "http://" + p.ops, token: "the operator"}
	for name, test := range map[string]func(*snippets){"tenzro": tenzroSnippets, "quub": quubSnippets, "tempo": tempoSnippets, "tetrafi": tetrafiSnippets, "marketplace": marketplaceSnippets} {
		t.Run(name, func(t *testing.T) {
			test(&snippets{t: t, p: p, admin: admin, clients: clients, dir: t.TempDir()})
		})
	}
}

func tenzroSnippets(s *snippets) {
	receiver := s.run("node", "testdata/snippets/tenzro-receiver.cjs", s.fill("tenzro-verify.js"))
	body, err := os.ReadFile(s.fill("tenzro-create.json", "https://api.yourapp.com", fmt.Sprintf("http://127.0.0.1:%d", s.port(receiver))))
	if err != nil {
		s.t.Fatal(err)
	}
	var made struct{ Data struct{ ID, Status string } }
	if err := s.p.call(s.t.Context(), "POST", "/api/events/webhook", "application/json", body, 201, &made); err != nil || made.Data.Status != "active" {
		s.t.Fatalf("made %+v, %v", made, err)
	}
	stream := s.run("node", "-r", "./testdata/snippets/sockets.cjs", s.fill("tenzro-stream.js", "wss://api.platform.tenzro.com", "ws://"+s.p.address, "your-api-key", s.p.key))
	awaitLine(s.t, stream, "subscribed")

	s.publish(`{"id":"evt_confirmed","type":"transaction.confirmed","data":{` + foreign + `,` + tiny + `,` + nasty[1:] + `}`)
	var got struct {
		Genuine bool
		Event   struct{ ID, Type string }
	}
	if err := json.Unmarshal([]byte(awaitLine(s.t, receiver, "genuine")), &got); err != nil || !got.Genuine || got.Event.ID != "evt_confirmed" {
		s.t.Errorf("the receiver got %+v, %v", got, err)
	}
	awaitLine(s.t, stream, "evt_confirmed")

	var listed struct{ Data []struct{ ID string } }
	if err := s.p.call(s.t.Context(), "GET", "/api/events/webhook/list", "", nil, 200, &listed); err != nil || len(listed.Data) != 1 || listed.Data[0].ID != made.Data.ID {
		s.t.Errorf("listed %+v, %v", listed, err)
	}
	if err := s.p.call(s.t.Context(), "DELETE", "/api/events/webhook/"+made.Data.ID, "", nil, 200, nil); err != nil {
		s.t.Error(err)
	}
}

// quubHook is an endpoint as that guide's answers show it.
type quubHook struct {
	WebhookID string
	Secret    string
	Events    []string
	Active    bool
}

// curl runs a command that the guide prints, and decodes what it prints.
func (s *snippets) curl(name, id, receiver string, result any) {
	s.t.Helper()
	path := s.fill(name, "https://api.quub.exchange", "http://"+s.p.address, "YOUR_ACCESS_TOKEN", s.p.key, "YOUR_TOKEN", s.p.key,
		"your-org-id", "org_default", "wh_abc123", id, "https://your-server.com", receiver, "https://abc123.ngrok.io", receiver)
	out, err := exec.Command("bash", path).Output()
	if err == nil && result != nil {
		err = json.Unmarshal(out, result)
	}
	if err != nil {
		s.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func quubSnippets(s *snippets) {
	inNode := s.run("node", "-r", "./testdata/snippets/quub-receiver.cjs", s.fill("quub-verify.js"))
	inPython := s.run("python3", "testdata/snippets/quub-receiver.py", s.fill("quub-verify.py"))
	at := func(lines <-chan string) string { return fmt.Sprintf("http://127.0.0.1:%d", s.port(lines)) }
	atNode, atPython := at(inNode), at(inPython)

	var first, second, third quubHook
	s.curl("quub-create.sh", "", atNode, &first)
	s.curl("quub-create.sh", "", atPython, &second)
	if first.Secret != "your-webhook-secret" || !first.Active || len(first.Events) != 3 {
		s.t.Errorf("made %+v", first)
	}
	stream := s.run("node", "-r", "./testdata/snippets/sockets.cjs",
		s.fill("quub-stream.js", "wss://api.quub.exchange", "ws://"+s.p.address, "YOUR_ACCESS_TOKEN", s.p.key, "org_456", "org_default"))
	awaitLine(s.t, stream, "auth.ok")
	awaitLine(s.t, stream, "subscribe.ok")

	s.publish(`{"id":"evt_filled","type":"order.filled","data":` + nasty + `}`)
	for _, lines := range []<-chan string{inNode, inPython} {
		awaitLine(s.t, lines, "order.filled")
	}
	awaitLine(s.t, stream, "evt_filled")
	awaitLine(s.t, stream, "org_default")

	// Python writes text that isn't ASCII in another way: an option has it signed so.
	if err := s.p.call(s.t.Context(), "PATCH", "/v1/webhooks/"+second.WebhookID, "application/json", []byte(`{"asciiBody":true}`), 200, nil); err != nil {
		s.t.Fatal(err)
	}
	s.publish(`{"id":"evt_naive","type":"deposit.completed","data":{` + foreign + `}}`)
	for _, lines := range []<-chan string{inNode, inPython} {
		awaitLine(s.t, lines, "deposit.completed")
	}

	s.curl("quub-test.sh", first.WebhookID, "", new(struct{}))
	awaitLine(s.t, inNode, "order.filled")
	s.curl("quub-update.sh", first.WebhookID, "", &first)
	if len(first.Events) != 3 || first.Events[2] != "trade.executed" {
		s.t.Errorf("changed to %+v", first)
	}
	s.publish(`{"type":"trade.executed","data":{` + tiny + `,` + foreign + `,` + nasty[1:] + `}`)
	awaitLine(s.t, inNode, "trade.executed")
	practices := []string{"testdata/snippets/quub-practices.cjs"}
	for _, name := range []string{"quub-quick.js", "quub-once.js", "quub-handle.js"} {
		practices = append(practices, s.fill(name))
	}
	careful := s.run("node", practices...)
	s.curl("quub-create-ngrok.sh", "", at(careful), &third)
	if !strings.HasPrefix(third.Secret, "whsec_") {
		s.t.Errorf("made %+v", third)
	}
	var listed struct{ Webhooks []quubHook }
	s.curl("quub-list.sh", "", "", &listed)
	if len(listed.Webhooks) != 3 || listed.Webhooks[0].Secret != "" {
		s.t.Errorf("listed %+v", listed)
	}
	eventually(s.t, 20*time.Second, func() error {
		var logged struct {
			WebhookID string
			Logs      []struct {
				EventID, EventType string
				HTTPStatus         int
				Attempts           int
				Success            bool
			}
		}
		s.curl("quub-logs.sh", second.WebhookID, "", &logged)
		if len(logged.Logs) != 2 || logged.WebhookID != second.WebhookID {
			return fmt.Errorf("logged %+v", logged)
		}
		for _, l := range logged.Logs {
			if !l.Success || l.HTTPStatus != http.StatusOK || l.Attempts != 1 {
				return fmt.Errorf("logged %+v", l)
			}
		}
		return nil
	})
	s.publish(`{"type":"order.filled","data":{"orderId":"ord_careful"}}`)
	awaitLine(s.t, careful, `{"handled":{"orderId":"ord_careful"}}`)
	for _, hook := range []quubHook{first, second, third} {
		s.curl("quub-delete.sh", hook.WebhookID, "", nil)
	}
	s.curl("quub-list.sh", "", "", &listed)
	if len(listed.Webhooks) != 0 {
		s.t.Errorf("%+v are left", listed.Webhooks)
	}
}
