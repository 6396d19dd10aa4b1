package control_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sluice/pkg/control"
)

func TestSealOpensOnlyWhatItSealedThere(t *testing.T) {
	s := sealer(t)
	text := []byte("whsec_c2VjcmV0")
	sealed := s.Seal(text, "org_a", "wh_1", 1)
	if got, err := s.Open(sealed, "org_a", "wh_1", 1); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%q, %v", got, err)
	}
	if bytes.Equal(sealed, s.Seal(text, "org_a", "wh_1", 1)) {
		t.Error("sealed twice alike")
	}
	if bytes.Contains(sealed, text[6:]) {
		t.Error("the secret shows")
	}
	for _, c := range []struct {
		name, org, endpoint string
		version             uint32
	}{
		{"another org", "org_b", "wh_1", 1}, {"another endpoint", "org_a", "wh_2", 1}, {"another version", "org_a", "wh_1", 2},
		{"the same letters, cut elsewhere", "org_aw", "h_1", 1},
	} {
		if got, err := s.Open(sealed, c.org, c.endpoint, c.version); !errors.Is(err, control.ErrSeal) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := s.Open(bad, "org_a", "wh_1", 1); !errors.Is(err, control.ErrSeal) {
			t.Errorf("byte %d flipped: %q, %v", i, got, err)
		}
		if got, err := s.Open(sealed[:i], "org_a", "wh_1", 1); !errors.Is(err, control.ErrSeal) {
			t.Errorf("cut at %d: %q, %v", i, got, err)
		}
	}
	other, err := control.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.Open(sealed, "org_a", "wh_1", 1); !errors.Is(err, control.ErrSeal) {
		t.Errorf("another key: %q, %v", got, err)
	}
	if other.Fingerprint() == s.Fingerprint() {
		t.Error("two keys with one fingerprint")
	}
}

func TestSealerFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secrets.key")
	if _, err := control.LoadSealer(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	made, err := control.CreateSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if loaded, err := control.LoadSealer(path); err != nil || loaded.Fingerprint() != made.Fingerprint() {
		t.Errorf("%v", err)
	}
	if _, err := control.CreateSealer(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("wrote over a key: %v", err)
	}

	key := []byte("0123456789abcdef0123456789abcd?>") // its base64 has a + or a /
	want, err := control.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"hex":             {hex.EncodeToString(key), true},
		"hex and newline": {hex.EncodeToString(key) + "\r\n", true},
		"base64":          {base64.StdEncoding.EncodeToString(key) + "\n", true},
		"base64url":       {base64.URLEncoding.EncodeToString(key), true},
		"no padding":      {base64.RawStdEncoding.EncodeToString(key), true},
		"raw bytes":       {string(key), false},
		"31 bytes":        {hex.EncodeToString(key[1:]), false},
		"empty":           {"", false},
	} {
		p := filepath.Join(dir, "x")
		if err := os.WriteFile(p, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := control.LoadSealer(p)
		if (err == nil) != c.good || c.good && s.Fingerprint() != want.Fingerprint() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && c.text != "" && bytes.Contains([]byte(err.Error()), []byte(c.text)) {
			t.Errorf("%s: the error repeats the key: %v", name, err)
		}
	}
}
