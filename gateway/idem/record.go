package idem

import (
	"encoding/binary"
	"errors"
	"time"

	"sluice/pkg/event"
)

// The records of the topic. Each begins with the version, what it is, and the
// id of the claim that it is about:
//
//	claim  1 1 id flags env now n(org) org [key whole] n(events) {flags content n(id) id}…
//	done   1 2 id seq n(indexes) index…      events that are in the log; none: all
//	take   1 3 id seq by                     the seq-th to have the claim, who made it being the 0th
//
//	id, key, whole, by   16 bytes
//	now                  the claimant's clock, for timestamps that weren't given: ms since 1970, 8 bytes, big endian
//	content              8 bytes
//	flags                of a claim: 1 it has key and whole; 2 its events are in the same append
//	                     of an event: 1 the publisher gave its id; 2 it is claimed (else it was known already)
//
// n, index and seq are unsigned varints. A later release may add members behind
// these: this one passes over them.
const (
	recordVersion = 1

	kindClaim = 1
	kindDone  = 2
	kindTake  = 3

	flagKeyed   = 1
	flagAlong   = 2
	flagOwnID   = 1
	flagClaimed = 2
)

var errRecord = errors.New("record is no claim, done or take")

// claimRecord says what a request is about to append.
type claimRecord struct {
	id         event.ClaimID
	keyed      bool
	along      bool
	env        event.Environment
	now        time.Time
	org        string
	key, whole sum
	events     []claimedEvent
}

type claimedEvent struct {
	own, claimed bool
	content      uint64
	id           string
}

type doneRecord struct {
	id      event.ClaimID
	seq     int // of who appended them, and is through with it
	indexes []int
}

type takeRecord struct {
	id  event.ClaimID
	seq int
	by  event.ClaimID
}

func head(kind byte, id event.ClaimID) []byte {
	return append([]byte{recordVersion, kind}, id[:]...)
}

func bits(low, high bool) (b byte) {
	if low {
		b |= 1
	}
	if high {
		b |= 2
	}
	return b
}

func (r *claimRecord) encode() []byte {
	b := append(head(kindClaim, r.id), bits(r.keyed, r.along), byte(r.env))
	b = binary.BigEndian.AppendUint64(b, uint64(r.now.UnixMilli()))
	b = append(binary.AppendUvarint(b, uint64(len(r.org))), r.org...)
	if r.keyed {
		b = append(append(b, r.key[:]...), r.whole[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.events)))
	for i := range r.events {
		ev := &r.events[i]
		b = binary.BigEndian.AppendUint64(append(b, bits(ev.own, ev.claimed)), ev.content)
		b = append(binary.AppendUvarint(b, uint64(len(ev.id))), ev.id...)
	}
	return b
}

func (r *doneRecord) encode() []byte {
	b := binary.AppendUvarint(head(kindDone, r.id), uint64(r.seq))
	b = binary.AppendUvarint(b, uint64(len(r.indexes)))
	for _, i := range r.indexes {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return b
}

func (r *takeRecord) encode() []byte {
	return append(binary.AppendUvarint(head(kindTake, r.id), uint64(r.seq)), r.by[:]...)
}

// decode gives a *claimRecord, a *doneRecord or a *takeRecord. Whatever the
// bytes are, it doesn't panic.
func decode(value []byte) (any, error) {
	c := cursor{rest: value}
	version, kind := c.byte(), c.byte()
	id := event.ClaimID(c.take(len(event.ClaimID{})))
	if version != recordVersion {
		return nil, errRecord
	}
	var r any
	switch kind {
	case kindClaim:
		r = c.claim(id)
	case kindDone:
		done := &doneRecord{id: id, seq: int(c.uvarint())}
		done.indexes = make([]int, c.count())
		for i := range done.indexes {
			done.indexes[i] = int(c.uvarint())
		}
		r = done
	case kindTake:
		r = &takeRecord{id: id, seq: int(c.uvarint()), by: event.ClaimID(c.take(len(event.ClaimID{})))}
	}
	if c.bad || r == nil {
		return nil, errRecord
	}
	return r, nil
}

// cursor reads a record; bad says that it ended too early.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) claim(id event.ClaimID) *claimRecord {
	flags := c.byte()
	r := &claimRecord{id: id, keyed: flags&flagKeyed != 0, along: flags&flagAlong != 0, env: event.Environment(c.byte())}
	r.now = time.UnixMilli(int64(binary.BigEndian.Uint64(c.take(8)))).UTC()
	r.org = string(c.take(c.count()))
	if r.keyed {
		r.key, r.whole = sum(c.take(16)), sum(c.take(16))
	}
	r.events = make([]claimedEvent, c.count())
	for i := range r.events {
		flags := c.byte()
		r.events[i] = claimedEvent{own: flags&flagOwnID != 0, claimed: flags&flagClaimed != 0, content: binary.BigEndian.Uint64(c.take(8))}
		r.events[i].id = string(c.take(c.count()))
	}
	return r
}

// entries counts the keys and ids that a record may enter, as the view does: those
// of an answer to a key, too.
func entries(value []byte) (n int) {
	c := cursor{rest: value}
	if c.byte() != recordVersion || c.byte() != kindClaim {
		return 0
	}
	c.take(len(event.ClaimID{}))
	flags := c.byte()
	c.take(1 + 8)
	c.take(c.count())
	if flags&flagKeyed != 0 {
		c.take(2 * len(sum{}))
		n = 1
	}
	for range c.count() {
		if flags&flagKeyed != 0 {
			n++
		}
		if c.byte() == bits(true, true) {
			n++
		}
		c.take(8)
		c.take(c.count())
	}
	return n
}

// take gives n bytes; zeroes, when there aren't so many.
func (c *cursor) take(n int) []byte {
	if n > len(c.rest) {
		c.bad, c.rest = true, nil
		return make([]byte, n)
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte { return c.take(1)[0] }

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 || v > 1<<31 {
		c.bad, c.rest = true, nil
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// count reads how many bytes or items follow, of at least a byte each.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.rest)) {
		c.bad, c.rest = true, nil
		return 0
	}
	return int(n)
}
