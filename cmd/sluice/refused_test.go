package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRefusedStarts: a start that can't be names the setting, its value and the
// remedy, and the check of settings says the same without starting.
func TestRefusedStarts(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("one")
	_, other := a.issue("two")
	expired, expiredKey := a.issueUntil("old", time.Now().Add(-time.Minute))
	junk := a.write("junk", []byte("junk"))
	secret := a.write("secret", []byte(strings.Repeat("0123456789abcdef", 4)))
	open := a.write("open", []byte(strings.Repeat("0123456789abcdef", 4)))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	brokers := []string{"--brokers=127.0.0.1:1", "--secrets-key-file=" + secret}
	for _, c := range []struct {
		name      string
		args      []string
		says      []string
		startOnly bool
	}{
		{"no certificate", []string{"--tls-cert=/nowhere.crt", "--tls-key=" + key}, []string{"--tls-cert", "/nowhere.crt", "can read"}, false},
		{"not PEM", []string{"--tls-cert=" + junk, "--tls-key=" + key}, []string{"--tls-cert", junk, "PEM"}, false},
		{"another's key", []string{"--tls-cert=" + cert, "--tls-key=" + other}, []string{"--tls-key", other, "does not match", "its own private key"}, false},
		{"data below a file", []string{"--data=" + filepath.Join(junk, "data")}, []string{"--data", junk, "can write"}, true},
		{"no secrets key", []string{"--secrets-key-file=/nowhere.key"}, []string{"--secrets-key-file", "/nowhere.key", "name one"}, false},
		{"no key at all", []string{"--secrets-key-file=" + junk}, []string{"--secrets-key-file", junk, "32 bytes", "openssl"}, false},
		{"too open", []string{"--secrets-key-file=" + open}, []string{"--secrets-key-file", open, "0644", "chmod 600"}, false},
		{"no authority", append(brokers, "--kafka-tls-ca="+junk), []string{"--kafka-tls-ca", junk, "BEGIN CERTIFICATE"}, false},
		{"another's key for brokers", append(brokers, "--kafka-tls-cert="+cert, "--kafka-tls-key="+other), []string{"--kafka-tls-key", other, "does not match"}, false},
		{"an expired certificate for brokers", append(brokers, "--kafka-tls-cert="+expired, "--kafka-tls-key="+expiredKey), []string{"--kafka-tls-cert", expired, "expired on", "renew"}, false},
		{"no password", append(brokers, "--kafka-sasl=plain", "--kafka-sasl-user=u", "--kafka-sasl-password-file=/nowhere"), []string{"--kafka-sasl-password-file", "/nowhere"}, false},
		{"open password", append(brokers, "--kafka-sasl=plain", "--kafka-sasl-user=u", "--kafka-sasl-password-file="+open), []string{"--kafka-sasl-password-file", open, "0644"}, false},
		{"nobody there", brokers, []string{"--brokers", "127.0.0.1:1", "are they running"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range []string{"serve", "config check"} {
				if c.startOnly && command != "serve" {
					continue
				}
				args := append(strings.Fields(command), "--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--log-format=text", "--data="+filepath.Join(t.TempDir(), "data"))
				var out, errs bytes.Buffer
				if code := run(t.Context(), append(args, c.args...), std{Out: &out, Err: &errs}); code != 1 {
					t.Errorf("%s: exit code %d", command, code)
				}
				// What the process logged stands before.
				lines := strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
				for _, s := range append(c.says, "sluice: ") {
					if last := lines[len(lines)-1]; !strings.Contains(last, s) {
						t.Errorf("%s: %q doesn't say %q", command, last, s)
					}
				}
				if len(lines) > 1 && !c.startOnly {
					t.Errorf("%s: not one line: %q", command, errs.String())
				}
			}
		})
	}
	t.Run("an expired certificate", func(t *testing.T) { // is said by the check, and by a start that goes on
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"config", "check", "--tls-cert=" + expired, "--tls-key=" + expiredKey}, std{Out: &out, Err: &errs}); code != 1 || !strings.Contains(errs.String(), expired+" expired on ") {
			t.Errorf("exit code %d: %s", code, &errs)
		}
		var said lockedBuffer
		n, err := startNode(t.Context(), nodeConfig{Listen: "127.0.0.1:0", Ops: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"),
			TLSCert: expired, TLSKey: expiredKey, Logger: newLogger(&said, "text", slog.LevelInfo)})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if !strings.Contains(said.String(), "clients will refuse the certificate") {
			t.Errorf("the start says %s", said.String())
		}
	})
	t.Run("another secrets key", func(t *testing.T) {
		data := filepath.Join(t.TempDir(), "data")
		n := startStory(t, nodeConfig{})
		if err := n.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(n.cfg.Data, data); err != nil {
			t.Fatal(err)
		}
		refusedStart(t, nodeConfig{Data: data, SecretsKeyFile: secret}, "sealed with the key", "--secrets-key-file")
	})
}

// TestConfigCheck: each value with where it comes from, and no secret.
func TestConfigCheck(t *testing.T) {
	file := configFileWith(t, "data: /file\nops: :1\nlisten: :1\nbrokers: [a:1, b:2]\nsecrets-key-file: "+
		newAuthority(t).write("k", []byte(strings.Repeat("0123456789abcdef", 4)))+"\n")
	t.Setenv("SLUICE_OPS", ":2")
	t.Setenv("SLUICE_LISTEN", ":2")
	t.Setenv("SLUICE_ADMIN_TOKEN", "hidden-token")
	t.Setenv("SLUICE_EGRESS_PROXY", "http://me:hidden-password@proxy:3128")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "check", "--config", file, "--listen=:3", "--roles=api,gateway", "--egress-bind=127.0.0.7"}, std{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	have := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		have[fields[0]] = strings.Join(fields[1:], " ")
	}
	for setting, want := range map[string]string{
		"listen":        ":3 command line",
		"ops":           ":2 environment, SLUICE_OPS",
		"data":          "/file config file",
		"brokers":       "a:1,b:2 config file",
		"roles":         "api,gateway command line",
		"drain-timeout": "25s default",
		"egress-proxy":  "http://me:xxxxx@proxy:3128 environment, SLUICE_EGRESS_PROXY",
		"egress-bind":   "127.0.0.7 command line",
		"admin-token":   "(not shown) environment, SLUICE_ADMIN_TOKEN",
	} {
		if have[setting] != want {
			t.Errorf("%s: %q, not %q", setting, have[setting], want)
		}
	}
	if strings.Contains(out.String(), "hidden-") {
		t.Error("a secret is shown")
	}
	out.Reset()
	if code := run(t.Context(), []string{"config", "check", "--config", file, "--egress-bind=192.0.2.1"}, std{Out: &out, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "--egress-bind: ") || !strings.Contains(errs.String(), "192.0.2.1") {
		t.Errorf("an address that isn't this machine's: exit code %d, %s", code, &errs)
	}
}

// TestTwoOnOneDirectory: the second process on a data directory is refused, whatever
// its log, told who is there, and harms nothing.
func TestTwoOnOneDirectory(t *testing.T) {
	t.Parallel()
	onBothLogs(t, func(t *testing.T, args []string) {
		data := filepath.Join(t.TempDir(), "data")
		args = append(args, "--data", data)
		p := startProcess(t, args)
		second := slices.Clip(slices.Concat([]string{"serve", "--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--log-format=text"}, args))
		ways := [][]string{second, {"backup", filepath.Join(t.TempDir(), "copy"), "--ops=127.0.0.1:1", "--data", data}}
		if len(args) > 4 { // brokers: of their processes these could do without a directory
			ways = [][]string{second, append(second, "--roles=dispatcher"), append(second, "--admin-token=token")}
		}
		for _, way := range ways {
			var out, errs bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // for one that starts all the same
			code := run(ctx, way, std{Out: &out, Err: &errs})
			cancel()
			if code != 1 || !strings.Contains(errs.String(), fmt.Sprintf("--data: %s is in use by process %d, started ", data, p.cmd.Process.Pid)) || !strings.Contains(errs.String(), "a directory of its own") {
				t.Errorf("%v: exit code %d: %s", way, code, &errs)
			}
		}
		if err := p.call(t.Context(), "POST", "/v1/events", "application/json", []byte(`{"type":"a.b","data":{}}`), 202, nil); err != nil {
			t.Error(err)
		}
		p.kill() // what a killed process held is free
		p.start()
	})
}

// TestNoDirectory: a process on brokers that needn't keep anything doesn't make a
// directory, and does without one that it can't write.
func TestNoDirectory(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		cfg := onBrokers(t)
		cfg.AdminToken, cfg.Data = "token", filepath.Join(t.TempDir(), "none")
		startStory(t, cfg)
		if _, err := os.Stat(cfg.Data); !os.IsNotExist(err) {
			t.Errorf("the directory is there: %v", err)
		}
		cfg.Data = filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(cfg.Data, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		startStory(t, cfg)
	})
}
