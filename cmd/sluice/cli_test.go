package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

func parseServe(t *testing.T, args ...string) *serveCmd {
	t.Helper()
	var c cli
	parser := newParser(t.Context(), &c, std{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}, func(int) {})
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	return &c.Serve
}

func configFileWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := configFileWith(t, "listen: :1\nops: :1\ndata: /file\ndrain-timeout: 1s\nbrokers: [a:1, b:2]\nsecrets-key-file: k\nallow-private-endpoints: 10.0.0.0/8\n")
	t.Setenv("SLUICE_CONFIG", file)
	t.Setenv("SLUICE_LISTEN", ":2")
	t.Setenv("SLUICE_OPS", ":2")
	c := parseServe(t, "--listen=:3")
	for _, got := range []struct{ what, have, want string }{
		{"flag over environment over file", string(c.Listen), ":3"},
		{"environment over file", string(c.Ops), ":2"},
		{"file over default", c.Data, "/file"},
		{"duration of the file", time.Duration(c.DrainTimeout).String(), "1s"},
		{"list of the file", strings.Join(c.Brokers, " "), "a:1 b:2"},
		{"ranges of the file", fmt.Sprint(c.AllowPrivateEndpoints.Ranges), "[10.0.0.0/8]"},
		{"default", c.LogFormat, "json"},
	} {
		if got.have != got.want {
			t.Errorf("%s: %q, not %q", got.what, got.have, got.want)
		}
	}
}

func TestAllowPrivate(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "false"},
		{[]string{"--allow-private-endpoints"}, "true"},
		{[]string{"--allow-private-endpoints=10.0.0.0/8,fd00::/8"}, "10.0.0.0/8,fd00::/8"},
		{[]string{"--allow-private-endpoints", "--log-format=text"}, "true"},
	} {
		if have := fmt.Sprint(parseServe(t, c.args...).AllowPrivateEndpoints); have != c.want {
			t.Errorf("%v: %s, not %s", c.args, have, c.want)
		}
	}
}

// TestRefusals: what can't work is said in one line that names it, its value and
// the remedy.
func TestRefusals(t *testing.T) {
	t.Setenv("SLUICE_KEY", "")
	file := func(text string) string { return "--config=" + configFileWith(t, text) }
	for _, c := range []struct {
		args []string
		env  string
		says []string
	}{
		{args: []string{"serve", file("lissten: :1\n")}, says: []string{`unknown key "lissten"`, "sluice.yaml", "the keys are", "listen"}},
		{args: []string{"serve", file("listen: 1\n")}, says: []string{"--listen", `"1" is no address`, "127.0.0.1:8080", "sluice.yaml"}},
		{args: []string{"serve", file("listen:\n  port: 1\n")}, says: []string{`"listen" holds other keys`}},
		{args: []string{"serve", file("listen:\n")}, says: []string{`"listen" has no value`}},
		{args: []string{"serve", file("listen: :1\nlisten: :2\n")}, says: []string{"line 2", "already defined"}},
		{args: []string{"serve", file("log-format: xml\n")}, says: []string{"--log-format", `"xml"`, `"json"`}},
		{args: []string{"serve", "--config=/nowhere.yaml"}, says: []string{"--config", "/nowhere.yaml"}},
		{args: []string{"serve", "--drain-timeout=25"}, says: []string{"--drain-timeout", `"25"`, "25s"}},
		{args: []string{"serve"}, env: "SLUICE_DRAIN_TIMEOUT=soon", says: []string{"SLUICE_DRAIN_TIMEOUT", `"soon"`, "25s"}},
		{args: []string{"serve", "--allow-private-endpoints=10.0.0.0"}, says: []string{"--allow-private-endpoints", `"10.0.0.0"`, "10.0.0.0/8"}},
		{args: []string{"serve", "--egress-proxy=socks5://me:hunter2@proxy:1080"}, says: []string{"--egress-proxy", `"…@proxy:1080" is no proxy`, "http://10.0.0.5:3128"}},
		{args: []string{"serve", "--egress-proxy=http://me:hun ter/2@proxy:3128"}, says: []string{"--egress-proxy", `"…@proxy:3128" is no proxy`, "%XX"}},
		{args: []string{"serve", "--egress-proxy=proxy:3128"}, says: []string{"--egress-proxy", `"proxy:3128" is no proxy`}},
		{args: []string{"serve", "--egress-bind=eth0"}, says: []string{"--egress-bind", `"eth0"`, "10.0.0.7"}},
		{args: []string{"serve", file("egress-bind: [10.0.0.7, 10.0.0.8]\n")}, says: []string{"--egress-bind", "10.0.0.7 and 10.0.0.8", "sluice.yaml"}},
		{args: []string{"serve", "--brokers=kafka"}, says: []string{"--brokers", `"kafka"`, "kafka-1:9092"}},
		{args: []string{"serve", "--brokers=kafka:9092"}, says: []string{"--brokers needs --secrets-key-file", "openssl"}},
		{args: []string{"serve"}, env: "SLUICE_BOOTSTRAP_KEY=secret", says: []string{"SLUICE_BOOTSTRAP_KEY", "sluice key new"}},
		{args: []string{"serve", "--roles=api"}, says: []string{"--roles api needs --brokers", "leave --roles out"}},
		{args: []string{"serve", "--roles=ingest"}, says: []string{"--roles", `"ingest" is no role`, "gateway"}},
		{args: []string{"serve", "--tls-cert=c"}, says: []string{"--tls-cert and --tls-key", "both"}},
		{args: []string{"serve", "--kafka-tls"}, says: []string{"--kafka-…", "--brokers"}},
		{args: []string{"serve", "--brokers=k:1", "--secrets-key-file=k", "--kafka-sasl=md5"}, says: []string{"--kafka-sasl", `"md5"`, "scram-sha-512"}},
		{args: []string{"serve", "--brokers=k:1", "--secrets-key-file=k", "--kafka-sasl=plain"}, says: []string{"--kafka-sasl plain needs", "--kafka-sasl-user", "--kafka-sasl-password-file"}},
		{args: []string{"serve", "--brokers=k:1", "--secrets-key-file=k", "--kafka-sasl-user=u"}, says: []string{"--kafka-sasl-user", "--kafka-sasl scram-sha-512"}},
		{args: []string{"serve", "--brokers=k:1", "--secrets-key-file=k", "--kafka-tls-cert=c"}, says: []string{"--kafka-tls-cert and --kafka-tls-key", "both"}},
		{args: []string{"topics", "--replicas=0"}, says: []string{"--replicas 0"}},
		{args: []string{"topics", "--json", "--commands"}, says: []string{"--json and --commands"}},
		{args: []string{"config", "check", file("lissten: :1\n")}, says: []string{`unknown key "lissten"`, "sluice.yaml"}},
		{args: []string{"serve", "--lissten=:1"}, says: []string{"--lissten", `"--listen"`}},
		{args: []string{"listen", "--key=k"}, says: []string{"--forward-to is missing", "localhost:3000/webhook"}},
		{args: []string{"bench", "ingest", "--compare", "main.go"}, says: []string{"main.go has no rows", "sluice bench --json wrote"}},
		{args: []string{"report", "main.go"}, says: []string{"main.go: "}},
		{args: []string{"listen", "--key=k", "--forward-to=localhost:22"}, says: []string{"--forward-to", `"http://localhost:22"`, "1024"}},
		{args: []string{"listen", "--key=k", "--forward-to=:3000", "--secret=short"}, says: []string{"--secret", "8 to 256"}},
		{args: []string{"publish"}, says: []string{"no API key", "--key", "SLUICE_KEY"}},
		{args: []string{"publish", "--key=k"}, says: []string{"nothing to publish", "--type", "file"}},
		{args: []string{"publish", "--key=k", "--data={}"}, says: []string{"--type is missing"}},
		{args: []string{"publish", "--key=k", "--type=a.b", "events.ndjson"}, says: []string{"give it alone"}},
		{args: []string{"publish", "--key=k", "--audience=*", "events.ndjson"}, says: []string{"give it alone"}},
		{args: []string{"publish", "--key=k", "--url=here"}, says: []string{"--url", `"here"`, "http://"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			var out, errs bytes.Buffer
			if code := run(t.Context(), c.args, std{Out: &out, Err: &errs}); code != 2 {
				t.Errorf("exit code %d, not 2", code)
			}
			text := errs.String()
			if strings.Count(text, "\n") != 1 {
				t.Errorf("not one line: %q", text)
			}
			if strings.Contains(text, "hun") {
				t.Errorf("%q tells a password", text)
			}
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("%q doesn't say %q", text, s)
				}
			}
		})
	}
}

func TestKeyNew(t *testing.T) {
	for args, env := range map[string]event.Environment{"key new": event.Sandbox, "key new --live": event.Live} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), std{Out: &out, Err: &out}); code != 0 {
			t.Fatalf("exit code %d: %s", code, &out)
		}
		if have, err := key.Check(strings.TrimSpace(out.String())); err != nil || have != env {
			t.Errorf("%s printed %q: %v, %v", args, &out, have, err)
		}
	}
}

// sluice runs the built binary to its end.
func sluice(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, flag := range []string{"--listen", "--ops"} {
		args := []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", flag, ln.Addr().String()}
		_, text, code := sluice(t, nil, args...)
		if code != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, flag) || !strings.Contains(text, ln.Addr().String()) || !strings.Contains(text, "in use") {
			t.Errorf("%s: exit code %d, %q", flag, code, text)
		}
	}
}

func TestSecondServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first := startProcess(t, []string{"--data", data})
	_, text, code := sluice(t, nil, "serve", "--data", data, "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	if code != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, fmt.Sprint("process ", first.cmd.Process.Pid)) || !strings.Contains(text, data) {
		t.Errorf("exit code %d, %q; the first is process %d", code, text, first.cmd.Process.Pid)
	}
}

// TestSignals: the first drains, and says so; the second ends the process at once.
func TestSignals(t *testing.T) {
	arrived, gone := make(chan struct{}, 1), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-gone
	}))
	defer receiver.Close()
	defer close(gone)
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	body := fmt.Sprintf(`{"url":%q,"events":["*"]}`, receiver.URL)
	if err := p.call(t.Context(), "POST", "/v1/webhooks", "application/json", []byte(body), 201, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.call(t.Context(), "POST", "/v1/events", "application/json", []byte(`{"type":"a.b","data":{}}`), 202, nil); err != nil {
		t.Fatal(err)
	}
	<-arrived // and is never answered: draining waits for it
	p.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, 20*time.Second, func() error { // which is less than it drains for
		r, err := http.Get("http://" + p.ops + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "draining") {
			return fmt.Errorf("readyz answers %s: %s", r.Status, text)
		}
		return nil
	})
	began := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Wait()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || time.Since(began) > 10*time.Second { // to drain takes longer
		t.Errorf("after the second signal it ended with %v, %v later", p.cmd.ProcessState, time.Since(began))
	}
}

// TestNobodyReads: of a node whose log nobody reads any more all goes on, until it is
// asked to end, and then drains; a list ends with whoever reads it, without a word.
func TestNobodyReads(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	unread := func(args ...string) (cmd *exec.Cmd, errs *lockedBuffer) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		defer w.Close()
		cmd, errs = exec.Command(path, args...), new(lockedBuffer)
		if cmd.Stdout, cmd.Stderr = w, errs; args[0] == "serve" {
			cmd.Stderr = w
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd, errs
	}
	ops := freeAddress(t)
	node, _ := unread("serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", freeAddress(t), "--ops", ops)
	eventually(t, time.Minute, func() error {
		r, err := http.Get("http://" + ops + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %s", r.Status)
		}
		return nil
	})
	node.Process.Signal(syscall.SIGTERM)
	if err := node.Wait(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	list, errs := unread("topics")
	if err := list.Wait(); list.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE || errs.String() != "" {
		t.Errorf("the list ended with %v, and said %q", err, errs.String())
	}
}

// TestFirstStart runs what the first start prints as it stands.
func TestFirstStart(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", freeAddress(t), "--ops", freeAddress(t)}
	start := func() (*exec.Cmd, *lockedBuffer) {
		out, errs := new(lockedBuffer), new(lockedBuffer)
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = out, errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		eventually(t, patience, func() error {
			if !strings.Contains(errs.String(), `"ready"`) {
				return fmt.Errorf("not ready: %s", errs)
			}
			return nil
		})
		return cmd, out
	}
	cmd, out := start()
	var text string
	eventually(t, patience, func() error { // the two outputs are read side by side
		if text = out.String(); !strings.Contains(text, "\n  curl ") {
			return fmt.Errorf("printed %q", text)
		}
		return nil
	})

	curl := regexp.MustCompile(`(?m)^  (curl .*)$`).FindStringSubmatch(text)
	wscat := regexp.MustCompile(`(?m)^  (wscat .*)$`).FindStringSubmatch(text)
	if curl == nil || wscat == nil {
		t.Fatalf("no curl or wscat line in %q", text)
	}
	conn := runWscat(t, wscat[1])
	answer, err := exec.Command("bash", "-c", curl[1]).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", curl[1], err, answer)
	}
	var accepted struct{ ID string }
	if err := json.Unmarshal(answer, &accepted); err != nil || accepted.ID == "" {
		t.Fatalf("%s answered %s", curl[1], answer)
	}
	for {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), accepted.ID) {
			break
		}
	}

	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v", err)
	}
	if _, out := start(); out.String() != "" {
		t.Errorf("the second start printed %q", out)
	}
}

// runWscat does what the wscat line says: connects, and sends what stands behind
// each -x.
func runWscat(t *testing.T, line string) *websocket.Conn {
	t.Helper()
	text, err := exec.Command("bash", "-c", `wscat() { printf '%s\n' "$@"; }; `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(text)), "\n")
	var conn *websocket.Conn
	for i, arg := range args {
		switch arg {
		case "-c":
			if conn, _, err = websocket.Dial(t.Context(), args[i+1], nil); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			t.Cleanup(func() { conn.CloseNow() })
		case "-x":
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(args[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{"auth.ok", "subscribe.ok"} {
		_, text, err := conn.Read(t.Context())
		if err != nil || !strings.Contains(string(text), want) {
			t.Fatalf("%s, not %s: %v", text, want, err)
		}
	}
	return conn
}

// TestDemo: the demo ends by itself, has shown a retry, and found everything right.
func TestDemo(t *testing.T) {
	t.Parallel() // it waits most of the time
	// What is refused is so up to 6 s before the end, and the first of it comes after 2 s, on
	// a machine that has nothing else to do.
	out, errs, code := sluice(t, nil, "demo", "--duration", "16s", "--listen", freeAddress(t))
	if code != 0 || errs != "" {
		t.Errorf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"TIME ", "rfq.created", "solver α", "taker", "refused with 500 on purpose", "attempt 2  ✓ verified", "p99", "Everything that was published was received"} {
		if !strings.Contains(out, want) {
			t.Errorf("it didn't print %q", want)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("it prints colours although this is no terminal")
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestCommands goes through the commands that call a running sluice.
func TestCommands(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startProcess(t, []string{"--data", data})
	url := "http://" + p.address
	ok := func(args ...string) string {
		t.Helper()
		out, errs, code := sluice(t, []string{"SLUICE_URL=" + url, "SLUICE_OPS=" + p.ops, "SLUICE_DATA=" + data}, args...)
		if code != 0 {
			t.Fatalf("sluice %s: exit code %d: %s", strings.Join(args, " "), code, errs)
		}
		return out
	}
	has := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q doesn't hold %q", text, w)
			}
		}
	}

	has(ok("org", "create", "Acme", "--id", "org_acme"), "org_acme")
	has(ok("org", "list"), "ID", "org_default", "org_acme", "Acme", "enterprise")
	has(ok("org", "show", "org_acme", "--json"), `"id":"org_acme"`)
	acme := strings.TrimSpace(ok("key", "create", "org_acme", "--scopes", "publish,subscribe,manage", "--name", "ci"))
	if _, err := key.Check(acme); err != nil {
		t.Fatalf("key create printed %q", acme)
	}
	has(ok("key", "list", "org_acme"), "ci", "sandbox", "publish,subscribe,manage")

	hook := "http://" + freeAddress(t) + "/hook" // nobody listens there
	has(ok("endpoint", "create", hook, "--events", "rfq.*", "--key", acme), "whsec_")
	list := ok("endpoint", "list", "--key", acme)
	has(list, "active", "rfq.*", hook)
	id := regexp.MustCompile(`wh_\w+`).FindString(list)
	has(ok("endpoint", "show", id, "--key", acme), id)
	has(ok("endpoint", "test", id, "--key", acme), id)
	has(ok("endpoint", "enable", id, "--key", acme), id)
	has(ok("endpoint", "rotate-secret", id, "--key", acme), "whsec_", "Until")
	has(ok("endpoint", "rotate-secret", id, "--overlap", "0s", "--key", acme), "whsec_", "Nothing is signed")
	has(ok("endpoint", "replay", id, "--from", "24h", "--events", "rfq.*,quote.*", "--key", acme), "rpl_", "completed", "0 delivered")
	api := &process{t: t, address: p.address, key: acme}
	if err := api.call(t.Context(), "PATCH", "/v1/webhooks/"+id, "application/json", []byte(`{"status":"paused"}`), 200, nil); err != nil {
		t.Fatal(err)
	}
	replay := regexp.MustCompile(`rpl_\w+`).FindString(ok("endpoint", "replay", id, "--from", "2026-01-02", "--failed-only", "--detach", "--json", "--key", acme))
	has(ok("endpoint", "replays", id, "--key", acme), "waiting", replay, "failed only", "completed", "rfq.*,quote.*")
	has(ok("endpoint", "cancel-replay", id, replay, "--key", acme), replay)
	has(ok("endpoint", "replays", id, "--json", "--key", acme), `"status":"cancelled"`, `"from":"2026-01-02T00:00:00.000Z"`)
	ok("endpoint", "delete", id, "--yes", "--key", acme)
	if _, errs, code := sluice(t, nil, "endpoint", "show", id, "--key", acme, "--url", url); code != 1 || !strings.Contains(errs, "404") {
		t.Errorf("a deleted endpoint: exit code %d, %s", code, errs)
	}

	// tail begins behind the first event, by its cursor, and meets the others.
	first := strings.TrimSpace(ok("publish", "--key", acme, "--type", "rfq.created", "--data", `{"n":0}`))
	var page struct{ Data []struct{ Cursor string } }
	if err := (&process{t: t, address: p.address, key: acme}).call(t.Context(), "GET", "/v1/events?limit=1", "", nil, 200, &page); err != nil || len(page.Data) != 1 {
		t.Fatalf("%v: %v", page, err)
	}
	var lines strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&lines, `{"type":"rfq.created","data":{"n":%d}}`+"\n", i+1)
	}
	file := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	tailed, said := new(lockedBuffer), new(lockedBuffer)
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"tail", "--url", url, "--key", acme, "--cursor", page.Data[0].Cursor}, std{Out: tailed, Err: said})
	}()
	ids := strings.Fields(ok("publish", "--key", acme, file))
	if len(ids) != 2500 || first == ids[0] {
		t.Errorf("%d ids were printed for 2,500 events", len(ids))
	}
	// Again, and with a line more: only that one is new.
	if again := strings.Fields(ok("publish", "--key", acme, file)); !slices.Equal(again, ids) {
		t.Errorf("the same file was given %d other ids", len(again))
	}
	if err := os.WriteFile(file, []byte(lines.String()+`{"type":"rfq.created","data":{"n":"last"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ids = strings.Fields(ok("publish", "--key", acme, file))
	eventually(t, patience, func() error {
		if !strings.Contains(tailed.String(), ids[len(ids)-1]) {
			return fmt.Errorf("tail printed %d lines, and said %q", strings.Count(tailed.String(), "\n"), said)
		}
		return nil
	})
	events := 0
	for cursor, more := "", true; more; {
		var page struct {
			Data       []struct{}
			NextCursor string
			HasMore    bool
		}
		if err := (&process{t: t, address: p.address, key: acme}).call(t.Context(), "GET", "/v1/events?limit=500&cursor="+cursor, "", nil, 200, &page); err != nil {
			t.Fatal(err)
		}
		events += len(page.Data)
		cursor, more = page.NextCursor, page.HasMore
	}
	if events != 1+2501 {
		t.Errorf("%d events came of one, and of a file of 2,501 that was published three times", events)
	}
	stop()
	if code := <-done; code != 0 {
		t.Errorf("tail ended with exit code %d: %s", code, said)
	}
	keyID := regexp.MustCompile(`key_\w+`).FindString(ok("key", "list", "org_acme"))
	has(ok("key", "revoke", "org_acme", keyID), keyID)
	if _, errs, code := sluice(t, nil, "publish", "--url", url, "--key", acme, "--type", "a.b", "--data", "{}"); code != 1 || !strings.Contains(errs, "401") {
		t.Errorf("a revoked key: exit code %d, %s", code, errs)
	}
	has(ok("org", "delete", "org_acme", "--yes"), "org_acme")
	if _, errs, code := sluice(t, nil, "org", "list", "--ops", "127.0.0.1:1", "--admin-token", "x"); code != 1 || !strings.Contains(errs, "--ops") {
		t.Errorf("nobody there: exit code %d, %s", code, errs)
	}
}
