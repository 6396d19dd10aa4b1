package idem

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// sum stands for a key or an id in its org and environment, or for a whole
// request: the first half of a SHA-256. The zero value stands for none.
type sum [16]byte

// digest is a request, by what makes another the same.
type digest struct {
	*Request
	partition eventlog.Partition
	key       sum
	whole     sum      // of all events
	ids       []sum    // of events with ids of their own; else zero
	contents  []uint64 // of each event; what the publisher left to us isn't in it

	// What came of it so far.
	placed  []bool // events that it has appended
	claimed bool   // its key is its own
	judged  bool   // the log has judged a claim of it
}

func newDigest(req *Request) *digest {
	d := &digest{Request: req, partition: partitionOf(req.Org, req.Environment),
		ids: make([]sum, len(req.Events)), contents: make([]uint64, len(req.Events)), placed: make([]bool, len(req.Events))}
	whole := make([]byte, 1, 1+8*len(req.Events))
	if req.Batch {
		whole[0] = 1
	}
	var scratch []byte
	for i := range req.Events {
		ev := &req.Events[i]
		if ev.OwnID {
			d.ids[i] = scoped('i', req.Org, req.Environment, ev.ID)
		}
		d.contents[i], scratch = content(ev, scratch[:0])
		whole = binary.BigEndian.AppendUint64(whole, d.contents[i])
	}
	if req.Key != "" {
		d.key = scoped('k', req.Org, req.Environment, req.Key)
		d.whole = half(whole)
	}
	return d
}

// content is what two events with one id must have in common.
func content(ev *Event, scratch []byte) (uint64, []byte) {
	plain := *ev.Event
	given := byte(0)
	if ev.OwnID {
		given |= 1
	} else {
		plain.ID = ""
	}
	if ev.OwnTime {
		given |= 2
	} else {
		plain.Timestamp = time.UnixMilli(0)
	}
	plain.Claim = event.Claim{}
	scratch = plain.AppendRecord(append(scratch, given))
	s := sha256.Sum256(scratch)
	return binary.BigEndian.Uint64(s[:]), scratch
}

func scoped(kind byte, org string, env event.Environment, text string) sum {
	b := make([]byte, 0, 3+len(org)+len(text))
	b = append(b, kind, byte(env))
	b = append(append(b, org...), 0) // no org has a zero in its id
	return half(append(b, text...))
}

func half(b []byte) sum {
	s := sha256.Sum256(b)
	return sum(s[:16])
}

func partitionOf(org string, env event.Environment) eventlog.Partition {
	h := fnv.New32a()
	h.Write([]byte{byte(env)})
	h.Write([]byte(org))
	return eventlog.Partition{Topic: Topic.Name, Number: int32(h.Sum32() % uint32(Topic.Partitions))}
}
