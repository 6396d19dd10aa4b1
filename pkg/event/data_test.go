package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// nasty holds objects that are taken, and whose form is easily got wrong.
var nasty = []string{
	`{}`, ` { } `, "\t{\n\"a\" :\r1 }\n", `{"a":[]}`, `{"a":[ ]}`, `{"a":{}}`, `{"a":[1 , 2,{ "b" : null }]}`,
	`{"a":true,"b":false,"c":null}`,
	// Numbers.
	`{"n":45000.0}`, `{"n":-0}`, `{"n":-0.0}`, `{"n":0e5}`, `{"n":-0e-5}`, `{"n":0}`, `{"n":0.0}`, `{"n":1e21}`, `{"n":1E21}`, `{"n":1e+21}`,
	`{"n":1e20}`, `{"n":123456789012345680000.0}`, `{"n":1e-7}`, `{"n":0.0000001}`, `{"n":0.000001}`, `{"n":0.0000012345}`, `{"n":1.5e-9}`,
	`{"n":0.1}`, `{"n":0.10}`, `{"n":-0.5}`, `{"n":100}`, `{"n":1e2}`, `{"n":12e-1}`, `{"n":9007199254740991}`, `{"n":-9007199254740991}`,
	`{"n":9007199254740993.0}`, `{"n":1.7976931348623157e308}`, `{"n":5e-324}`, `{"n":4.9e-324}`, `{"n":2e-324}`, `{"n":1e-400}`, `{"n":2.2250738585072014e-308}`,
	`{"n":0.30000000000000004}`, `{"n":0.299999999999999988897769753748}`, `{"n":123456789.123456}`, `{"n":1234567890123.45}`, `{"n":12345678901234.5}`,
	`{"n":123456789012345.6}`, `{"n":999999999999999}`, `{"n":1000000000000000}`, `{"n":0.123456789012345}`, `{"n":0.12345678901234567}`, `{"n":0.000001234567890123}`,
	`{"n":1.0000000000000002}`, `{"n":4.35}`, `{"n":1.005}`, `{"n":123e-20}`, `{"n":123456e-7}`, `{"n":1.7e+2}`, `{"n":3.14E0}`, `{"n":[1.0,2.50,3]}`,
	// Strings.
	`{"s":""}`, `{"s":"\u0041"}`, `{"s":"\/"}`, `{"s":"/"}`, `{"s":"\""}`, `{"s":"\\"}`, `{"s":"\b\f\n\r\t"}`, `{"s":"\u0008\u000c\u000a\u000d\u0009"}`,
	`{"s":"\u0000\u001F\u001f\u000B\u000b"}`, `{"s":"\u007f"}`, "{\"s\":\"\x7f\"}", `{"s":"\u2028\u2029"}`, "{\"s\":\"\u2028\u2029\"}", `{"s":"<>&'"}`,
	`{"s":"é"}`, `{"s":"\u00e9\u00E9"}`, `{"s":"😀"}`, `{"s":"\ud83d\ude00"}`, `{"s":"\uD83D\uDE00x"}`, `{"s":"\ufeff"}`, `{"s":"\uffff\ufffd"}`,
	`{"s":"long enough to be looked at eight bytes at a time, \u0041 and \" at the end\\"}`, `{"s":"1234567\""}`, `{"s":"12345678\u00e9é"}`,
	// Names: order, escapes, those that mean something to JavaScript.
	`{"b":1,"a":2}`, `{"2":1,"1":2}`, `{"b":1,"1":2}`, `{"1":1,"b":2,"0":3}`, `{"0":1,"1":2,"a":3}`, `{"10":1,"9":2}`, `{"01":1,"1":2}`, `{"-1":1,"1":2}`,
	`{"1.5":1,"1":2}`, `{"4294967294":1,"3":2}`, `{"4294967295":1,"3":2}`, `{"a":0,"4294967295":1}`, `{"a":0,"4294967294":1}`, `{"4294967296":1,"a":2,"0":1}`,
	`{"a":0,"99999999999":1}`, `{"a":{"z":1,"5":{"y":2,"3":[{"x":1,"0":2}]}}}`, `{"x":[{"b":1,"7":2}]}`, `{"":1}`, `{"a":1,"":2,"0":3}`,
	`{"__proto__":1}`, `{"a":1,"__proto__":{"b":2}}`, `{"__proto__":{"__proto__":null},"1":1}`, `{"constructor":1,"toString":2,"hasOwnProperty":3,"toJSON":4}`,
	`{"\u0061":1}`, `{"\u0031":1,"0":2}`, `{"a":1,"\u0031":2}`, `{"a\u0000b":1}`, `{"a\nb":1}`, `{"\"":1}`, `{"é":1,"e":2}`, `{"\ud83d\ude00":1}`,
	`{"1e3":1,"5":2}`, `{"00":1,"0":2}`, `{" 1":1,"1":2}`, `{"A":1,"a":2}`,
	`{"type":1,"id":2,"timestamp":3,"cursor":4,"network":5,"subscription_id":6}`,
	`{"rfq":{"id":"rfq_1","pair":"ETH/USDC","amount":45000.0,"tags":["a","b"],"nested":{"deep":[[[[1.10]]]]}}}`,
}

// refused holds what isn't taken, the path it names, and a word of the message.
var refused = []struct {
	data, path, message string
}{
	{``, ``, "must be a JSON object"},
	{`null`, ``, "must be a JSON object"},
	{`[]`, ``, "must be a JSON object"},
	{`"x"`, ``, "must be a JSON object"},
	{"\ufeff{}", ``, "must be a JSON object"},
	{`{`, ``, "ends before"},
	{`{"a":`, `a`, "ends before"},
	{`{"a":1`, ``, "ends before"},
	{`{"a":"x`, `a`, "ends before"},
	{`{"a":1}}`, ``, "goes on"},
	{`{"a":1} x`, ``, "goes on"},
	{`{"a":1,}`, ``, "not valid JSON"},
	{`{"a":[1,]}`, `a`, "not valid JSON"},
	{`{,}`, ``, "not valid JSON"},
	{`{"a" 1}`, `a`, "not valid JSON"},
	{`{a:1}`, ``, "not valid JSON"},
	{`{"a":tru}`, `a`, "not valid JSON"},
	{`{"a":NaN}`, `a`, "not valid JSON"},
	{`{"a":Infinity}`, `a`, "not valid JSON"},
	{`{"a":01}`, ``, "not valid JSON"},
	{`{"a":1.}`, `a`, "not valid JSON"},
	{`{"a":.5}`, `a`, "not valid JSON"},
	{`{"a":+1}`, `a`, "not valid JSON"},
	{`{"a":1e}`, `a`, "not valid JSON"},
	{`{"a":-}`, `a`, "not valid JSON"},
	{`{"a":0x10}`, ``, "not valid JSON"},
	{"{\"a\":\"\x01\"}", `a`, "not valid JSON"},
	{"{\"a\":\"\n\"}", `a`, "not valid JSON"},
	{`{"a":"\x"}`, `a`, "not valid JSON"},
	{`{"a":"\u12"}`, `a`, "not valid JSON"},
	{`{"a":"\u+123"}`, `a`, "not valid JSON"},
	{"{\"a\":1\x00}", ``, "not valid JSON"},
	{`{"a":1,"a":2}`, `a`, "stands twice"},
	{`{"a":1,"\u0061":2}`, `a`, "stands twice"},
	{`{"x":{"1":1,"b":2,"1":3}}`, `x.1`, "stands twice"},
	{`{"x":[{"a":1,"b":{},"a":1}]}`, `x.0.a`, "stands twice"},
	{"{\"a\":\"\xff\"}", `a`, "UTF-8"},
	{"{\"a\":\"\xc0\xaf\"}", `a`, "UTF-8"},
	{"{\"a\":\"\xed\xa0\x80\"}", `a`, "UTF-8"},
	{"{\"\xff\":1}", ``, "UTF-8"},
	{`{"a":"\ud800"}`, `a`, "surrogate"},
	{`{"a":"\udc00"}`, `a`, "surrogate"},
	{`{"a":"\ud800\u0041"}`, `a`, "surrogate"},
	{`{"a":9007199254740992}`, `a`, "send it as a string"},
	{`{"a":{"b":[0,-9007199254740992]}}`, `a.b.1`, "send it as a string"},
	{`{"quote":{"price":12345678901234567890}}`, `quote.price`, "send it as a string"},
	{`{"a":1e309}`, `a`, "send it as a string"},
	{`{"a":-1e309}`, `a`, "send it as a string"},
	{`{"a":1` + strings.Repeat("0", 400) + `}`, `a`, "send it as a string"},
	{`{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, `a` + strings.Repeat(".0", 63), "deeper than 64"},
	{strings.Repeat(`{"a":`, 65) + `1` + strings.Repeat(`}`, 65), strings.TrimSuffix(strings.Repeat("a.", 64), "."), "deeper than 64"},
}

// node prints JSON.stringify(JSON.parse(x)) for each object, by JavaScript itself.
func node(t testing.TB, objects []string) []string {
	t.Helper()
	in, err := json.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "-e", `
		const all = JSON.parse(require("fs").readFileSync(0, "utf8"));
		process.stdout.write(JSON.stringify(all.map(x => JSON.stringify(JSON.parse(x)))))`)
	cmd.Stdin = bytes.NewReader(in)
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("run node, which these tests need: %v", err)
	}
	var out []string
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCanonicalAsNode(t *testing.T) {
	objects := slices.Clone(nasty)
	// Doubles of every size, in several spellings.
	for e := -330; e <= 308; e += 3 {
		objects = append(objects, fmt.Sprintf(`{"n":[1e%d,1.5e%d,9.999999999999999e%d,-1.2345678901234567e%d]}`, e, e, e, e))
	}
	for i := range 2000 {
		f := float64(i*i*i)/7 + float64(i)*1e-9
		objects = append(objects, fmt.Sprintf(`{"n":[%v,%.3f,%e,%.17g]}`, f, f, f, 1/(f+1)))
	}
	want := node(t, objects)
	for i, in := range objects {
		got, n, _, err := CanonicalPrefix([]byte(in))
		if err != nil || string(got) != want[i] {
			t.Errorf("Canonical(%s)\n got %s, %v\nwant %s", in, got, err, want[i])
			continue
		}
		if rest := strings.TrimSpace(in[n:]); rest != "" {
			t.Errorf("Canonical(%s) left %q", in, rest)
		}
		again, m, members, err := rebuild([]byte(in))
		if err != nil || string(again) != want[i] || m != n {
			t.Errorf("rebuild(%s)\n got %s, %d, %v\nwant %s, %d", in, again, m, err, want[i], n)
		}
		if _, _, first, _ := CanonicalPrefix([]byte(in)); first != members {
			t.Errorf("members of %s: %b and %b", in, first, members)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, c := range refused {
		out, _, err := Canonical([]byte(c.data))
		var de *DataError
		if !errors.As(err, &de) {
			t.Errorf("Canonical(%.60q) = %.60s, %v", c.data, out, err)
			continue
		}
		if path := strings.Join(de.Path, "."); path != c.path || !strings.Contains(de.Message, c.message) {
			t.Errorf("Canonical(%.60q): path %q, message %q; want %q, %q", c.data, path, de.Message, c.path, c.message)
		}
	}
}

func TestCanonicalDepth(t *testing.T) {
	in := strings.Repeat(`{"a":`, 63) + `[]` + strings.Repeat(`}`, 63)
	if _, _, err := Canonical([]byte(in)); err != nil {
		t.Errorf("depth 64: %v", err)
	}
	bomb := `{"a":` + strings.Repeat("[", 1<<20)
	if _, _, err := Canonical([]byte(bomb)); err == nil {
		t.Error("a million brackets were taken")
	}
}

func TestCanonicalManyNames(t *testing.T) {
	for _, n := range []int{scanNames - 1, scanNames, scanNames + 1, 5000} {
		var b strings.Builder
		b.WriteString(`{"0":0`)
		for i := range n {
			fmt.Fprintf(&b, `,"name_%d":%d`, i, i)
		}
		in := b.String() + `}`
		out, _, err := Canonical([]byte(in))
		if err != nil || string(out) != in {
			t.Errorf("%d names: %v", n, err)
		}
		var de *DataError
		if _, _, err := Canonical([]byte(b.String() + `,"name_1":0}`)); !errors.As(err, &de) || de.Path[0] != "name_1" {
			t.Errorf("%d names, one twice: %v", n, err)
		}
	}
}

func TestCanonicalKeepsWhatIsCanonical(t *testing.T) {
	in := []byte(`{"0":1,"type":"x","rfq":{"id":"rfq_1","price":1.25,"ok":true,"s":"a\nb é"},"list":[1,2,3]}`)
	var out []byte
	var members Members
	allocs := testing.AllocsPerRun(100, func() { out, members, _ = Canonical(in) })
	if allocs != 0 || &out[0] != &in[0] || len(out) != len(in) {
		t.Errorf("%v allocations, copied: %v", allocs, &out[0] != &in[0])
	}
	if members != MemberType {
		t.Errorf("members: %b", members)
	}
}

func TestMemberNames(t *testing.T) {
	for name, bit := range MemberNames {
		if memberOf([]byte(name)) != bit {
			t.Errorf("memberOf(%s) = %b, want %b", name, memberOf([]byte(name)), bit)
		}
		_, members, err := Canonical([]byte(`{"x":{"` + name + `":1}}`))
		if err != nil || members != 0 {
			t.Errorf("an inner %s was noted: %b, %v", name, members, err)
		}
		_, members, err = Canonical([]byte(`{"x":1,"` + name + `":1,"0":0}`))
		if err != nil || members != bit {
			t.Errorf("a member %s was noted as %b, %v", name, members, err)
		}
	}
}

func TestAppendMembers(t *testing.T) {
	const all = MemberType | MemberID | MemberTimestamp | MemberCursor | MemberNetwork | MemberSubscriptionID
	for _, c := range []struct {
		data string
		skip Members
		want string
	}{
		{`{}`, all, ``},
		{`{"a":1}`, all, `,"a":1`},
		{`{"id":1}`, all, ``},
		{`{"id":1}`, MemberType, `,"id":1`},
		{`{"a":1,"id":{"x":",}"},"b":[1,{"id":2}]}`, all, `,"a":1,"b":[1,{"id":2}]`},
		{`{"type":"\",\"x\\","a":"}{][\\\""}`, all, `,"a":"}{][\\\""`},
		{`{"a":[[],{}],"type":1,"id":2,"c":3}`, MemberType | MemberID, `,"a":[[],{}],"c":3`},
		{`{"0":1,"a,\"":{"b":"c\\"},"timestamp":1}`, all, `,"0":1,"a,\"":{"b":"c\\"}`},
	} {
		data, members, err := Canonical([]byte(c.data))
		if err != nil {
			t.Fatal(err)
		}
		ev := Event{Data: data, Members: members}
		if got := string(ev.AppendMembers(nil, c.skip)); got != c.want {
			t.Errorf("AppendMembers(%s, %b) = %s, want %s", c.data, c.skip, got, c.want)
		}
	}
}

// What JavaScript would write first stands first.
func TestAppendNumberedAndNamed(t *testing.T) {
	for data, want := range map[string]string{
		`{}`:                               `{"own":1}`,
		`{"a":1}`:                          `{"own":1,"a":1}`,
		`{"a":1,"10":[{"x":1}],"2":","}`:   `{"2":",","10":[{"x":1}],"own":1,"a":1}`,
		`{"0":0}`:                          `{"0":0,"own":1}`,
		`{"1":1,"id":2}`:                   `{"1":1,"own":1}`,
		`{"1":1,"id":2,"b":3}`:             `{"1":1,"own":1,"b":3}`,
		`{"01":1,"-1":2,"4294967295":"x"}`: `{"own":1,"01":1,"-1":2,"4294967295":"x"}`,
	} {
		canonical, members, err := Canonical([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		ev := Event{Data: canonical, Members: members}
		got := append(ev.AppendNumbered([]byte("{")), `"own":1`...)
		if got = append(ev.AppendNamed(got, MemberID), '}'); string(got) != want {
			t.Errorf("%s becomes %s, want %s", data, got, want)
		}
		if again, _, err := Canonical(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("written again it is %s, %v", again, err)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range nasty {
		f.Add([]byte(s))
	}
	for _, c := range refused {
		f.Add([]byte(c.data))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		out, n, members, err := CanonicalPrefix(in)
		if !bytes.Equal(in, before) {
			t.Fatalf("input was changed: %q", before)
		}
		slow, m, slowMembers, slowErr := rebuild(in)
		if len(bytes.TrimLeft(in, " \n\r\t")) == 0 || bytes.TrimLeft(in, " \n\r\t")[0] != '{' {
			if err == nil {
				t.Fatalf("took %q", in)
			}
			return
		}
		if (err == nil) != (slowErr == nil) || err == nil && (n != m || members != slowMembers || !bytes.Equal(out, slow)) {
			t.Fatalf("scan and rebuild differ on %q:\n%q %d %b %v\n%q %d %b %v", in, out, n, members, err, slow, m, slowMembers, slowErr)
		}
		if err != nil {
			return
		}
		if !jsontext.Value(in[:n]).IsValid() || !jsontext.Value(out).IsValid() {
			t.Fatalf("took what jsontext doesn't: %q → %q", in, out)
		}
		again, _, err := Canonical(out)
		var de *DataError
		switch {
		case errors.As(err, &de) && strings.Contains(de.Message, "2^53-1"):
			// A double of 2^53 or more, now an integer literal.
		case err != nil || !bytes.Equal(out, again):
			t.Fatalf("not idempotent: %q → %q → %q, %v", in, out, again, err)
		}
		ev := Event{Data: out, Members: members}
		flat := append(ev.AppendNamed(append(ev.AppendNumbered([]byte("{")), `"own":1`...), 0), '}')
		if again, _, _, err := rebuild(flat); err == nil && !bytes.Equal(again, flat) {
			t.Fatalf("%q with a member of one's own is %q, and written again %q", out, flat, again)
		}
		if got := ev.AppendMembers([]byte(`{"own":1`), 0xff); !jsontext.Value(append(got, '}')).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Fatalf("AppendMembers of %q: %q", out, got)
		}
	})
}

// object300 is some 300 bytes, as a publisher would send it.
const object300 = `{"rfq":{"id":"rfq_xyz789","pair":"ETH/USDC","side":"buy","amount":"1250000000000000000","price":3412.55,"taker":"org_taker","corridor":"ethereum-optimism","createdAt":"2026-11-22T02:50:42.123Z","expiresAt":"2026-11-22T02:51:12.123Z","quotes":[],"filled":false,"note":"first of two","venue":null,"n":17}}`

func BenchmarkCanonical(b *testing.B) {
	spaced := strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(object300)
	for name, in := range map[string]string{"canonical": object300, "spaced": spaced} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(in)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Canonical(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
