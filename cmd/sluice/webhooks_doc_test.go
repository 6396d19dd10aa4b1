package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/delivery"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// TestWebhooksDoc runs the receivers that docs/webhooks.md prints, that in PHP
// where there is a php, and sends them what the dispatcher would, and what it never
// would.
func TestWebhooksDoc(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "webhooks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range delivery.Classes {
		o := delivery.Outcome{Class: class, Status: 500}
		if !strings.Contains(string(page), "\n| `"+o.Name()+"`") {
			t.Errorf("the page doesn't say what %s means", o.Name())
		}
	}
	programs := make(map[string]string)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		programs[m[1]] = m[2]
	}
	for language, r := range map[string]struct {
		file    string
		command func(port string) []string
	}{
		"js":     {"receiver.mjs", func(string) []string { return []string{"node", "receiver.mjs"} }},
		"python": {"receiver.py", func(string) []string { return []string{"python3", "receiver.py"} }},
		"go":     {"receiver.go", func(string) []string { return []string{"go", "run", "receiver.go"} }},
		"php":    {"receiver.php", func(port string) []string { return []string{"php", "-S", "127.0.0.1:" + port, "receiver.php"} }},
		"java":   {"Receiver.java", func(string) []string { return []string{"java", "Receiver.java"} }},
	} {
		t.Run(language, func(t *testing.T) {
			if programs[language] == "" {
				t.Fatal("the page has no such receiver")
			}
			if name := r.command("")[0]; exec.Command("which", name).Run() != nil {
				if name != "php" { // which a machine for tests needn't have
					t.Fatalf("there is no %s here: install it", name)
				}
				t.Log("there is no php here: the page's receiver in PHP isn't run")
				return
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, r.file), []byte(programs[language]), 0o600); err != nil {
				t.Fatal(err)
			}
			tryReceiver(t, dir, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", r.command)
			if language != "java" { // which takes seconds to start
				tryReceiver(t, dir, "correct horse battery", r.command)
			}
		})
	}
}

// tryReceiver starts a receiver and holds it to what the page says of one.
func tryReceiver(t *testing.T, dir, secret string, command func(port string) []string) {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	args := command(port)
	said := new(lockedBuffer)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret, "PORT="+port, "TMPDIR="+t.TempDir(), "GOFLAGS=")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}()
	eventually(t, time.Minute, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		return c.Close()
	})

	sender := attempt.NewHTTPSender(attempt.Config{AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer sender.Close()
	// send makes an attempt, of which change makes another, and gives the status.
	send := func(id string, number int, at time.Time, with string, change func(*attempt.Request)) int {
		t.Helper()
		ev := &event.Event{ID: id, Type: "settlement.complete", Timestamp: at, Data: []byte(`{"note":"naïve \u0001","amount":45000}`)}
		ep := &endpoint.Endpoint{ID: "wh_1", URL: "http://" + address + "/hook", Secret: endpoint.Secret(with)}
		if before, after, rotated := strings.Cut(with, " → "); rotated {
			ep.Secret = endpoint.Secret(after)
			ep.Previous = []endpoint.Retired{{Secret: endpoint.Secret(before), Until: at.Add(time.Hour)}}
		}
		var r attempt.Request
		attempt.Build(&r, listenWebhook(), delivery.New(ev, ep.ID, 0), ep, number, at)
		if change != nil {
			change(&r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o, err := sender.Send(ctx, &r)
		if err != nil || o.Status == 0 {
			t.Fatalf("%s %s, %v: %s", o.Class, o.Detail, err, said)
		}
		return o.Status
	}
	header := func(name, value string) func(*attempt.Request) {
		return func(r *attempt.Request) {
			for i := range r.Headers {
				if r.Headers[i].Name == name {
					r.Headers[i].Value = strings.ReplaceAll(value, "…", r.Headers[i].Value)
				}
			}
		}
	}
	now := time.Now()
	for _, c := range []struct {
		what string
		want int
		have int
	}{
		{"genuine", 204, send("evt_1", 1, now, secret, nil)},
		{"again", 204, send("evt_1", 2, now, secret, nil)},
		{"before the secret is changed", 204, send("evt_2", 1, now, secret+" → whsec_AAAA", nil)},
		{"after the secret was changed", 204, send("evt_2", 2, now, "whsec_AAAA → "+secret, nil)},
		{"with a signature of a kind to come", 204, send("evt_2", 3, now, secret, header("webhook-signature", "v1a,AAAA …"))},
		{"a byte more", 401, send("evt_3", 1, now, secret, func(r *attempt.Request) { r.Body = append(r.Body, ' ') })},
		{"another secret", 401, send("evt_3", 1, now, "whsec_AAAA", nil)},
		{"old", 401, send("evt_3", 1, now.Add(-6*time.Minute), secret, nil)},
		{"of the future", 401, send("evt_3", 1, now.Add(6*time.Minute), secret, nil)},
		{"another time", 401, send("evt_3", 1, now, secret, header("webhook-timestamp", fmt.Sprint(now.Unix()-1)))},
		{"no time", 401, send("evt_3", 1, now, secret, header("webhook-timestamp", "NaN"))},
		{"another id", 401, send("evt_3", 1, now, secret, header("webhook-id", "evt_4"))},
		{"no signature", 401, send("evt_3", 1, now, secret, header("webhook-signature", ""))},
		{"a signature of nothing", 401, send("evt_3", 1, now, secret, header("webhook-signature", "v1, v1,é"))},
	} {
		if c.have != c.want {
			t.Errorf("%s: answered %d, not %d: %s", c.what, c.have, c.want, said)
		}
	}
	for _, id := range []string{"evt_1", "evt_2"} {
		eventually(t, patience, func() error {
			if n := strings.Count(said.String(), "received settlement.complete "+id); n != 1 {
				return fmt.Errorf("%s was taken %d times: %s", id, n, said)
			}
			return nil
		})
	}
	if strings.Contains(said.String(), "evt_3") || strings.Contains(said.String(), "evt_4") {
		t.Errorf("what isn't genuine was taken: %s", said)
	}
}
