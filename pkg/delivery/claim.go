package delivery

import "encoding/binary"

// Two processes may take themselves for a lane's owner for a while: one that was
// stopped, and wakes up. Which of them counts is decided by the log.
//
//	lanes       ── claim of A ─── … ─── claim of B ── …      an owner's generation: its claim's offset + 1
//	attempts    ── marker A ── a a a ── marker B ── b  a  b …   then the others, tier.*, held and dead
//
// An owner appends a claim to lanes, then a marker to attempts, and when that is
// durable one to each of the others. It reads each partition up to its marker
// before it acts. All that it appends then, snapshots too, carries its generation,
// and counts only if nothing of a higher one stands before it in its partition:
// what the owner before appended is known to the new one, or counts for nothing.
// The journal is closed first, so that hardly an outcome counts whose hop doesn't;
// where one does, its delivery is sent again, since an outcome alone finishes no
// failed delivery.
//
// What fan-out and the api append to tier.0s has no generation and always counts;
// what fan-out buries has that of the lane beside which it runs.

// Fence tells of the records of one partition, met in their order, which of them
// count. It is the highest generation that was met; as a start, that of the
// snapshot that says from where to read.
type Fence uint64

// Counts reports whether the next record, of that generation, counts.
func (f *Fence) Counts(generation uint64) bool {
	if generation == 0 {
		return true
	}
	if Fence(generation) < *f {
		return false
	}
	*f = Fence(generation)
	return true
}

// AppendMarker adds to dst the record that closes a partition to all owners of
// lower generations.
func AppendMarker(dst []byte, generation uint64) []byte {
	dst = append(dst, recordVersion, kindMarker, 0)
	return binary.AppendUvarint(dst, generation)
}

// DecodeMarker reads what AppendMarker wrote. ErrVersion, ErrKind and ErrRecord
// say what is wrong with bytes that are none.
func DecodeMarker(value []byte) (generation uint64, err error) {
	flags, body, err := check(value, kindMarker)
	if err != nil {
		return 0, err
	}
	r := reader{rest: string(body)}
	generation = r.generation()
	if flags&flagMore != 0 {
		r.more()
	}
	if r.bad || r.rest != "" {
		return 0, ErrRecord
	}
	return generation, nil
}
