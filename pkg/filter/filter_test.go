package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"sluice/pkg/event"
)

func of(t testing.TB, raw string) *Filter {
	t.Helper()
	text, err := Parse([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	f, err := Of(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// canonical is data as events have it.
func canonical(t testing.TB, data string) []byte {
	t.Helper()
	b, _, err := event.Canonical([]byte(data))
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return b
}

func with(data []byte) *event.Event { return &event.Event{Data: data} }

func TestMatch(t *testing.T) {
	const data = `{
		"pair":"ETH/USDC","n":45000.0,"zero":-0,"big":"100000000000000000001","text":"45","yes":true,"none":null,
		"quote":{"price":1.5,"maker":{"id":"m_1","ü\n\"":"\u001f\\n"},"dots.in":1},"list":[1,{"a":2}],"":1,"e":1e21,"tiny":0.00000015,"neg":-12.5
	}`
	for filter, want := range map[string]bool{
		`{"pair":"ETH/USDC"}`:                        true,
		`{"pair":"eth/usdc"}`:                        false,
		`{"pair":"ETH\/US\u0044C"}`:                  true,
		`{"n":45000}`:                                true,
		`{"n":4.5e4}`:                                true,
		`{"n":"45000"}`:                              false,
		`{"text":45}`:                                false,
		`{"zero":0}`:                                 true,
		`{"yes":true}`:                               true,
		`{"yes":false}`:                              false,
		`{"none":null}`:                              true,
		`{"missing":null}`:                           false,
		`{"list":1}`:                                 false,
		`{"quote.price":1.5,"pair":"ETH/USDC"}`:      true,
		`{"quote.price":1.5,"pair":"x"}`:             false,
		`{"quote.maker.id":"m_1"}`:                   true,
		`{"quote.maker.ü\n\"":"\u001f\\n"}`:          true,
		`{"quote.dots.in":1}`:                        false,
		`{"list.0":1}`:                               false,
		`{"pair.x":1}`:                               false,
		`{"pair":{"in":["a","ETH/USDC",1]}}`:         true,
		`{"pair":{"in":["a"]}}`:                      false,
		`{"n":{"in":["45000",45000]}}`:               true,
		`{"none":{"in":[null]}}`:                     true,
		`{"pair":{"prefix":"ETH/"}}`:                 true,
		`{"pair":{"prefix":""}}`:                     true,
		`{"pair":{"prefix":"ETH/USDC"}}`:             true,
		`{"pair":{"prefix":"ETH/USDC "}}`:            false,
		`{"n":{"prefix":"45"}}`:                      false,
		`{"n":{"prefix":""}}`:                        false,
		`{"quote.maker":{"prefix":""}}`:              false,
		`{"quote":{"exists":true}}`:                  true,
		`{"none":{"exists":true}}`:                   true,
		`{"none":{"exists":false}}`:                  false,
		`{"missing":{"exists":false}}`:               true,
		`{"quote.missing":{"exists":true}}`:          false,
		`{"pair.x":{"exists":false}}`:                true,
		`{"quote.price":{"gte":1.5}}`:                true,
		`{"quote.price":{"gt":1.5}}`:                 false,
		`{"quote.price":{"gt":1.4999,"lt":1.6}}`:     true,
		`{"quote.price":{"gt":1.4999,"lt":1.5}}`:     false,
		`{"quote.price":{"lte":1.5}}`:                true,
		`{"quote.price":{"gt":-2}}`:                  true,
		`{"zero":{"gte":0,"lte":0}}`:                 true,
		`{"zero":{"gt":-0.1,"lt":0.1}}`:              true,
		`{"big":{"gt":"100000000000000000000"}}`:     true,
		`{"big":{"gt":"100000000000000000001"}}`:     false,
		`{"big":{"gt":1e20}}`:                        true,
		`{"big":{"lt":"1.00000000000000000002e20"}}`: true,
		`{"text":{"gte":45,"lte":"45.0"}}`:           true,
		`{"pair":{"gt":0}}`:                          false,
		`{"pair":{"lte":0}}`:                         false,
		`{"yes":{"gt":0}}`:                           false,
		`{"missing":{"lt":0}}`:                       false,
		`{"e":{"gte":"1000000000000000000000"}}`:     true,
		`{"tiny":{"lt":"0.000000150000001"}}`:        true,
		`{"tiny":{"gt":"1.4e-7"}}`:                   true,
		`{"neg":{"lt":-2,"gt":-100}}`:                true,
		`{"neg":{"gt":-2}}`:                          false,
		`{"neg":{"lt":-100}}`:                        false,
		`{"neg":{"gt":"-12.51","lt":"-12.49"}}`:      true,
		`{"quote.price":1.5,"dots":{"exists":false},"dots.in":{"exists":false},"maker":{"exists":false}}`: true,
		`{"quote.price":1.5,"e":1e21}`:               true,
		`{"$or":[{"pair":"x"},{"n":45000}]}`:         true,
		`{"$or":[{"pair":"x"},{"n":1}]}`:             false,
		`{"$and":[{"pair":"ETH/USDC"},{"n":45000}]}`: true,
		`{"$and":[{"pair":"ETH/USDC"},{"n":1}]}`:     false,
		`{"$not":{"pair":"x"}}`:                      true,
		`{"$not":{"pair":"ETH/USDC","n":1}}`:         true,
		`{"$not":{"missing":{"gt":1}}}`:              true,
		`{"pair":"ETH/USDC","$or":[{"n":1},{"$not":{"quote.price":{"gt":2}}}],"$and":[{"yes":true}]}`: true,
	} {
		if got := of(t, filter).Match(with(canonical(t, data))); got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
	// What is inside an object, behind what is looked for in it, isn't outside.
	if f := of(t, `{"q.a":1,"b":3}`); !f.Match(with([]byte(`{"q":{"a":1,"b":2},"b":3}`))) || f.Match(with([]byte(`{"q":{"a":1,"b":3},"c":3}`))) {
		t.Error("behind an object")
	}
	if of(t, `{"a":1}`).Match(with([]byte(`{}`))) || !of(t, `{"a":{"exists":false}}`).Match(with([]byte(`{}`))) {
		t.Error("of an empty object")
	}
}

// What routes an event isn't in its data, and can be asked for like a member.
func TestMatchAttributes(t *testing.T) {
	ev := &event.Event{Data: canonical(t, `{"network":"in data","a":1}`), Network: "mainnet", Corridor: "a\"b"}
	for raw, want := range map[string]bool{
		`{"$network":"mainnet"}`:                             true,
		`{"$network":"in data"}`:                             false,
		`{"network":"in data"}`:                              true,
		`{"network":"mainnet"}`:                              false,
		`{"$network":{"in":["testnet","mainnet"]},"a":1}`:    true,
		`{"$network":"mainnet","a":2}`:                       false,
		`{"$network":{"prefix":"main"}}`:                     true,
		`{"$corridor":"a\"b"}`:                               true,
		`{"$not":{"$corridor":"a"}}`:                         true,
		`{"$or":[{"$network":"testnet"},{"$corridor":"x"}]}`: false,
		`{"$network":{"exists":true}}`:                       true,
	} {
		f := of(t, raw)
		if got := f.Match(ev); got != want {
			t.Errorf("%s: %v", raw, got)
		}
		if f.Attributes() != strings.Contains(raw, "$network") && f.Attributes() != strings.Contains(raw, "$corridor") {
			t.Errorf("%s: asks for attributes: %v", raw, f.Attributes())
		}
	}
	none := with([]byte(`{}`))
	if of(t, `{"$network":{"prefix":""}}`).Match(none) || !of(t, `{"$network":{"exists":false}}`).Match(none) {
		t.Error("of an event without a network")
	}
}

func TestParse(t *testing.T) {
	many := func(n int, format string) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(format, i))
		}
		return strings.Join(parts, ",")
	}
	for raw, want := range map[string]string{
		`{}`:                                     ``,
		` { "b" : 1.0 , "a": "\u0041" } `:        `{"b":1,"a":"A"}`,
		`{"a":{"gt":1e20}}`:                      `{"a":{"gt":100000000000000000000}}`, // as JavaScript prints it
		`{` + many(64, `"a%d":1`) + `}`:          `{` + many(64, `"a%d":1`) + `}`,
		`{"a":{"in":[` + many(100, "%d") + `]}}`: `{"a":{"in":[` + many(100, "%d") + `]}}`,
	} {
		text, err := Parse([]byte(raw))
		if err != nil || text != want {
			t.Errorf("%s: %q, %v", raw, text, err)
		}
		if text == "" {
			continue
		}
		if f, err := Of(text); err != nil || f.Text() != text {
			t.Errorf("%s can't be read back: %v", text, err)
		}
	}
	deep := func(n int) string { return strings.Repeat(`{"$not":`, n-1) + `{"a":1}` + strings.Repeat("}", n-1) }
	if _, err := Parse([]byte(deep(MaxDepth))); err != nil {
		t.Error(err)
	}
	for raw, path := range map[string]string{
		``:                                       "",
		`[]`:                                     "",
		`"x"`:                                    "",
		`{"a":1}x`:                               "",
		`{"a":1,"a":2}`:                          "a",
		`{"a":"` + "\xff" + `"}`:                 "a",
		`{"a":{"gt":9007199254740993}}`:          "a gt",
		`{"a":1e999}`:                            "a",
		`{"$nor":[{"a":1}]}`:                     "$nor",
		`{"$or":{"a":1}}`:                        "$or",
		`{"$or":[]}`:                             "$or",
		`{"$or":[{"a":1},{}]}`:                   "$or 1",
		`{"$and":[1]}`:                           "$and 0",
		`{"$not":[{"a":1}]}`:                     "$not",
		`{"$not":{}}`:                            "$not",
		`{"a":{}}`:                               "a",
		`{"a":[1]}`:                              "a",
		`{"a":{"eq":1}}`:                         "a eq",
		`{"a":{"in":1}}`:                         "a in",
		`{"a":{"in":[]}}`:                        "a in",
		`{"a":{"in":[1,{}]}}`:                    "a in 1",
		`{"a":{"in":[` + many(101, "%d") + `]}}`: "a in",
		`{"a":{"prefix":1}}`:                     "a prefix",
		`{"a":{"exists":1}}`:                     "a exists",
		`{"a":{"gte":"x"}}`:                      "a gte",
		`{"a":{"gte":true}}`:                     "a gte",
		`{"a":{"gte":"01"}}`:                     "a gte",
		`{"a":{"gte":"1e99999"}}`:                "a gte",
		`{"":1}`:                                 "",
		`{"a..b":1}`:                             "a..b",
		`{"a.":1}`:                               "a.",
		`{"` + strings.Repeat("a.", 16) + `b":1}`:      strings.Repeat("a.", 16) + "b",
		`{` + many(65, `"a%d":1`) + `}`:                "a64",
		deep(MaxDepth + 1):                             strings.TrimSpace(strings.Repeat("$not ", MaxDepth)),
		`{"a":"` + strings.Repeat("x", MaxText) + `"}`: "",
	} {
		_, err := Parse([]byte(raw))
		var wrong *Error
		if !errors.As(err, &wrong) || strings.Join(wrong.Path, " ") != path || wrong.Message == "" {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// Who has the same filter shares it, and what nobody has is forgotten.
func TestShared(t *testing.T) {
	a, b := of(t, `{"shared":1}`), of(t, `{ "shared" : 1.0 }`)
	if a != b {
		t.Error("the same filter was compiled twice")
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	a, b = nil, nil
	for range 100 {
		runtime.GC()
		shared.Lock()
		_, there := shared.filters[`{"shared":1}`]
		shared.Unlock()
		if !there {
			return
		}
	}
	t.Error("it is kept for nobody")
}

func TestMatchAllocatesNothing(t *testing.T) {
	f := of(t, `{"quote.price":{"gte":1,"lt":"2.5"},"pair":{"in":["a","ETH/USDC"]},"$or":[{"x":{"prefix":"y"}},{"text":{"gt":1}}],"$network":"mainnet"}`)
	ev := with(canonical(t, `{"pair":"ETH/USDC","quote":{"price":1.5},"text":"45","long":"`+strings.Repeat("x", 300)+`"}`))
	ev.Network = "mainnet"
	if n := testing.AllocsPerRun(100, func() {
		if !f.Match(ev) {
			t.Fatal("it doesn't match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMatch holds what the pass over the bytes says against a plain evaluation of
// what encoding/json reads.
func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{
		{`{"a":1}`, `{"a":1}`}, {`{"a.b":{"gt":"0.10"},"$or":[{"c":"x"},{"d":{"exists":false}}]}`, `{"a":{"b":0.1},"c":"x"}`},
		{`{"$not":{"a":{"in":[1,"1",null,true]}}}`, `{"a":null}`}, {`{"a":{"prefix":"\\"}}`, `{"a":"\\n\n"}`},
		{`{"a":{"lte":-1.5e-3}}`, `{"a":"-0.0015"}`}, {`{"a":{"lt":1e300}}`, `{"a":"9e299","b":[1,{"a":2}]}`}, {`{"a":{"gte":0}}`, `{"a":"-0.00"}`},
		{`{"q.a":1,"b":3}`, `{"q":{"a":1,"b":2},"b":3}`}, {`{"a":{"lt":-2}}`, `{"a":-12.5}`},
		{`{"ü.\"":{"exists":true}}`, `{"ü":{"\"":[]}}`}, {`{"1":1,"0":{"gt":2}}`, `{"b":1,"1":1,"0":3}`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	f.Fuzz(func(t *testing.T, raw, data []byte) {
		text, err := Parse(raw)
		if err != nil || text == "" {
			return
		}
		filter, err := Of(text)
		if err != nil {
			t.Fatalf("%s is taken from a user and not from the log: %v", text, err)
		}
		filter.Match(with(data)) // whatever it is
		data, _, err = event.Canonical(data)
		if err != nil {
			return
		}
		if got, want := filter.Match(with(data)), naive(t, decoded(t, []byte(text)).(map[string]any), decoded(t, data).(map[string]any)); got != want {
			t.Fatalf("%s of %s: %v, want %v", text, data, got, want)
		}
	})
}

func decoded(t *testing.T, b []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// naive is what a filter means.
func naive(t *testing.T, filter, data map[string]any) bool {
	for name, c := range filter {
		var holds bool
		switch name {
		case "$and", "$or":
			holds = name == "$and"
			for _, kid := range c.([]any) {
				if naive(t, kid.(map[string]any), data) != holds {
					holds = !holds
					break
				}
			}
		case "$not":
			holds = !naive(t, c.(map[string]any), data)
		case "$network", "$corridor": // of an event that has none
			m, operators := c.(map[string]any)
			exists, asked := m["exists"]
			holds = operators && len(m) == 1 && asked && exists == false
		default:
			var value any = data
			there := true
			for _, step := range strings.Split(name, ".") {
				object, ok := value.(map[string]any)
				if value, there = object[step]; !ok || !there {
					there = false
					break
				}
			}
			holds = naiveCondition(t, c, value, there)
		}
		if !holds {
			return false
		}
	}
	return true
}

func naiveCondition(t *testing.T, c, value any, there bool) bool {
	operators, ok := c.(map[string]any)
	if !ok {
		return there && same(c, value)
	}
	for op, arg := range operators {
		var holds bool
		switch op {
		case "exists":
			holds = there == arg.(bool)
		case "in":
			for _, a := range arg.([]any) {
				holds = holds || there && same(a, value)
			}
		case "prefix":
			s, isText := value.(string)
			holds = isText && strings.HasPrefix(s, arg.(string))
		default:
			a, okA := rational(value)
			b, okB := rational(arg)
			if !okB {
				t.Fatalf("%v was taken for a number", arg)
			}
			if okA {
				d := a.Cmp(b)
				holds = op == "gt" && d > 0 || op == "gte" && d >= 0 || op == "lt" && d < 0 || op == "lte" && d <= 0
			}
		}
		if !holds {
			return false
		}
	}
	return true
}

// same holds for scalars only: what is an object or a list equals nothing.
func same(a, b any) bool {
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

func rational(v any) (*big.Rat, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	default:
		return nil, false
	}
	if !json.Valid([]byte(text)) || strings.ContainsAny(text, " \t\r\n\"{}[]") || text == "true" || text == "false" || text == "null" {
		return nil, false
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 && len(strings.TrimLeft(text[i+1:], "+-")) > maxExponent {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

func BenchmarkMatch(b *testing.B) {
	ev := with(canonical(b, `{"rfq":{"id":"rfq_01m80m9f5agmsw6swqc4qmp272","taker":"org_default"},"pair":"ETH/USDC","quote":{"maker":"solver α","price":1834.25,"size":"250000000000000000000"},"note":"`+strings.Repeat("x", 100)+`"}`))
	for _, raw := range []string{`{"pair":"ETH/USDC"}`, `{"quote.price":{"gte":1},"pair":{"in":["ETH/USDC","BTC/USDC"]},"$or":[{"quote.size":{"gt":"1000000000"}},{"rfq.taker":"x"}]}`} {
		f := of(b, raw)
		b.Run(fmt.Sprint(len(raw)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(ev.Data)))
			for b.Loop() {
				if !f.Match(ev) {
					b.Fatal("it doesn't match")
				}
			}
		})
	}
}
