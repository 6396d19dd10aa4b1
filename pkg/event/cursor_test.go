package event

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"
)

func TestCursor(t *testing.T) {
	for _, c := range []Cursor{
		{Environment: Sandbox},
		{Incarnation: Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, Environment: Live, Next: 1},
		{Incarnation: Incarnation{255}, Environment: Sandbox, Next: math.MaxInt64},
	} {
		s := c.String()
		got, err := ParseCursor(s)
		if len(s) != CursorLen || err != nil || got != c {
			t.Errorf("%+v is %q is %+v, %v", c, s, got, err)
		}
	}
	if s := (Cursor{Incarnation: Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, Environment: Live, Next: 258}).String(); s != "AQECAwQFBgcIAgAAAAAAAAEC" {
		t.Errorf("the bytes of a cursor have changed: %s", s)
	}
}

func TestCursorRefuses(t *testing.T) {
	raw := func(version, env byte, next ...byte) string {
		b := append([]byte{version, 1, 2, 3, 4, 5, 6, 7, 8, env}, make([]byte, 8)...)
		copy(b[10:], next)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	if _, err := ParseCursor(raw(1, 1)); err != nil {
		t.Fatal(err)
	}
	good := raw(1, 1)
	for _, s := range []string{
		"", "x", good[:CursorLen-1], good + "A", strings.Repeat("!", CursorLen), good[:CursorLen-1] + "=", good[:CursorLen-1] + "\n",
		raw(0, 1), raw(2, 1), raw(1, 0), raw(1, 3), raw(1, 1, 0x80), raw(1, 1, 0xff),
	} {
		if c, err := ParseCursor(s); err != ErrCursor || c != (Cursor{}) {
			t.Errorf("ParseCursor(%q) = %+v, %v", s, c, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("AQECAwQFBgcIAgAAAAAAAAEC")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCursor(s); err == nil && c.String() != s {
			t.Errorf("%q is %+v is %q", s, c, c)
		}
	})
}
