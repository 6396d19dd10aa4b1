package event

// ClaimID names a claim: the record by which a request, before it publishes,
// says which events it is about to. It is random.
type ClaimID [16]byte

// Claim says which event of which claim this is, so that whoever finishes what
// another began can tell what is in the log already, and whoever reads the log
// can tell a second copy. The zero value is that of an event that nobody can
// have appended twice.
type Claim struct {
	ID    ClaimID
	Index uint16
}

// claimBytes is what a claim takes in an event's record.
const claimBytes = len(ClaimID{}) + 2

// DoublesEvents is how many claims a Doubles remembers.
const DoublesEvents = 64 << 10

// Doubles tells the second copy of an event from the first, among the newest
// DoublesEvents that carry a claim. Its zero value remembers none; what it takes
// grows with what it has seen, to about 4 MiB. It is used by one goroutine.
type Doubles struct {
	first map[Claim]int64 // offset of the first copy
	ring  []Claim
	next  int
}

// Double notes the event, and reports whether it is the copy of one with a
// smaller offset. The same record read again is no copy.
func (d *Doubles) Double(ev *Event) bool {
	if ev.Claim == (Claim{}) {
		return false
	}
	if first, seen := d.first[ev.Claim]; seen {
		return ev.Offset > first
	}
	if d.first == nil {
		d.first = make(map[Claim]int64)
	}
	if len(d.ring) < DoublesEvents {
		d.ring = append(d.ring, ev.Claim)
	} else {
		delete(d.first, d.ring[d.next])
		d.ring[d.next] = ev.Claim
		d.next = (d.next + 1) % DoublesEvents
	}
	d.first[ev.Claim] = ev.Offset
	return false
}
