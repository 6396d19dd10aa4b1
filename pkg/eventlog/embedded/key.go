package embedded

import (
	"encoding/binary"
	"math"
)

// Pebble's keys. Numbers are big endian, so that the order of bytes is the order
// of topic, partition and offset.
//
//	't' name                            topicMeta: the topic's number, its partitions
//	'b' topic(2) partition(2)           bounds: written by a trim
//	'r' topic(2) partition(2) offset(8) a record: time(8) key length(4) key value
const (
	kindBounds = 'b'
	kindRecord = 'r'
	kindTopic  = 't'

	prefixLen = 5
	keyLen    = prefixLen + 8
	valueHead = 8 + 4 // time, length of the key
	maxOffset = math.MaxInt64
)

func recordPrefix(topic uint16, number int32) (p [prefixLen]byte) {
	p[0] = kindRecord
	binary.BigEndian.PutUint16(p[1:], topic)
	binary.BigEndian.PutUint16(p[3:], uint16(number))
	return p
}

// key is the key of the record at the offset.
func (p *partition) key(offset int64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, keyLen), p.prefix[:]...), uint64(offset))
}

func (p *partition) boundsKey() []byte {
	k := append([]byte(nil), p.prefix[:]...)
	k[0] = kindBounds
	return k
}

func keyOffset(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[prefixLen:])) }

func topicKey(name string) []byte { return append([]byte{kindTopic}, name...) }

type topicMeta struct {
	id         uint16
	partitions uint32
}

func (m topicMeta) encode() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, m.id), m.partitions)
}

func decodeTopicMeta(b []byte) (topicMeta, bool) {
	if len(b) != 6 {
		return topicMeta{}, false
	}
	return topicMeta{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])}, true
}

// bounds is what must outlive a partition's records: where it begins, that its
// offsets go on from end, and its clock from last.
type bounds struct{ start, end, last int64 }

func (b bounds) encode() []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(b.start))
	out = binary.BigEndian.AppendUint64(out, uint64(b.end))
	return binary.BigEndian.AppendUint64(out, uint64(b.last))
}

func decodeBounds(v []byte) (bounds, bool) {
	if len(v) != 24 {
		return bounds{}, false
	}
	b := bounds{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:])), int64(binary.BigEndian.Uint64(v[16:]))}
	return b, b.start >= 0 && b.start <= b.end
}
