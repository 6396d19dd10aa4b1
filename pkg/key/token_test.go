package key_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// The checksums of these were worked out with Python's zlib.crc32.
const (
	zeros, sumZeros = "sk_test_00000000000000000000000000000000", "127lYz"
	abc, sumABC     = "sk_live_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", "0qFxc3"
)

func TestCheck(t *testing.T) {
	good := string(key.New(event.Sandbox))
	for _, c := range []struct {
		name, token string
		env         event.Environment
	}{
		{"empty", "", 0},
		{"prefix only", "sk_test_", 0},
		{"another prefix", "tk_test_" + good[8:], 0},
		{"no word", good[2:], 0},
		{"a word of 17 letters", string(key.Branded("abcdefghijklmnopq", event.Live)), 0},
		{"a word with a capital", string(key.Branded("Acme", event.Live)), 0},
		{"a word with a digit", string(key.Branded("ac1e", event.Live)), 0},
		{"only a word", "sk", 0},
		{"prefix of the other environment", "sk_live_" + good[8:], 0},
		{"too short", good[:len(good)-1], 0},
		{"too long", good + "0", 0},
		{"no base62", good[:20] + "-" + good[21:], 0},
		{"a byte outside ASCII", good[:20] + "\xff" + good[21:], 0},
		{"NUL", good[:20] + "\x00" + good[21:], 0},
		{"one typed wrong", swap(good, 12), 0},
		{"checksum typed wrong", swap(good, len(good)-1), 0},
		{"good", good, event.Sandbox},
		{"another word", string(key.Branded("acme", event.Sandbox)), event.Sandbox},
		{"another word of 16 letters, live", string(key.Branded("abcdefghijklmnop", event.Live)), event.Live},
		{"good live", string(key.New(event.Live)), event.Live},
		{"from elsewhere", zeros + sumZeros, event.Sandbox},
		{"from elsewhere, live", abc + sumABC, event.Live},
	} {
		env, err := key.Check(c.token)
		if env != c.env || (err == nil) != (c.env != 0) {
			t.Errorf("%s: got %v, %v", c.name, env, err)
		}
	}
}

func swap(s string, i int) string {
	b := []byte(s)
	if b[i]++; b[i] == 'z'+1 || b[i] == 'Z'+1 || b[i] == '9'+1 {
		b[i] = '0'
	}
	return string(b)
}

func TestNewIsRandomAndWellFormed(t *testing.T) {
	seen := map[key.Token]bool{}
	count := map[byte]int{}
	for range 2000 {
		for _, env := range event.Environments {
			tok := key.New(env)
			if got, err := key.Check(string(tok)); err != nil || got != env {
				t.Fatalf("made a %v key that reads as %v: %v", env, got, err)
			}
			if seen[tok] {
				t.Fatal("made the same key twice")
			}
			seen[tok] = true
			for _, c := range []byte(tok)[8:40] {
				count[c]++
			}
		}
	}
	// 128,000 characters over 62: each about 2,065 times, 45 the deviation.
	if len(count) != 62 {
		t.Fatalf("%d different characters", len(count))
	}
	for c, n := range count {
		if n < 1700 || n > 2400 {
			t.Errorf("%c stands %d times", c, n)
		}
	}
}

func TestHash(t *testing.T) {
	h := key.Hash("abc")
	if got := hex.EncodeToString(h[:]); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("got %s", got)
	}
}

func TestTokenPrintsRedacted(t *testing.T) {
	tok := key.New(event.Live)
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("made", "key", tok)
	slog.New(slog.NewTextHandler(&buf, nil)).Info("made", "key", tok)
	fmt.Fprintf(&buf, "%v %s %#v %q", tok, tok, tok, tok)
	if strings.Contains(buf.String(), string(tok)[8:]) {
		t.Errorf("printed: %s", buf.String())
	}
}

func TestParseScopes(t *testing.T) {
	got, err := key.ParseScopes([]string{"manage", "publish", "manage"})
	if err != nil || len(got) != 2 || got[0] != key.Publish || got[1] != key.Manage {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range [][]string{nil, {}, {""}, {"Publish"}, {"publish", "admin"}} {
		if got, err := key.ParseScopes(bad); err == nil {
			t.Errorf("%v: got %v", bad, got)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(string(key.New(event.Live)))
	f.Fuzz(func(t *testing.T, s string) {
		env, err := key.Check(s)
		if (err == nil) != (env != 0) {
			t.Fatalf("%q: %v, %v", s, env, err)
		}
	})
}

func BenchmarkCheckAndHash(b *testing.B) {
	tok := string(key.New(event.Live))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.Check(tok); err != nil {
			b.Fatal(err)
		}
		key.Hash(tok)
	}
}

func TestStart(t *testing.T) {
	tok := key.Branded("acme", event.Live)
	if got := tok.Start(); got != string(tok)[:len("acme_live_abc")] || !strings.HasPrefix(got, "acme_live_") {
		t.Errorf("%s is shown as %s", string(tok), got)
	}
}
