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
	const fixed, head = "\x00\x00\x01\xa2\x01\x29\xbc\x4b", "\x05evt_1" + "\x0brfq.created" + "\x05org_a" + "\x0arfq_xyz789" + "\x11ethereum-optimism" + "\x08ethereum" + "\x01\x01o"
	const claim, data = "a claim's 16 id.\x01\x02", `{"id":1,"a":"é"}`
	for _, c := range []struct {
		claim Claim
		want  string
	}{
		{Claim{}, "\x01\x02\x02\x04" + fixed + "\x45" + head + "\x68\x13\x28\x0a" + data},
		{Claim{ID: ClaimID([]byte("a claim's 16 id.")), Index: 258}, "\x01\x02\x02\x06" + fixed + "\x57" + head + claim + "\x8f\xdb\xc0\x8c" + data},
	} {
		ev.Claim = c.claim
		if got := ev.AppendRecord(nil); string(got) != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}

	// Without a sum, as others may write it; with members that a later release added.
	for name, value := range map[string]string{
		"no sum":            "\x01\x02\x02\x00" + fixed + "\x41" + head + data,
		"no sum, a claim":   "\x01\x02\x02\x02" + fixed + "\x53" + head + claim + data,
		"more behind":       "\x01\x02\x02\x88" + fixed + "\x44" + head + "new" + data,
		"more behind a sum": "\x01\x02\x02\x8c" + fixed + "\x48" + head + "\xa4\x60\x53\xff" + "new" + data,
	} {
		got, err := DecodeRecord([]byte(value))
		if err != nil || string(got.Data) != data || got.Audience.Orgs[0] != "o" || got.Members != MemberID {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
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
	unsummed := func(data string) []byte {
		b := change(func(ev *Event) { ev.Data = []byte(data) })
		b[3] = 0
		return b
	}
	changed := slices.Clone(good)
	changed[len(changed)-3]++
	for name, value := range map[string][]byte{
		"nothing":        nil,
		"environment":    change(func(ev *Event) { ev.Environment = 3 }),
		"type":           change(func(ev *Event) { ev.Type = "*" }),
		"id":             change(func(ev *Event) { ev.ID = "a b" }),
		"no data":        change(func(ev *Event) { ev.Data = nil }),
		"list":           change(func(ev *Event) { ev.Data = []byte(`[1]`) }),
		"orgs' order":    change(func(ev *Event) { ev.Audience.Orgs = []string{"b", "a"} }),
		"org twice":      change(func(ev *Event) { ev.Audience.Orgs = []string{"a", "a"} }),
		"all and some":   allAndSome,
		"no claim":       noClaim,
		"large head":     append(slices.Clone(good[:recordFixed]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"a bit of data":  changed,
		"no JSON":        unsummed(`{nothing}`),
		"a member twice": unsummed(`{"a":1,"a":2}`),
		"not UTF-8":      unsummed("{\"a\":\"\xff\"}"),
		"too deep":       unsummed(strings.Repeat(`{"a":`, MaxDepth) + "{}" + strings.Repeat("}", MaxDepth)),
		"too large":      unsummed(`{"a":"` + strings.Repeat("x", MaxData) + `"}`),
		"many orgs":      change(func(ev *Event) { ev.Audience.Orgs = slices.Repeat([]string{"a"}, MaxAudience+1) }),
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
	f.Add([]byte(plainEvent))
	f.Add(bytes.Repeat([]byte{1}, 64))
	f.Fuzz(func(t *testing.T, value []byte) {
		ev, err := FromLog(value, Live, 7, time.Unix(1, 0))
		if err != nil {
			return
		}
		ev.Offset, ev.Logged = 0, time.Time{}
		again, err := DecodeRecord(ev.AppendRecord(nil))
		if err != nil || !reflect.DeepEqual(ev, again) {
			t.Fatalf("%q is %+v\nis %+v, %v", value, ev, again, err)
		}
		ev.AppendMembers(nil, ^Members(0)) // whatever data is, it doesn't panic
		ev.AppendNamed(ev.AppendNumbered(nil), ^Members(0))
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
