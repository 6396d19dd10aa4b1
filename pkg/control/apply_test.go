package control

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// FuzzApply feeds any bytes to a state that has some of everything: whatever they
// are, two states end up alike, a refused command changes nothing, and nothing
// panics.
func FuzzApply(f *testing.F) {
	sealer, err := NewSealer(make([]byte, sealKeyLen))
	if err != nil {
		f.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	sealed := sealer.Seal([]byte("12345678"), "org_a", "wh_a", firstSecret)
	base := func() *state {
		s := newState(sealer)
		for i, cmd := range []Command{
			&begin{Lanes: 16},
			&CreateOrg{ID: "org_a", Plan: Free},
			&CreateKey{ID: "key_a", Org: "org_a", Environment: event.Live},
			&CreateEndpoint{ID: "wh_a", Org: "org_a", Environment: event.Live, Patterns: []string{"a.*"}, Sealed: sealed},
		} {
			if _, err := cmd.apply(s, stamp{int64(i), at}); err != nil {
				f.Fatal(err)
			}
		}
		return s
	}
	plan, url, text := Pro, "https://x", "t"
	yes, most, rate := true, 3, 2.5
	headers, err := sealer.sealHeaders(&[]endpoint.Header{{Name: "X-A", Value: "b"}}, "org_a", "wh_a")
	if err != nil {
		f.Fatal(err)
	}
	options := endpoint.OptionsPatch{Ordered: &yes, MaxInFlight: &most, RatePerSecond: &rate, ASCIIBody: &yes}
	for _, cmd := range []Command{
		&begin{}, &NewIncarnation{Incarnation: event.Incarnation{1}}, &reseal{SealedWith: "other"}, &check{Offset: 1}, &bootstrap{}, &CreateOrg{ID: "org_b", Plan: Pro}, &UpdateOrg{Org: "org_a", Plan: &plan}, &DeleteOrg{Org: "org_a"},
		&CreateKey{ID: "key_b", Org: "org_a", Environment: event.Live}, &CreateKey{ID: "key_c", Org: "org_a", Environment: event.Live, Start: "acme_live_abc", Network: "n"}, &RevokeKey{Org: "org_a", ID: "key_a"},
		&CreateEndpoint{ID: "wh_b", Org: "org_a", Environment: event.Live, Patterns: []string{"a.*"}},
		&UpdateEndpoint{Endpoint: "wh_a", URL: &url, Description: &text}, &EnableEndpoint{Endpoint: "wh_a", Skip: 3},
		&UpdateEndpoint{Endpoint: "wh_a", Options: options, Headers: headers},
		&RotateSecret{Endpoint: "wh_a", NewSecret: NewSecret{Sealed: sealer.Seal([]byte("87654321"), "org_a", "wh_a", 2), Version: 2, Overlap: 60}},
		&DisableEndpoint{Endpoint: "wh_a", Epoch: 1}, &DeleteEndpoint{Endpoint: "wh_a"}, &AddMissed{Endpoint: "wh_a", Count: 1},
	} {
		value, err := encode("cmd_x", at, cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		_, when, cmd, err := decode(value)
		if err != nil {
			if !errors.Is(err, errUnreadable) && !errors.Is(err, errUnknown) {
				t.Fatal(err)
			}
			return
		}
		one, two := base(), base()
		before := one.hash
		if before != two.hash {
			t.Fatal("the states differ to begin with")
		}
		changes, err1 := cmd.apply(one, stamp{9, when})
		_, _, again, err := decode(value)
		if err != nil {
			t.Fatal(err)
		}
		_, err2 := again.apply(two, stamp{9, when})
		if fmt.Sprint(err1) != fmt.Sprint(err2) || one.hash != two.hash {
			t.Fatalf("%s: %v, %v", value, err1, err2)
		}
		if reloaded(t, one).hash != one.hash {
			t.Fatalf("%s: the hash isn't that of what is in the state", value)
		}
		if err1 != nil && (one.hash != before || len(changes) > 0) {
			t.Fatalf("%s: refused, and changed all the same: %v", value, err1)
		}
	})
}

// What is remembered of types doesn't grow with endpoints that come and go.
func TestIndexForgetsGroups(t *testing.T) {
	x := newIndex()
	for i := range 100 {
		p, _ := event.ParsePattern(fmt.Sprintf("a*%d", i%7))
		e := &entry{group: x.of("tetrafi", event.Patterns{p}, fmt.Sprintf(`{"a":%d}`, i%3))}
		x.add(e)
		if got := x.matching(fmt.Sprintf("a.b%d", i%7)); len(got) != 1 || len(got[0].entries) != 1 {
			t.Fatalf("%d groups", len(got))
		}
		x.remove(e)
	}
	if x.held != 0 || len(x.groups) != 0 {
		t.Errorf("%d held, %d groups", x.held, len(x.groups))
	}
}

func BenchmarkMatching(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sealer, err := NewSealer(make([]byte, sealKeyLen))
			if err != nil {
				b.Fatal(err)
			}
			s := newState(sealer)
			for i := range n {
				p, _ := event.ParsePattern(fmt.Sprintf("kind%d.*", i%100))
				ep := endpoint.Endpoint{ID: fmt.Sprint("wh_", i), Org: fmt.Sprint("org_", i%10), Environment: event.Live,
					Patterns: event.Patterns{p}, Status: endpoint.Active}
				s.addEndpoint(s.pack(&ep, int64(i), &sealed{secret: string(sealer.Seal(make([]byte, 49), ep.Org, ep.ID, firstSecret)), version: firstSecret}))
			}
			c := &Control{state: s, sealer: sealer}
			ev := &event.Event{Type: "kind7.made", Environment: event.Live, Audience: event.Audience{All: true}}
			b.ReportAllocs()
			for b.Loop() {
				if got := c.Matching(ev); len(got) != n/100 {
					b.Fatal(len(got))
				}
			}
		})
	}
}
