package control_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/pkg/control"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

var oldKey, newKey = []byte("0123456789abcdef0123456789abcdef"), bytes.Repeat([]byte("n"), 32)

func withKeys(t *testing.T, log eventlog.Log, path string, keys ...[]byte) (*control.Control, error) {
	t.Helper()
	s, err := control.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Open(t.Context(), control.Config{Log: log, Sealer: s, Lanes: 16, Snapshot: path})
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

// sealedIn holds that the log gives the same state to whoever reads all of it, and that
// no secret, all of which have canary in them, lies in it as it is.
func sealedIn(t *testing.T, log eventlog.Log, c *control.Control, canary string) {
	t.Helper()
	again, err := withKeys(t, log, "", oldKey)
	if err != nil {
		t.Fatal(err)
	}
	sameState(t, c, again)
	if strings.Contains(everything(t, log), canary) {
		t.Error("a secret lies in the log")
	}
}

// A new sealing key comes to all nodes before it is used, and then in front; what
// was sealed before opens as ever.
func TestSealingKeysRotate(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "snapshot")
	lost := filepath.Join(t.TempDir(), "of a node without the new key")
	only, err := withKeys(t, log, lost, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	do(t, only, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	first := do(t, only, newEndpoint("org_a")).Endpoint

	both, err := withKeys(t, log, "", oldKey, newKey)
	if err != nil {
		t.Fatal(err)
	}
	if at := both.Applied(); at != only.Applied() {
		t.Errorf("a key that isn't used yet was recorded at %d", at)
	}
	rotated, err := withKeys(t, log, path, newKey, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	second := do(t, rotated, newEndpoint("org_a")).Endpoint
	for name, c := range map[string]*control.Control{"before": both, "after": rotated} {
		if err := c.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ep := range []string{first.ID, second.ID} {
			if got := c.Endpoint(ep); got == nil || string(got.Secret) != secret {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	// The node that has the old key only stops before it would skip an endpoint.
	if err := only.Fresh(t.Context()); err == nil || !strings.Contains(err.Error(), "--secrets-key-file") {
		t.Errorf("the node without the new key: %v", err)
	}
	only.Close()
	if _, err := os.Stat(lost); !os.IsNotExist(err) {
		t.Errorf("it left a snapshot of a state that never was: %v", err)
	}
	rotated.Close()
	for name, keys := range map[string][][]byte{"the old key": {oldKey}, "the new key": {newKey}} {
		for _, path := range []string{"", path} {
			if _, err := withKeys(t, log, path, keys...); err == nil || !strings.Contains(err.Error(), "--secrets-key-file") {
				t.Errorf("a start with %s only: %v", name, err)
			}
		}
	}
	end := both.Applied()
	again, err := withKeys(t, log, path, newKey, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	if again.Applied() != end {
		t.Error("the same key was recorded again")
	}
	sameState(t, again, both)
}

// That nothing is sealed yet doesn't make another key the right one.
func TestAnotherKeyAndASnapshotWithoutSecrets(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "snapshot")
	c, err := withKeys(t, log, path, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := withKeys(t, log, path, newKey); err == nil || !strings.Contains(err.Error(), "--secrets-key-file") {
		t.Errorf("got %v", err)
	}
	// Had it been recorded, the nodes that are right would stop.
	if _, end, err := log.Bounds(t.Context(), eventlog.Partition{Topic: "control"}); end != 1 || err != nil {
		t.Errorf("the log has %d commands: %v", end, err)
	}
}

func TestKeyFilesWithSeveralKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string) (*control.Sealer, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return control.LoadSealer(path)
	}
	one, two := hex.EncodeToString(newKey), hex.EncodeToString(oldKey)
	s, err := write("# since November\n" + one + "\r\n\n  " + two + "  \n")
	if err != nil {
		t.Fatal(err)
	}
	before, err := control.NewSealer(oldKey)
	if err != nil {
		t.Fatal(err)
	}
	first, err := control.NewSealer(newKey)
	if err != nil {
		t.Fatal(err)
	}
	if s.Fingerprint() != first.Fingerprint() || !s.Has(before.Fingerprint()) || s.Has("") {
		t.Error("the first line isn't the key that it seals with")
	}
	if got, err := s.Open(before.Seal([]byte("x"), "o", "e", 1), "o", "e", 1); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := before.Open(s.Seal([]byte("x"), "o", "e", 1), "o", "e", 1); err == nil {
		t.Error("it sealed with the old key")
	}
	for name, text := range map[string]string{"twice the same": one + "\n" + one, "only a comment": "# none\n", "one of them short": one + "\nabcd"} {
		if _, err := write(text); err == nil || strings.Contains(err.Error(), one) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
