package event

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() *Event {
	return &Event{
		ID: "evt_1", Type: "rfq.created", Timestamp: time.UnixMilli(1795315842123).UTC(), Environment: Live, Org: "org_a",
		Audience: Audience{Orgs: []string{"org_a", "org_b"}}, Key: "rfq_xyz789", Corridor: "ethereum-optimism", Network: "ethereum",
		Data: []byte(`{"id":1,"a":"é"}`), Members: MemberID,
	}
}

func TestRecord(t *testing.T) {
	all, bare, old, claimed := sample(), sample(), sample(), sample()
	claimed.Claim = Claim{ID: ClaimID([]byte("a claim's 16 id.")), Index: 999}
	all.Audience = Audience{All: true}
	*bare = Event{ID: "x", Type: "a.b", Environment: Sandbox, Data: []byte(`{}`), Timestamp: time.UnixMilli(0).UTC()}
	old.Timestamp = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	old.Key = strings.Repeat("k", MaxKey)
	for _, ev := range []*Event{sample(), all, bare, old, claimed} {
		value := ev.AppendRecord([]byte("before"))[len("before"):]
		got, err := DecodeRecord(value)
		if err != nil || !reflect.DeepEqual(got, ev) {
			t.Errorf("%+v\nbecame %+v, %v", ev, got, err)
			continue
		}
		if &got.Data[len(got.Data)-1] != &value[len(value)-1] {
			t.Error("data was copied")
		}
	}
}

// The bytes of version 1, as drawn in record.go. They may never change.
func TestRecordLayout(t *testing.T) {
	ev := sample()
	ev.Audience = Audience{Orgs: []string{"o"}}
	want := "\x01\x02\x02\x00" + "\x00\x00\x01\xa2\x01\x29\xbc\x4b" + "\x41" +
		"\x05evt_1" + "\x0brfq.created" + "\x05org_a" + "\x0arfq_xyz789" + "\x11ethereum-optimism" + "\x08ethereum" + "\x01\x01o" + `{"id":1,"a":"é"}`
	if got := ev.AppendRecord(nil); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	ev.Claim = Claim{ID: ClaimID([]byte("a claim's 16 id.")), Index: 258}
	want = "\x01\x02\x02\x02" + want[4:12] + "\x53" + want[13:len(want)-len(ev.Data)] + "a claim's 16 id." + "\x01\x02" + string(ev.Data)
	if got := ev.AppendRecord(nil); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRecordRefuses(t *testing.T) {
	good := sample().AppendRecord(nil)
	for n := range len(good) {
		// Cut off within data it may still end with a brace, as here it doesn't.
		if ev, err := DecodeRecord(good[:n]); err == nil {
			t.Errorf("cut off at %d: %+v", n, ev)
		}
	}
	change := func(f func(*Event)) []byte { ev := sample(); f(ev); return ev.AppendRecord(nil) }
	newer := slices.Clone(good)
	newer[0] = 2
	if _, err := DecodeRecord(newer); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
	allAndSome, noClaim := slices.Clone(good), slices.Clone(good)
	allAndSome[3], noClaim[3] = flagAll, flagClaim
	for name, value := range map[string][]byte{
		"nothing":      nil,
		"environment":  change(func(ev *Event) { ev.Environment = 3 }),
		"type":         change(func(ev *Event) { ev.Type = "*" }),
		"id":           change(func(ev *Event) { ev.ID = "a b" }),
		"no data":      change(func(ev *Event) { ev.Data = nil }),
		"list":         change(func(ev *Event) { ev.Data = []byte(`[1]`) }),
		"orgs' order":  change(func(ev *Event) { ev.Audience.Orgs = []string{"b", "a"} }),
		"org twice":    change(func(ev *Event) { ev.Audience.Orgs = []string{"a", "a"} }),
		"all and some": allAndSome,
		"no claim":     noClaim,
		"large head":   append(slices.Clone(good[:recordFixed]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"many orgs":    change(func(ev *Event) { ev.Audience.Orgs = slices.Repeat([]string{"a"}, MaxAudience+1) }),
	} {
		if ev, err := DecodeRecord(value); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %+v, %v", name, ev, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(sample().AppendRecord(nil))
	claimed := sample()
	claimed.Claim.Index = 7
	f.Add(claimed.AppendRecord(nil))
	f.Add([]byte("poison"))
	f.Add(bytes.Repeat([]byte{1}, 64))
	f.Fuzz(func(t *testing.T, value []byte) {
		ev, err := DecodeRecord(value)
		if err != nil {
			return
		}
		again, err := DecodeRecord(ev.AppendRecord(nil))
		if err != nil || !reflect.DeepEqual(ev, again) {
			t.Fatalf("%q is %+v\nis %+v, %v", value, ev, again, err)
		}
		ev.AppendMembers(nil, ^Members(0)) // whatever data is, it doesn't panic
		ev.Members = ^Members(0)
		ev.AppendMembers(nil, ^Members(0))
	})
}

func TestID(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 10, 0, 123_456_789, time.UTC)
	seen := make(map[string]bool)
	last := ""
	for i := range 10_000 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		id := NewID(at)
		made, ok := IDTime(id)
		if !ok || !made.Equal(at.Truncate(time.Millisecond)) || !ValidID(id) || seen[id] || id <= last {
			t.Fatalf("id %q at %v: %v, %v", id, at, made, ok)
		}
		seen[id], last = true, id
	}
	id := NewID(now)
	for _, s := range []string{"", "evt_", "evt_1", id[:len(id)-1], id + "0", "xvt_" + id[4:], "evt_U" + id[5:], "evt_i" + id[5:], "evt_zzzzzzzzzz" + id[14:]} {
		if at, ok := IDTime(s); ok {
			t.Errorf("IDTime(%q) = %v", s, at)
		}
	}
	for s, want := range map[string]bool{"a": true, "A-z_09": true, strings.Repeat("x", MaxID): true, "": false, "a b": false, "a/b": false, "é": false, "a\x00": false, strings.Repeat("x", MaxID+1): false} {
		if ValidID(s) != want {
			t.Errorf("ValidID(%q) = %v", s, !want)
		}
	}
}

func BenchmarkDecodeRecord(b *testing.B) {
	ev := sample()
	ev.Audience = Audience{All: true}
	ev.Data = []byte(object300)
	value := ev.AppendRecord(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRecord(value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	ev := sample()
	ev.Data = []byte(object300)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		ev.AppendRecord(buf)
	}
}
