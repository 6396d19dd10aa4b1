package tempo

import (
	"strings"
	"testing"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/filter"
	"sluice/pkg/plan"
)

// Those that EIP-55 gives, and one of no letter.
var addresses = []string{
	"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	"0x2000000000000000000000000000000000000001",
}

func TestAddresses(t *testing.T) {
	for _, a := range addresses {
		for _, good := range []string{a, strings.ToLower(a), "0x" + strings.ToUpper(a[2:])} {
			if wrong := checkAddress(good); wrong != "" {
				t.Errorf("%s %s", good, wrong)
			}
			if all := strings.Join(spellings(good), " "); !strings.HasPrefix(all, good) || !strings.Contains(all, a) || !strings.Contains(all, strings.ToLower(a)) {
				t.Errorf("%s is spelled %s", good, all)
			}
		}
	}
	for _, bad := range []string{
		"", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed0", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaeg",
		" 0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "vitalik.eth",
	} {
		if checkAddress(bad) == "" {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

func TestAmounts(t *testing.T) {
	for text, want := range map[string]bool{
		"0": true, "1000000": true, strings.Repeat("9", 78): true,
		"": false, "-1": false, "+1": false, "01": false, "1.5": false, "1e400": false, "0x10": false, " 1": false, strings.Repeat("9", 79): false,
	} {
		if isAmount(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// of is the endpoint of a subscription, as the core would have it.
func of(t *testing.T, s subscription) *endpoint.Endpoint {
	t.Helper()
	if issues := s.check(); len(issues) > 0 {
		t.Fatalf("%+v: %v", s, issues)
	}
	text, err := filter.Parse([]byte(s.filter()))
	if err != nil {
		t.Fatalf("%s: %v", s.filter(), err)
	}
	pattern, err := event.ParsePattern(s.eventType())
	if err != nil {
		t.Fatal(err)
	}
	return &endpoint.Endpoint{Patterns: event.Patterns{pattern}, Options: endpoint.Options{Filter: text}}
}

// A subscription is what is read back of its endpoint, and one that is of another
// form isn't.
func TestReadBack(t *testing.T) {
	var many []condition
	for i := range plan.Enterprise.Limits().Filters {
		many = append(many, condition{[]string{"from_address", "to_address"}[i%2], addresses[i%len(addresses)]})
	}
	for _, s := range []subscription{
		{"TRANSFER", "mainnet", addresses[4], nil},
		{"MINT", "testnet", strings.ToLower(addresses[4]), []condition{{"amount_min", "0"}, {"amount_max", strings.Repeat("9", 78)}}},
		{"APPROVAL", "testnet", addresses[8], []condition{{"to_address", "0x" + strings.ToUpper(addresses[4][2:])}, {"amount_min", "7"}, {"from_address", addresses[5]}}},
		{"BURN", "mainnet", addresses[0], many},
	} {
		ep := of(t, s)
		got, ok := read(ep)
		if !ok || got.kind != s.kind || got.network != s.network || got.address != s.address || len(got.filters) != len(s.filters) {
			t.Fatalf("%+v is read back as %+v, %v", s, got, ok)
		}
		for i := range s.filters {
			if got.filters[i] != s.filters[i] {
				t.Errorf("%+v is read back as %+v", s.filters[i], got.filters[i])
			}
		}
	}
	ep := of(t, subscription{"TRANSFER", "mainnet", addresses[4], []condition{{"amount_min", "1"}}})
	for _, text := range []string{
		"", `{"$network":"mainnet"}`, `{"a":1}`, strings.Replace(ep.Options.Filter, `"gte":"1"`, `"gte":1`, 1), strings.Replace(ep.Options.Filter, `"gte"`, `"gt"`, 1),
		strings.Replace(ep.Options.Filter, "mainnet", "other", 1), strings.Replace(ep.Options.Filter, `"token"`, `"contract"`, 1), ep.Options.Filter[:len(ep.Options.Filter)-1] + `,"x":1}`,
	} {
		other := *ep
		other.Options.Filter = text
		if s, ok := read(&other); ok {
			t.Errorf("%s is read as %+v", text, s)
		}
	}
	other := *ep
	other.Patterns = append(other.Patterns, ep.Patterns...)
	if s, ok := read(&other); ok {
		t.Errorf("with two patterns it is read as %+v", s)
	}
}

// What a subscription is owed.
func TestOwed(t *testing.T) {
	const a, b = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
	lower := strings.ToLower
	for _, c := range []struct {
		filters       []condition
		network, data string
		want          bool
	}{
		{nil, "mainnet", `{"token":"` + a + `"}`, true},
		{nil, "mainnet", `{"from":"` + lower(a) + `","to":"` + b + `"}`, true},
		{nil, "mainnet", `{"to":"0x` + strings.ToUpper(a[2:]) + `"}`, true},
		{nil, "mainnet", `{"to":"` + b + `"}`, false},
		{nil, "mainnet", `{"owner":"` + a + `"}`, false},
		{nil, "mainnet", `{}`, false},
		{nil, "testnet", `{"token":"` + a + `"}`, false},
		{nil, "", `{"token":"` + a + `","network":"mainnet"}`, false},
		{[]condition{{"amount_min", "1000000"}}, "mainnet", `{"token":"` + a + `","amount":"1000000"}`, true},
		{[]condition{{"amount_min", "1000000"}}, "mainnet", `{"token":"` + a + `","amount":1000000}`, true},
		{[]condition{{"amount_min", "1000000"}}, "mainnet", `{"token":"` + a + `","amount":"999999"}`, false},
		{[]condition{{"amount_min", "0"}}, "mainnet", `{"token":"` + a + `"}`, false},
		{[]condition{{"amount_max", "100000000000000000000000000"}}, "mainnet", `{"token":"` + a + `","amount":"100000000000000000000000001"}`, false},
		{[]condition{{"amount_max", "100000000000000000000000000"}}, "mainnet", `{"token":"` + a + `","amount":"100000000000000000000000000"}`, true},
		{[]condition{{"from_address", lower(b)}}, "mainnet", `{"token":"` + a + `","from":"` + b + `"}`, true},
		{[]condition{{"from_address", b}}, "mainnet", `{"token":"` + a + `","to":"` + b + `"}`, false},
		{[]condition{{"to_address", b}, {"amount_min", "5"}}, "mainnet", `{"token":"` + a + `","to":"` + b + `","amount":"4"}`, false},
		{[]condition{{"to_address", b}, {"amount_min", "5"}}, "mainnet", `{"token":"` + a + `","to":"` + b + `","amount":"5"}`, true},
	} {
		f, err := filter.Of(of(t, subscription{"TRANSFER", "mainnet", a, c.filters}).Options.Filter)
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := event.Canonical([]byte(c.data))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Match(&event.Event{Network: c.network, Data: data}); got != c.want {
			t.Errorf("filters %v, on %s %s: %v", c.filters, c.network, c.data, got)
		}
	}
}

// Whatever filter an endpoint has, what is shown of it would make the same.
func FuzzRead(f *testing.F) {
	f.Add(`{"$network":"mainnet","$or":[{"token":{"in":["0x2000000000000000000000000000000000000001"]}},{"from":{"in":[]}},null],"$and":[{"amount":{"gte":"1"}},{},{"to":null}]}`)
	pattern, err := event.ParsePattern("chain.burn")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ep := &endpoint.Endpoint{Patterns: event.Patterns{pattern}, Options: endpoint.Options{Filter: text}}
		if s, ok := read(ep); ok && (s.kind != "BURN" || s.filter() != text) {
			t.Fatalf("%s is read as %+v", text, s)
		}
	})
}
