package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodeClients installs the clients that run under Node, once for all runs with
// the same ones, outside the tree.
var nodeClients = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sluice-test-clients")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	version := sha256.New()
	files, err := filepath.Glob("testdata/clients/*.*js*")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		version.Write(text)
	}
	dir = filepath.Join(dir, fmt.Sprintf("%x", version.Sum(nil)[:8]))
	if err := os.CopyFS(dir, os.DirFS("testdata/clients")); err == nil {
		cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			os.RemoveAll(cmd.Dir)
			return "", fmt.Errorf("install clients: %w: %s", err, out)
		}
	} else if !os.IsExist(err) {
		return "", err
	}
	return dir, nil
})

// runClient starts a program with its output as a channel of lines, until the test ends.
func runClient(t *testing.T, env []string, stdin io.Reader, name string, args ...string) <-chan string {
	t.Helper()
	lines, _ := startClient(t, env, stdin, name, args...)
	return lines
}

// startClient is runClient for a program that may be killed before that.
func startClient(t *testing.T, env []string, stdin io.Reader, name string, args ...string) (_ <-chan string, kill func()) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = stdin
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	kill = sync.OnceFunc(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		for range lines {
		}
		cmd.Wait()
	})
	t.Cleanup(kill)
	return lines, kill
}

// awaitLine returns the first line that holds the text.
func awaitLine(t *testing.T, lines <-chan string, text string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the client ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("the client never said %q", text)
		}
	}
}

// TestPublishedClients runs clients written as TetraFi's guide shows them, with
// libraries that nobody here wrote, against the product as a process.
func TestPublishedClients(t *testing.T) {
	clients, err := nodeClients()
	if err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	publish := func(event string) {
		t.Helper()
		p.mustCall(t, "/v1/events", event, 202, nil)
	}

	t.Run("receiver", func(t *testing.T) {
		const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
		lines := runClient(t, []string{"WEBHOOK_SECRET=" + secret}, nil, "node", filepath.Join(clients, "receiver.mjs"))
		var at struct{ Port int }
		if err := json.Unmarshal([]byte(awaitLine(t, lines, "port")), &at); err != nil {
			t.Fatal(err)
		}
		var hook struct{ ID string }
		body := fmt.Sprintf(`{"url":"http://127.0.0.1:%d/webhook","events":["settlement.*"],"secret":%q}`, at.Port, secret)
		if err := p.call(t.Context(), "POST", "/v1/webhooks", "application/json", []byte(body), 201, &hook); err != nil {
			t.Fatal(err)
		}
		publish(`{"type":"settlement.complete","data":{"settlement":{"amount":1000000.50,"note":"naïve \u2028 <b>&\"\\/","big":1e21,"small":1e-7,"2":0,"1":-0},` + foreign + `,` + nasty[1:] + `}`)
		for attempt := 1; attempt <= 2; attempt++ { // the second comes after 5 s
			var seen struct {
				Attempt, Header, Delivery  string
				SameID, Genuine, Duplicate bool
				Standard                   any
				Event                      struct{ Type string }
			}
			if err := json.Unmarshal([]byte(awaitLine(t, lines, `"attempt"`)), &seen); err != nil {
				t.Fatal(err)
			}
			if seen.Attempt != fmt.Sprint(attempt) || seen.Header != "settlement.complete" || seen.Event.Type != "settlement.complete" ||
				!seen.SameID || !seen.Genuine || seen.Duplicate || seen.Standard != true || !strings.HasPrefix(seen.Delivery, "dlv_") {
				t.Errorf("attempt %d came as %+v", attempt, seen)
			}
		}
	})

	t.Run("cloudevents", func(t *testing.T) {
		lines := runClient(t, []string{"SLUICE_KEY=" + p.key}, nil, "node", filepath.Join(clients, "cloud.mjs"), "http://"+p.address+"/v1/events")
		for _, want := range []struct {
			how      string
			status   int
			replayed string
			ids      int
		}{{"binary", 202, "", 0}, {"structured", 202, "true", 0}, {"batch", 202, "", 2}, {"other data", 409, "", 0}} {
			var got struct {
				How, Replayed string
				Status        int
				Answer        struct{ IDs []string }
			}
			if err := json.Unmarshal([]byte(awaitLine(t, lines, `"how"`)), &got); err != nil {
				t.Fatal(err)
			}
			if got.How != want.how || got.Status != want.status || got.Replayed != want.replayed || len(got.Answer.IDs) != want.ids {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
	})

	t.Run("wscat", func(t *testing.T) {
		// wscat prints what it receives on a terminal only: script gives it one.
		wscat := fmt.Sprintf("%s -c ws://%s/v1/ws", filepath.Join(clients, "node_modules/.bin/wscat"), p.address)
		keys, typed := io.Pipe()
		defer typed.Close()
		lines := runClient(t, []string{"TERM=dumb"}, keys, "script", "-qfc", wscat, "/dev/null")
		awaitLine(t, lines, "Connected")
		fmt.Fprintf(typed, `{"type":"auth","token":"%s"}`+"\n", p.key)
		awaitLine(t, lines, `{"type":"auth.ok","environment":"sandbox"}`)
		fmt.Fprint(typed, `{"type":"subscribe","channels":["rfq.*","settlement.*"]}`+"\n")
		awaitLine(t, lines, `{"type":"subscribe.ok","channels":["rfq.*","settlement.*"]`)
		publish(`{"type":"rfq.created","data":{"rfq":{"id":"rfq_wscat"}}}`)
		awaitLine(t, lines, "rfq_wscat")
	})
}
