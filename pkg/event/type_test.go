package event

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var typeWord = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$`)

func TestValidType(t *testing.T) {
	for s, want := range map[string]bool{
		"rfq.created": true, "a.b": true, "a.1": true, "a1_.b_.3": true, "a." + strings.Repeat("b", MaxType-2): true,
		"": false, "a": false, "a.": false, ".a": false, "a..b": false, "1.a": false, "_.a": false, "A.b": false, "a.B": false,
		"a.b ": false, "a-b.c": false, "*": false, "a.*": false, "../x": false, "a.\x00": false, "é.b": false,
		"a." + strings.Repeat("b", MaxType-1): false,
	} {
		if ValidType(s) != want {
			t.Errorf("ValidType(%q) = %v", s, !want)
		}
	}
}

func TestParsePattern(t *testing.T) {
	for s, want := range map[string]error{
		"*": nil, "rfq.*": nil, "a*b*c": nil, "*.*.*.*.*.*.*.*": nil, "a": nil, ".": nil,
		"": ErrPatternLength, strings.Repeat("a", MaxType+1): ErrPatternLength,
		"A": ErrPatternByte, "a b": ErrPatternByte, "a?": ErrPatternByte, "a.\n": ErrPatternByte, "é": ErrPatternByte,
		"**": ErrPatternStars, "a**b": ErrPatternStars, "*.*.*.*.*.*.*.*.*": ErrPatternStars,
	} {
		if _, err := ParsePattern(s); err != want {
			t.Errorf("ParsePattern(%q): %v, want %v", s, err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, typ string
		want         bool
	}{
		{"*", "a.b", true}, {"rfq.*", "rfq.created", true}, {"rfq.*", "rfq.", true}, {"rfq.*", "rfq", false}, {"rfq.*", "xrfq.a", false},
		{"*.created", "rfq.created", true}, {"*.created", "rfq.created.late", false}, {"a*b", "ab", true}, {"a*b", "a.b.b", true},
		{"a*b*c", "axbxbxc", true}, {"a*b*c", "axcxb", false}, {"a.b", "a.b", true}, {"a.b", "axb", false}, {"*a", "ba", true}, {"*aab", "aaaab", true},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil || p.String() != c.pattern || p.Match(c.typ) != c.want {
			t.Errorf("%q on %q: %v, %v", c.pattern, c.typ, p.Match(c.typ), err)
		}
	}
	var none Patterns
	if none.Match("a.b") {
		t.Error("no patterns matched")
	}
	a, _ := ParsePattern("a.*")
	b, _ := ParsePattern("b.c")
	both := Patterns{a, b}
	if !both.Match("b.c") || !both.Match("a.x") || both.Match("b.d") || !slices.Equal(both.Strings(), []string{"a.*", "b.c"}) {
		t.Error("a set of patterns")
	}
}

// hostile patterns have as much as can be tried again at each place of a type.
var hostile = []string{
	"*a*a*a*a*a*a*a*b",
	"*" + strings.Repeat("a", MaxType/2) + "b*",
	"*" + strings.Repeat(strings.Repeat("a", 14)+"*", 7) + "b",
}

func TestMatchHostile(t *testing.T) {
	typ := strings.Repeat("a", MaxType)
	for _, text := range hostile {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if allocs := testing.AllocsPerRun(1000, func() { _ = p.Match(typ) }); allocs != 0 || p.Match(typ) {
			t.Errorf("%s: %v allocations, match %v", text, allocs, p.Match(typ))
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	typ := strings.Repeat("a", MaxType)
	for _, text := range append(hostile, "rfq.*", "*.created") {
		p, err := ParsePattern(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			for b.Loop() {
				p.Match(typ)
			}
		})
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("rfq.*", "rfq.created")
	f.Add("*a*b*", "xaxb")
	f.Add("a*", "a")
	f.Add("*.*", "..")
	f.Fuzz(func(t *testing.T, pattern, typ string) {
		if got := len(typ) <= MaxType && typeWord.MatchString(typ); got != ValidType(typ) {
			t.Errorf("ValidType(%q) = %v", typ, !got)
		}
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		oracle := regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `$`)
		// The oracle reads runes; types are ASCII.
		if typ = strings.ToValidUTF8(typ, ""); p.Match(typ) != oracle.MatchString(typ) {
			t.Errorf("%q on %q: %v", pattern, typ, p.Match(typ))
		}
	})
}
