package delivery

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/pkg/event"
)

var (
	someTime = time.Date(2026, 11, 22, 3, 4, 5, 678901234, time.UTC)

	someOutcome = Outcome{
		Class: HTTPError, Status: 503, Detail: "503 Service Unavailable: später", Started: someTime,
		Took: 1234567 * time.Nanosecond, Epoch: 1 << 63, RetryAt: someTime.Add(time.Minute),
	}
	someEvent = event.Event{
		ID: "evt_1", Type: "rfq.created", Timestamp: time.Date(1960, 1, 2, 3, 4, 5, 6e6, time.UTC), Environment: event.Live,
		Org: "org_1", Key: "rfq_1", Corridor: "a-b", Network: "testnet", Data: []byte(`{"a":1}`),
		Members: event.MemberID | event.MemberSubscriptionID, Offset: 1 << 40,
	}
)

// newer is what a later release may add: a text of the delivery, a flag of the
// record, a flag of the delivery.
const newer = "\x01\x02hi" + "\x02\x00" + "\x81\x01\x00"

var someExchange = Exchange{
	Headers: []byte("Host: a\r\nX: y\r\n"), Answer: []byte("no\x00"),
	Timing: Timing{DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Second, FirstByte: 4 * time.Microsecond, Total: 5 * time.Second, Reused: true},
}

func deliveries() map[string]*Delivery {
	reference := someEvent
	reference.Data = nil
	return map[string]*Delivery{
		"first hop": {ID: "dlv_1", Endpoint: "wh_1", Event: someEvent, First: true, Control: 77},
		"all of it": {
			ID: "dlv_1", Endpoint: "wh_1", Event: someEvent, First: true, Test: true, Control: 1<<62 + 1, Attempts: 4,
			Due: someTime, FirstFail: someTime.Add(-time.Hour), Origin: Place{"tier.5s", 12345}, Outcome: someOutcome, Reason: "out of attempts",
			Generation: 1 << 40, more: newer,
		},
		"of a replay":  NewReplay(&someEvent, false, "wh_1", "rpl_1"),
		"by reference": {ID: "dlv_1", Endpoint: "wh_1", Event: reference, Reference: true},
		"least":        {Event: event.Event{Environment: event.Sandbox, Timestamp: time.UnixMilli(0).UTC(), Data: []byte{}}},
	}
}

func attempts() map[string]*Attempt {
	return map[string]*Attempt{
		"all of it": {Delivery: "dlv_1", Endpoint: "wh_1", EventID: "evt_1", Number: 5, Test: true, Outcome: someOutcome, Origin: Place{"tier.0s", 9},
			Generation: 300, more: newer},
		"with its exchange": {Delivery: "dlv_1", Endpoint: "wh_1", EventID: "evt_1", Number: 2, ByHand: true, Replay: "rpl_1", Outcome: someOutcome, Origin: Place{"tier.0s", 9},
			Environment: event.Live, EventOffset: 1 << 40, Type: "rfq.created", Next: Next{"tier.5m", someTime}, Exchange: someExchange},
		"least": {},
	}
}

func TestRecords(t *testing.T) {
	for name, d := range deliveries() {
		b := d.AppendRecord([]byte("before"))[len("before"):]
		got, err := DecodeDelivery(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, d) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, d)
		}
		if _, err := DecodeAttempt(b); !errors.Is(err, ErrKind) {
			t.Errorf("%s as an attempt: %v", name, err)
		}
	}
	for name, a := range attempts() {
		b := a.AppendRecord(nil)
		got, err := DecodeAttempt(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, a) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, a)
		}
		if _, err := DecodeDelivery(b); !errors.Is(err, ErrKind) {
			t.Errorf("%s as a delivery: %v", name, err)
		}
	}
}

// TestRecordBytes holds the bytes: other versions of us have to read them.
func TestRecordBytes(t *testing.T) {
	d := &Delivery{ID: "dlv_1", Endpoint: "wh_1", Event: someEvent, Attempts: 1, Control: 77, Origin: Place{"tier.0s", 9}, Outcome: Outcome{Class: Timeout, Started: time.Unix(0, 1)}}
	want := "\x01D\x60\x07\x05dlv_1\x04wh_1\x01\x4d\x02\x05evt_1\x0brfq.created\xe3\x9d\xff\xe8\xae\x12\x05org_1\x05rfq_1\x03a-b\x07testnet\x22\x80\x80\x80\x80\x80\x40" +
		"\x07tier.0s\x12\x07timeout\x00\x00\x02\x00\x00\x00" + `{"a":1}`
	if got := string(d.AppendRecord(nil)); got != want {
		t.Errorf("delivery %q, want %q", got, want)
	}
	a := &Attempt{Delivery: "dlv_1", Endpoint: "wh_1", EventID: "evt_1", Number: 2, Test: true, Outcome: Outcome{Class: Delivered, Status: 200, Took: 1, Epoch: 3}, Origin: Place{"tier.0s", 9}}
	want = "\x01A\x04\x05dlv_1\x04wh_1\x05evt_1\x02\x07tier.0s\x12\x09delivered\xc8\x01\x00\x00\x02\x03\x00"
	if got := string(a.AppendRecord(nil)); got != want {
		t.Errorf("attempt %q, want %q", got, want)
	}
	least := Delivery{Event: event.Event{Environment: event.Sandbox, Timestamp: time.UnixMilli(0)}, Generation: 300, more: newer}
	want = "\x01D\x80\x06" + "\x00\x00\x00\x00\x00" + "\xac\x02" + "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x09" + newer
	if got := string(least.AppendRecord(nil)); got != want {
		t.Errorf("delivery of an owner %q, want %q", got, want)
	}
	a.Test, a.Generation, a.more = false, 300, newer
	want = "\x01A\x80\x06\x05dlv_1\x04wh_1\x05evt_1\x02\xac\x02\x07tier.0s\x12\x09delivered\xc8\x01\x00\x00\x02\x03\x00\x09" + newer
	if got := string(a.AppendRecord(nil)); got != want {
		t.Errorf("attempt of an owner %q, want %q", got, want)
	}
	a.more, a.Generation, a.ByHand = "", 0, true
	a.Environment, a.EventOffset, a.Type, a.Next, a.Exchange = event.Live, 3, "a.b", Next{"held", time.Unix(0, 1)}, someExchange
	want = "\x01A\x80\x04\x05dlv_1\x04wh_1\x05evt_1\x02\x07tier.0s\x12\x09delivered\xc8\x01\x00\x00\x02\x03\x00" + "\x36" +
		"\x04\x05\x02\x06a.b" + "\x06\x05\x02held" + "\x08\x0e\x01\xe8\x07\xd0\x0f\xc0\x8d\xb7\x01\x04\xc0\x96\xb1\x02" +
		"\x0a\x0fHost: a\r\nX: y\r\n" + "\x0c\x03no\x00" + "\x0e\x00"
	if got := string(a.AppendRecord(nil)); got != want {
		t.Errorf("attempt with its exchange %q, want %q", got, want)
	}
	if got := string(AppendMarker(nil, 300)); got != "\x01M\x00\xac\x02" {
		t.Errorf("marker %q", got)
	}
}

// TestNewerMembers: what a later release adds is passed over, and goes on with
// the delivery if it belongs to it.
func TestNewerMembers(t *testing.T) {
	d := deliveries()["all of it"]
	hop := d.Next(Place{"held", 7})
	if want := "\x01\x02hi" + "\x81\x01\x00"; hop.more != want {
		t.Errorf("the next hop has %q, want %q", hop.more, want)
	}
	want := &Delivery{ID: d.ID, Endpoint: d.Endpoint, Event: d.Event, Test: true, Control: d.Control, Attempts: d.Attempts,
		FirstFail: d.FirstFail, Origin: Place{"held", 7}, more: hop.more}
	if !reflect.DeepEqual(hop, want) {
		t.Errorf("the next hop is\n%+v, want\n%+v", hop, want)
	}
	// A flag that isn't known means nothing, and a marker may have members, too.
	least := &Delivery{Event: event.Event{Environment: event.Sandbox, Timestamp: time.UnixMilli(0).UTC(), Data: []byte{}}}
	b := append([]byte("\x01D\x80\x80\x01"), least.AppendRecord(nil)[3:]...)
	if got, err := DecodeDelivery(b); err != nil || !reflect.DeepEqual(got, least) {
		t.Errorf("an unknown flag: %+v, %v", got, err)
	}
	if got, err := DecodeMarker([]byte("\x01M\x80\x04\xac\x02\x09" + newer)); err != nil || got != 300 {
		t.Errorf("a newer marker: %d, %v", got, err)
	}
	for _, more := range []string{"\x00", "\x01\x01", "\x02\x01\x05", "\x01\x80"} {
		if _, err := DecodeMarker([]byte("\x01M\x80\x04\x01" + more)); !errors.Is(err, ErrRecord) {
			t.Errorf("members %q: %v", more, err)
		}
	}
}

// TestLongAnswer: what an answer has past the bound isn't kept.
func TestLongAnswer(t *testing.T) {
	a := &Attempt{Exchange: Exchange{Answer: bytes.Repeat([]byte("x"), MaxAnswer+1)}}
	got, err := DecodeAttempt(a.AppendRecord(nil))
	if err != nil || len(got.Exchange.Answer) != MaxAnswer {
		t.Errorf("%d bytes are kept, %v", len(got.Exchange.Answer), err)
	}
}

// TestByHand: one attempt that a person asked for says so, and its next hop doesn't.
func TestByHand(t *testing.T) {
	ev := someEvent
	d, err := DecodeDelivery(NewByHand("dlv_1", "wh_1", &ev, 5, 7).AppendRecord(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !d.ByHand() || d.ID != "dlv_1" || d.Attempts != 5 || !d.Reference || d.First || d.Event.Offset != ev.Offset || ev.Data == nil {
		t.Errorf("%+v", d)
	}
	if d.Next(Place{"tier.0s", 1}).ByHand() || New(&ev, "wh_1", 1).ByHand() {
		t.Error("others say that they are by hand")
	}
}

// TestFence: a record counts if nothing of a higher generation stands before it.
func TestFence(t *testing.T) {
	f := Fence(3)
	for i, c := range []struct {
		generation uint64
		counts     bool
	}{{0, true}, {3, true}, {2, false}, {0, true}, {7, true}, {3, false}, {6, false}, {7, true}, {0, true}, {9, true}, {8, false}} {
		if got := f.Counts(c.generation); got != c.counts {
			t.Errorf("record %d, of generation %d: %v", i, c.generation, got)
		}
	}
}

func TestLargeDataStays(t *testing.T) {
	d := &Delivery{Event: event.Event{Environment: event.Live, Data: bytes.Repeat([]byte("x"), MaxInline)}}
	got, err := DecodeDelivery(d.AppendRecord(nil))
	if err != nil || got.Reference || len(got.Event.Data) != MaxInline {
		t.Errorf("at the bound: %v, reference %v, %d bytes", err, got.Reference, len(got.Event.Data))
	}
	d.Event.Data = append(d.Event.Data, 'x')
	got, err = DecodeDelivery(d.AppendRecord(nil))
	if err != nil || !got.Reference || got.Event.Data != nil {
		t.Errorf("beyond it: %v, reference %v, %d bytes", err, got.Reference, len(got.Event.Data))
	}
}

func TestBadRecords(t *testing.T) {
	var good [][]byte
	for _, d := range deliveries() {
		good = append(good, d.AppendRecord(nil))
	}
	for _, a := range attempts() {
		good = append(good, a.AppendRecord(nil))
	}
	decode := func(b []byte) error {
		_, err := DecodeDelivery(b)
		if errors.Is(err, ErrKind) {
			_, err = DecodeAttempt(b)
		}
		return err
	}
	for _, b := range good {
		for n := range len(b) {
			if err := decode(b[:n]); err == nil {
				t.Errorf("%d bytes of %q passed", n, b)
			}
		}
		if err := decode(append(b[:len(b):len(b)], 0)); !errors.Is(err, ErrRecord) {
			t.Errorf("a byte behind %q: %v", b, err)
		}
	}
	for text, want := range map[string]error{
		"": ErrRecord, "\x01": ErrRecord, "\x01D": ErrRecord, "\x02": ErrVersion, "\x00D\x00": ErrVersion, "{}": ErrVersion,
		"\x01X\x00": ErrKind, "\x01D\x00": ErrRecord, "\x01D\x80": ErrRecord, "\x01M\x00\x01": ErrKind, "\x01A\x00" + strings.Repeat("\xff", 20): ErrRecord,
	} {
		if err := decode([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, d := range deliveries() {
		f.Add(d.AppendRecord(nil))
	}
	for _, a := range attempts() {
		f.Add(a.AppendRecord(nil))
	}
	f.Add(AppendMarker(nil, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := DecodeDelivery(b); err == nil {
			again, err := DecodeDelivery(d.AppendRecord(nil))
			if err != nil || !reflect.DeepEqual(again, d) {
				t.Errorf("%+v, again %+v: %v", d, again, err)
			}
		}
		if g, err := DecodeMarker(b); err == nil {
			if again, err := DecodeMarker(AppendMarker(nil, g)); err != nil || again != g {
				t.Errorf("marker %d, again %d: %v", g, again, err)
			}
		}
		if a, err := DecodeAttempt(b); err == nil {
			again, err := DecodeAttempt(a.AppendRecord(nil))
			if err != nil || !reflect.DeepEqual(again, a) {
				t.Errorf("%+v, again %+v: %v", a, again, err)
			}
		}
	})
}

func TestID(t *testing.T) {
	ev := someEvent
	base := ID(&ev, "wh_1", "")
	if len(base) != 36 || !strings.HasPrefix(base, "dlv_") || base != ID(&ev, "wh_1", "") {
		t.Errorf("id %q", base)
	}
	// Ids are known to receivers, who drop what they have seen: they never change.
	if want := "dlv_e44e576d434bdbc731768e7257ee2100"; base != want {
		t.Errorf("id %q, want %q", base, want)
	}
	seen := map[string]string{base: "itself"}
	for name, id := range map[string]string{
		"another event":       ID(&event.Event{ID: "evt_2", Environment: ev.Environment, Offset: ev.Offset}, "wh_1", ""),
		"another environment": ID(&event.Event{ID: ev.ID, Environment: event.Sandbox, Offset: ev.Offset}, "wh_1", ""),
		"another place":       ID(&event.Event{ID: ev.ID, Environment: ev.Environment, Offset: 1}, "wh_1", ""),
		"another endpoint":    ID(&ev, "wh_2", ""),
		"a replay":            ID(&ev, "wh_1", "rpl_1"),
		"moved boundary":      ID(&ev, "wh_1rpl_", "1"),
	} {
		if other, ok := seen[id]; ok {
			t.Errorf("%s has the id of %s", name, other)
		}
		seen[id] = name
	}
}

func TestNew(t *testing.T) {
	ev := someEvent
	d := New(&ev, "wh_1", 5)
	if !d.First || d.Test || d.Reference || d.Control != 5 || d.Endpoint != "wh_1" || d.ID != ID(&ev, "wh_1", "") || !reflect.DeepEqual(d.Event, ev) {
		t.Errorf("%+v", d)
	}
	if d := NewTest(&ev, "wh_1", 5); d.First || !d.Test {
		t.Errorf("test: %+v", d)
	}
	ev.Data = make([]byte, MaxInline+1)
	if d := New(&ev, "wh_1", 5); !d.Reference || d.Event.Data != nil {
		t.Errorf("large: %+v", d)
	}
}

func TestTiers(t *testing.T) {
	var names []string
	for _, d := range Tiers([]time.Duration{0, 5 * time.Second, time.Hour}, []time.Duration{0, time.Second, 5 * time.Second, 2 * time.Minute, 90 * time.Second}) {
		names = append(names, Tier(d))
	}
	if got := strings.Join(names, " "); got != "tier.0s tier.1s tier.5s tier.90s tier.2m tier.1h" {
		t.Errorf("tiers %s", got)
	}
	if got := Tiers(); len(got) != 1 || got[0] != 0 {
		t.Errorf("without schedules: %v", got)
	}
}

func BenchmarkDelivery(b *testing.B) {
	d := deliveries()["all of it"]
	d.Event.Data = make([]byte, 400)
	record := d.AppendRecord(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			record = d.AppendRecord(record[:0])
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeDelivery(record); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// All hops of a replay's delivery say whose it is.
func TestReplayOfHops(t *testing.T) {
	d := NewReplay(&someEvent, false, "wh_1", "rpl_1")
	if d.ID == ID(&someEvent, "wh_1", "") || d.Replay() != "rpl_1" || New(&someEvent, "wh_1", 0).Replay() != "" {
		t.Errorf("%s is of %q", d.ID, d.Replay())
	}
	for _, topic := range []string{"rpl_1", "tier.5s"} {
		d = d.Next(Place{topic, 7})
		again, err := DecodeDelivery(d.AppendRecord(nil))
		if err != nil || again.Replay() != "rpl_1" || again.ID != d.ID {
			t.Errorf("from %s: %+v, %v", topic, again, err)
		}
		d = again
	}
}
