package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"sluice/pkg/event"
)

// ID gives the id of the delivery of an event to an endpoint: dlv_ and 128 bits
// of a hash. It is the same whoever works it out and however often, so a
// receiver can drop what comes twice; a replay's deliveries have ids of their
// own. replay is empty but for those.
func ID(ev *event.Event, endpointID, replay string) string {
	var room [192]byte
	b := append(room[:0], byte(ev.Environment))
	b = binary.BigEndian.AppendUint64(b, uint64(ev.Offset))
	// Each text is preceded by its length: no two triples give the same bytes.
	b = appendText(b, ev.ID)
	b = appendText(b, endpointID)
	b = appendText(b, replay)
	sum := sha256.Sum256(b)
	var id [4 + 32]byte
	copy(id[:], "dlv_")
	hex.Encode(id[4:], sum[:16])
	return string(id[:])
}

// New gives what fan-out appends for an endpoint that wants the event. control
// is the offset of the control topic up to which the endpoint was known. The
// event's data is shared, or left to be read again where it is large.
func New(ev *event.Event, endpointID string, control int64) *Delivery {
	d := &Delivery{ID: ID(ev, endpointID, ""), Endpoint: endpointID, Event: *ev, First: true, Control: control}
	if len(ev.Data) > MaxInline {
		d.Refer()
	}
	return d
}

// Refer leaves the event's data to be read again.
func (d *Delivery) Refer() { d.Reference, d.Event.Data = true, nil }

// Carry has data travel along that was read again, where it may.
func (d *Delivery) Carry(data []byte) { d.Reference, d.Event.Data = len(data) > MaxInline, data }

// NewTest gives a delivery that a person asked for. Its event is in no log, so
// its data always travels along: at most MaxInline bytes.
func NewTest(ev *event.Event, endpointID string, control int64) *Delivery {
	d := New(ev, endpointID, control)
	d.First, d.Test = false, true
	return d
}

// NewByHand gives a delivery that a person asks for once more, after so many
// attempts: one attempt, past the schedule. Its event is read from the events
// log.
func NewByHand(id, endpointID string, ev *event.Event, attempts int, control int64) *Delivery {
	d := &Delivery{ID: id, Endpoint: endpointID, Event: *ev, Reference: true, Attempts: attempts, Control: control}
	d.Event.Data = nil
	d.more = string([]byte{tagByHand, 0})
	return d
}

// ByHand reports whether NewByHand made it.
func (d *Delivery) ByHand() bool {
	for r := (reader{rest: d.more}); r.rest != ""; {
		if tag, _ := r.member(); tag == tagByHand {
			return true
		}
	}
	return false
}

// NewReplay gives what a replay sends of an event to an endpoint, under an id of
// its own. reference says that the event's data is to be read again.
func NewReplay(ev *event.Event, reference bool, endpointID, replay string) *Delivery {
	d := &Delivery{ID: ID(ev, endpointID, replay), Endpoint: endpointID, Event: *ev, Reference: reference}
	d.more = string(appendText([]byte{tagReplay}, replay))
	return d
}

// Replay gives the id of the replay that the delivery is of; empty: it was owed.
func (d *Delivery) Replay() string {
	for r := (reader{rest: d.more}); r.rest != ""; {
		if tag, id := r.member(); tag == tagReplay {
			return id
		}
	}
	return ""
}

// Next gives the delivery as it goes on from the record at a place: all that
// belongs to the delivery, and nothing that belonged to that record only.
func (d *Delivery) Next(from Place) *Delivery {
	hop := *d
	hop.First, hop.Due, hop.Outcome, hop.Reason, hop.Generation = false, time.Time{}, Outcome{}, "", 0
	hop.Origin, hop.more = from, inherited(d.more)
	return &hop
}

// Tags of members that a record has in more.
const tagRecord = 2

// MaxKept is the most that Keep keeps, in bytes. Deliveries are smaller.
const MaxKept = 64 << 10

// Keep has a dead letter carry the bytes of a record that can't be read, or their
// beginning.
func (d *Delivery) Keep(record []byte) {
	member := binary.AppendUvarint(nil, tagRecord)
	member = appendText(member, string(record[:min(len(record), MaxKept)]))
	d.more += string(member)
}

// Kept gives what Keep was given; nil: nothing.
func (d *Delivery) Kept() []byte {
	for r := (reader{rest: d.more}); r.rest != ""; {
		if tag, value := r.member(); tag == tagRecord {
			return []byte(value)
		}
	}
	return nil
}
