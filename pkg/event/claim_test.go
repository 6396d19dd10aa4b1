package event

import (
	"encoding/binary"
	"testing"
)

func claimed(n int, offset int64) *Event {
	ev := &Event{Offset: offset, Claim: Claim{Index: uint16(n % 1000)}}
	binary.BigEndian.PutUint64(ev.Claim.ID[:], uint64(1+n/1000))
	return ev
}

func TestDoubles(t *testing.T) {
	var d Doubles
	for range 2 {
		if d.Double(&Event{}) {
			t.Error("events without a claim are never doubles")
		}
		if d.Double(claimed(0, 5)) {
			t.Error("a record that was read twice isn't a double")
		}
	}
	if !d.Double(claimed(0, 6)) || !d.Double(claimed(0, 7)) {
		t.Error("copies weren't told")
	}
	if d.Double(claimed(1, 8)) || d.Double(claimed(1000, 9)) {
		t.Error("another index and another claim are no copies")
	}
	for n := range 3 * DoublesEvents {
		d.Double(claimed(5000+n, int64(100+n)))
	}
	if len(d.first) != DoublesEvents || len(d.ring) != DoublesEvents {
		t.Errorf("remembers %d and %d", len(d.first), len(d.ring))
	}
	if !d.Double(claimed(5000+2*DoublesEvents, 1_000_000)) {
		t.Error("the oldest that is remembered wasn't")
	}
	if d.Double(claimed(5000+2*DoublesEvents-1, 1_000_000)) {
		t.Error("one too many was remembered")
	}
}
