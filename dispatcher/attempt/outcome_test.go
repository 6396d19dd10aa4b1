package attempt

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestRetryAt(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"10": 10 * time.Second, " 120 ": 2 * time.Minute, "0": 0, "1000000000": maxRetryAfter, "99999999999999999999": maxRetryAfter,
		"Sun, 22 Nov 2026 03:00:30 GMT": 30 * time.Second, "Mon, 22 Nov 2126 03:00:30 GMT": maxRetryAfter,
	} {
		if got := retryAt(header, now); !got.Equal(now.Add(want)) {
			t.Errorf("%q: %v, want in %v", header, got, want)
		}
	}
	for _, header := range []string{"", " ", "-5", "+5", "1.5", "soon", "10 s", "Sun, 22 Nov 2026 02:59:30 GMT", "0x10"} {
		if got := retryAt(header, now); !got.IsZero() {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                        "plain",
		"a\r\nb\tc\x00d\x1b[31m":       "a  b c d [31m",
		"\xff\xfe":                     "  ",
		"right\u202eto left":           "right to left",
		"\u2028":                       " ",
		strings.Repeat("é", 200):       strings.Repeat("é", 128),
		strings.Repeat("a", 1000):      strings.Repeat("a", 256),
		"a" + strings.Repeat("é", 200): "a" + strings.Repeat("é", 127),
	} {
		if got := clean(in); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
