package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// talker is a client that nobody here wrote. It is given messages to say, and prints
// those that it hears.
type talker struct {
	name string // of its events, too: talk.<name>
	// command is what to run. Who is typed to is said the messages on its input.
	command func(url string, say []string) (env, line []string)
	typed   bool
	agreed  string // it prints, when compression was agreed on; empty: it can't say, or has none
	closed  string // it prints, of a close with 1012; empty: it only ends
}

// talkers are those that make test has, and with SLUICE_CLIENTS those that
// loadtest/clients/run has installed in that directory.
func talkers(t *testing.T) []talker {
	node, err := nodeClients()
	if err != nil {
		t.Fatal(err)
	}
	python, err := pythonClients()
	if err != nil {
		t.Fatal(err)
	}
	const agreed, closed = "extensions permessage-deflate", "closed 1012 going away, reconnect"
	all := []talker{
		{name: "ws", agreed: agreed, closed: closed, command: func(url string, say []string) (env, line []string) {
			return nil, append([]string{"node", filepath.Join(node, "talk.mjs"), url}, say...)
		}},
		{name: "websockets", agreed: agreed, closed: closed, command: func(url string, say []string) (env, line []string) {
			return []string{"PYTHONPATH=" + python}, append([]string{"python3", "testdata/clients/talk.py", url}, say...)
		}},
		// On a terminal, or it would print nothing that it hears: script gives it one.
		{name: "wscat", typed: true, closed: "Disconnected (code: 1012", command: func(url string, say []string) (env, line []string) {
			return []string{"TERM=dumb"}, []string{"script", "-qfc", filepath.Join(node, "node_modules/.bin/wscat") + " -c " + url, "/dev/null"}
		}},
	}
	dir := os.Getenv("SLUICE_CLIENTS")
	if dir == "" {
		return all
	}
	return append(all,
		talker{name: "websocat", typed: true, command: func(url string, say []string) (env, line []string) {
			return nil, []string{filepath.Join(dir, "bin/websocat"), "--exit-on-eof", url}
		}},
		talker{name: "k6", agreed: agreed, closed: "closed 1012", command: func(url string, say []string) (env, line []string) {
			text, _ := json.Marshal(say)
			return []string{"URL=" + url, "SAY=" + string(text), "K6_NO_USAGE_REPORT=true"},
				[]string{filepath.Join(dir, "bin/k6"), "run", "--quiet", "--summary-mode=disabled", "--include-system-env-vars", "--log-format=raw", "--log-output=stdout", "testdata/clients/talk.k6.js"}
		}},
		talker{name: "chromium", agreed: agreed, closed: closed, command: func(url string, say []string) (env, line []string) {
			return nil, append([]string{"node", "testdata/clients/talk.browser.mjs", "chromium", url}, say...)
		}},
	)
}

// pythonClients installs the clients that run under Python, once for all runs.
var pythonClients = sync.OnceValues(func() (string, error) {
	const websockets = "websockets==17.4"
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sluice-test-clients", websockets)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	made := dir + fmt.Sprintf(".%d", os.Getpid())
	defer os.RemoveAll(made)
	if out, err := exec.Command("python3", "-m", "pip", "install", "-q", "--target", made, websockets).CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w: %s", websockets, err, out)
	}
	if err := os.Rename(made, dir); err != nil && !os.IsExist(err) {
		return "", err
	}
	return dir, nil
})

// start has the client connect, authenticate and subscribe.
func (k *talker) start(t *testing.T, p *process, cursor string) (lines <-chan string, kill func()) {
	t.Helper()
	if cursor != "" {
		cursor = `,"cursor":"` + cursor + `"`
	}
	say := []string{`{"type":"auth","token":"` + p.key + `"}`, `{"type":"subscribe","channels":["talk.` + k.name + `"]` + cursor + `}`}
	env, line := k.command("ws://"+p.address+"/v1/ws", say)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { typed.Close() })
	defer in.Close()
	lines, kill = startClient(t, env, in, line[0], line[1:]...)
	if k.agreed != "" {
		awaitLine(t, lines, k.agreed)
	}
	if k.typed {
		if k.name == "wscat" {
			awaitLine(t, lines, "Connected")
		}
		fmt.Fprintln(typed, strings.Join(say, "\n"))
	}
	awaitLine(t, lines, `{"type":"auth.ok"`)
	awaitLine(t, lines, `{"type":"subscribe.ok"`)
	return lines, kill
}

// hears awaits the talker's event of that number, the next that it hears, and
// returns its cursor.
func (k *talker) hears(t *testing.T, lines <-chan string, n int) (cursor string) {
	t.Helper()
	line := awaitLine(t, lines, `{"type":"talk.`)
	line = line[strings.Index(line, "{") : strings.LastIndex(line, "}")+1]
	var heard struct {
		Type, Cursor, Pad string
		N                 int
	}
	if err := json.Unmarshal([]byte(line), &heard); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if heard.Type != "talk."+k.name || heard.N != n || len(heard.Pad) != 4*talkPad {
		t.Fatalf("want event %d, heard %s", n, line)
	}
	return heard.Cursor
}

// talkPad words make an event long enough to be compressed.
const talkPad = 100

// TestConversations: clients of other people's authenticate, subscribe, hear, resume
// with a cursor, and are told when sluice goes away.
func TestConversations(t *testing.T) {
	p := startProcess(t, []string{"--ws-compression"})
	publish := func(k *talker, n int) {
		t.Helper()
		event := fmt.Sprintf(`{"type":"talk.%s","data":{"n":%d,"pad":%q}}`, k.name, n, strings.Repeat("pad ", talkPad))
		p.mustCall(t, "/v1/events", event, 202, nil)
	}
	all := talkers(t)
	last := make([]<-chan string, len(all))
	for i := range all {
		k := &all[i]
		lines, kill := k.start(t, p, "")
		publish(k, 1)
		cursor := k.hears(t, lines, 1)
		kill()
		publish(k, 2)
		publish(k, 3)
		last[i], _ = k.start(t, p, cursor)
		k.hears(t, last[i], 2)
		k.hears(t, last[i], 3)
		publish(k, 4)
		k.hears(t, last[i], 4)
		t.Logf("%s: subscribed, heard, resumed", k.name)
	}

	if os.Getenv("SLUICE_CLIENTS") != "" {
		// Longer than anybody may be silent: they have to answer pings.
		time.Sleep(95 * time.Second)
		for i := range all {
			publish(&all[i], 5)
			awaitLine(t, last[i], `{"type":"ping"}`)
			all[i].hears(t, last[i], 5)
			t.Logf("%s: answers pings", all[i].name)
		}
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		awaitLine(t, last[i], `{"type":"going_away"`)
		if all[i].closed != "" {
			awaitLine(t, last[i], all[i].closed)
		} else {
			for range last[i] {
			}
		}
		t.Logf("%s: told of the end", all[i].name)
	}
}
