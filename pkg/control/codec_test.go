package control

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// full is a state with one of everything, and no member left zero.
func full(t *testing.T) *state {
	t.Helper()
	sealer, err := NewSealer(make([]byte, sealKeyLen))
	if err != nil {
		t.Fatal(err)
	}
	s := newState(sealer)
	at := time.Date(2026, 11, 22, 1, 2, 3, 456e6, time.UTC)
	s.setLog(func() {
		s.begun, s.incarnation, s.lanes, s.sealedWith = true, event.Incarnation{1, 2}, 16, []string{"old", sealer.Fingerprint()}
	})
	s.addOrg(&Org{ID: "org_a", Name: "A ✓", Plan: Pro, Email: "a@example.com", CreatedAt: at, UpdatedAt: at.Add(1), Version: 2, Slug: "acme", created: 1})
	s.retire("org_z")
	s.addKey(&Key{
		ID: "key_a", Org: "org_a", Environment: event.Live, Scopes: key.Scopes, Name: "k", Hash: [32]byte{7},
		CreatedAt: at, ExpiresAt: at.Add(time.Hour), Start: "acme_live_abc", Network: "n", User: "usr_a", created: 2,
	})
	ep := endpoint.Endpoint{
		ID: "wh_a", Org: "org_a", Environment: event.Sandbox, Dialect: "d", URL: "https://x", Description: "described",
		Status: endpoint.Disabled, Reason: "dead", CreatedAt: at, UpdatedAt: at.Add(2), DisabledAt: at.Add(3),
		From: 4, Skip: 5, Epoch: 6, Version: 7, Control: 8, Missed: 9,
	}
	if ep.Patterns, err = parsePatterns([]string{"a.*", "b.c"}); err != nil {
		t.Fatal(err)
	}
	ep.Options = endpoint.Options{Ordered: true, MaxInFlight: 3, RatePerSecond: 0.5, Filter: `{"a":1}`, ASCIIBody: true}
	headers, err := sealer.sealHeaders(&[]endpoint.Header{{Name: "X-Team", Value: "blue"}}, "org_a", "wh_a")
	if err != nil {
		t.Fatal(err)
	}
	seal := func(secret string, version uint32) string {
		return string(sealer.Seal([]byte(secret), "org_a", "wh_a", version))
	}
	s.addEndpoint(s.pack(&ep, 3, &sealed{
		secret: seal("secret", 2), version: 2, previous: []sealedSecret{{seal("older", 1), 1, at.Add(4)}}, headers: string(headers),
	}))
	s.replaceProvider(nil, &Provider{
		Org: "org_a", Name: "p", UpdatedAt: at.Add(6), created: 10, sealed: sealed{
			secret: string(sealer.Seal([]byte("theirs"), "org_a", sealedFor("p"), 2)), version: 2,
			previous: []sealedSecret{{string(sealer.Seal([]byte("before"), "org_a", sealedFor("p"), 1)), 1, at.Add(7)}},
		},
	})
	s.addUser(&User{
		ID: "usr_a", Org: "org_a", Email: "a@example.com", Name: "A", CreatedAt: at, created: 11,
		sealed: string(sealer.Seal([]byte("hash"), "org_a", sealedOf("usr_a"), firstSecret)),
	})
	s.addReplay(&Replay{
		ID: "rpl_a", Endpoint: "wh_a", Org: "org_a", Environment: event.Sandbox, Since: at.Add(-2), Until: at.Add(-1), From: 4, To: 5,
		Patterns: ep.Patterns, FailedOnly: true, CreatedAt: at, EndedAt: at.Add(5), Cancelled: true,
		Progress: Progress{Done: 1, Total: 2, Delivered: 3, Failed: 4, Expired: 5}, created: 9,
	})
	return s
}

// Whatever is in the state is in a snapshot, and in the hash: a new member of
// an org, a user, a key, an endpoint, a replay or a provider that the codec forgets fails here.
func TestEveryMemberIsWritten(t *testing.T) {
	s := full(t)
	back := reloaded(t, s)
	for name, things := range map[string][2]any{
		"org":      {*s.orgs["org_a"], *back.orgs["org_a"]},
		"key":      {*s.keys["key_a"], *back.keys["key_a"]},
		"user":     {*s.users["a@example.com"], *back.userOf["org_a"]},
		"provider": {*s.providers["org_a"]["p"], *back.providers["org_a"]["p"]},
		"replay":   {*s.replay("wh_a", "rpl_a"), *back.replay("wh_a", "rpl_a")},
		"progress": {s.replay("wh_a", "rpl_a").Progress, back.replay("wh_a", "rpl_a").Progress},
		"endpoint": {*s.endpoints["wh_a"].endpoint(s.sealer), *back.endpoints["wh_a"].endpoint(back.sealer)},
	} {
		wrote, read := reflect.ValueOf(things[0]), reflect.ValueOf(things[1])
		if !reflect.DeepEqual(things[0], things[1]) {
			t.Errorf("%s: wrote %+v, read %+v", name, things[0], things[1])
		}
		for i := range wrote.NumField() {
			if wrote.Field(i).IsZero() || read.Field(i).IsZero() {
				t.Errorf("%s: %s is zero: this test must set it", name, wrote.Type().Field(i).Name)
			}
		}
	}
	o := reflect.ValueOf(back.endpoints["wh_a"].endpoint(back.sealer).Options)
	for i := range o.NumField() {
		if o.Field(i).IsZero() {
			t.Errorf("option %s is zero: this test must set it", o.Type().Field(i).Name)
		}
	}
	if !back.begun || back.incarnation != s.incarnation || back.lanes != 16 || len(back.sealedWith) != 2 || !back.gone["org_z"] || back.endpoints["wh_a"].created != 3 {
		t.Errorf("read %+v", back)
	}
}

// A key that says nothing new is in the log and in snapshots as it always was; one
// that does stops releases that don't know what it means.
func TestVersionOfKeys(t *testing.T) {
	for _, c := range []struct {
		cmd  CreateKey
		want int
	}{{CreateKey{}, 1}, {CreateKey{Start: "acme_live_abc"}, 2}, {CreateKey{Network: "n"}, 2}} {
		if needs, known := versionsOf(&c.cmd); needs != c.want || known != 2 {
			t.Errorf("%+v is of version %d of %d", c.cmd, needs, known)
		}
	}
	k := Key{ID: "key_a", Org: "org_a", Environment: event.Live}
	plain := appendKey(nil, &k)
	k.Network = "n"
	if more := appendKey(nil, &k); !bytes.HasPrefix(more, plain) || len(more) != len(plain)+len("\x00\x01n") {
		t.Errorf("%q, and with a network %q", plain, more)
	}
	if r := (reader{rest: string(plain[1:]) + "\x00\x00"}); func() bool { r.key(); return r.done() }() {
		t.Error("a key that two texts of nothing follow is taken for good")
	}
}

// Cut or changed anywhere, a snapshot is refused; and nothing panics.
func FuzzSnapshot(f *testing.F) {
	s := full(&testing.T{})
	var file bytes.Buffer
	if err := (&Control{state: s}).moment().encode(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\xff\xff\xff\xff\x7f"))
	for i := range file.Len() {
		f.Add(file.Bytes()[:i])
		flipped := bytes.Clone(file.Bytes())
		flipped[i] ^= 0x10
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		back, in := newState(s.sealer), newThings(bytes.NewReader(data))
		h, err := in.head()
		if err == nil {
			err = in.load(back)
		}
		if err != nil || h.hash != back.hash {
			return
		}
		var again bytes.Buffer
		if err := (&Control{state: back, applied: h.offset, newest: h.record, skipped: h.skipped}).moment().encode(&again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, again.Bytes()) {
			t.Fatalf("taken for good: %q", data)
		}
	})
}
