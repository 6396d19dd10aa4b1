package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// An event's record, in the topic of its environment, as we write it. What others
// write there is read by plain.go.
//
//	 0         1      2         3       4           12
//	┌─────────┬──────┬─────────┬───────┬───────────┬────────┬─ ─ ─ ─ ─ ─ ─┬─ ─ ─ ─ ─ ─
//	│ version │ env  │ members │ flags │ timestamp │ n(head)│ head         │ data
//	└─────────┴──────┴─────────┴───────┴───────────┴────────┴─ ─ ─ ─ ─ ─ ─┴─ ─ ─ ─ ─ ─
//	timestamp   milliseconds since 1970, big endian, signed
//	head        id type org key corridor network n(orgs) org… claim sum; each text is n and so many bytes
//	claim       its id and, as two bytes, big endian, the index; there if the flag says so
//	sum         CRC-32C of all that stands before it and of data, big endian; there if the flag says so
//	flags       1: every org may see it (and n(orgs) is 0); 2: it has a claim; 4: it has a sum
//	data        a JSON object in canonical form, up to the end of the record
//
// n is an unsigned varint. Offset and log time are the log's. The head stands
// apart so that decoding makes one string of it, and every attribute is a part
// of that string. A later release may add members behind sum, each with a flag:
// this one passes over them.
//
// The sum says that the record is as ingest made it: nobody parses its data
// again. A record without one is checked as if it had just been sent.
const (
	recordVersion = 1
	recordFixed   = 12
	flagAll       = 1
	flagClaim     = 2
	flagSum       = 4
	sumBytes      = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// MaxAudience bounds the orgs that one event names.
const MaxAudience = 1000

// MaxAttribute bounds a corridor, a network and an org id, in bytes.
const MaxAttribute = 128

// The ways in which bytes can be no event.
var (
	ErrVersion     = errors.New("event: record of an unknown version")
	ErrRecord      = errors.New("event: record is damaged")
	ErrEnvironment = errors.New("event: record of another environment")
)

// FromLog reads a record of the environment's topic, whoever wrote it, and sets
// what the log knows of the event. Its data may be a part of value, which must not
// change any more. Whatever the bytes are, it doesn't panic: ErrVersion, ErrRecord
// and ErrEnvironment say what is wrong with them, in some hundred bytes of text.
func FromLog(value []byte, env Environment, offset int64, logged time.Time) (*Event, error) {
	var ev *Event
	var err error
	if len(value) > 0 && value[0] == '{' {
		ev, err = decodePlain(value, env, logged)
	} else {
		ev, err = DecodeRecord(value)
	}
	switch {
	case err != nil:
		return nil, err
	case ev.Environment != env:
		return nil, fmt.Errorf("%w: it says %s", ErrEnvironment, ev.Environment)
	}
	ev.Offset, ev.Logged = offset, logged
	return ev, nil
}

// AppendRecord adds the event's bytes to dst. Offset and Logged aren't in them.
func (ev *Event) AppendRecord(dst []byte) []byte {
	flags, more := byte(flagSum), sumBytes
	orgs := ev.Audience.Orgs
	if ev.Audience.All {
		flags, orgs = flags|flagAll, nil
	}
	if ev.Claim != (Claim{}) {
		flags, more = flags|flagClaim, more+claimBytes
	}
	texts := [...]string{ev.ID, ev.Type, ev.Org, ev.Key, ev.Corridor, ev.Network}
	head := uvarintLen(len(orgs)) + more
	for _, s := range texts {
		head += uvarintLen(len(s)) + len(s)
	}
	for _, s := range orgs {
		head += uvarintLen(len(s)) + len(s)
	}
	dst = slices.Grow(dst, recordFixed+binary.MaxVarintLen32+head+len(ev.Data))
	begin := len(dst)
	dst = append(dst, recordVersion, byte(ev.Environment), byte(ev.Members), flags)
	dst = binary.BigEndian.AppendUint64(dst, uint64(ev.Timestamp.UnixMilli()))
	dst = binary.AppendUvarint(dst, uint64(head))
	for _, s := range texts {
		dst = appendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(orgs)))
	for _, s := range orgs {
		dst = appendText(dst, s)
	}
	if flags&flagClaim != 0 {
		dst = append(dst, ev.Claim.ID[:]...)
		dst = binary.BigEndian.AppendUint16(dst, ev.Claim.Index)
	}
	dst = binary.BigEndian.AppendUint32(dst, sumOf(dst[begin:], ev.Data))
	return append(dst, ev.Data...)
}

func sumOf(before, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(before, castagnoli), castagnoli, data)
}

// DecodeRecord reads what AppendRecord wrote, as FromLog does; Offset and Logged
// are not set.
func DecodeRecord(value []byte) (*Event, error) {
	if len(value) == 0 {
		return nil, ErrRecord
	}
	if value[0] != recordVersion {
		return nil, ErrVersion
	}
	if len(value) <= recordFixed {
		return nil, ErrRecord
	}
	size, n := binary.Uvarint(value[recordFixed:])
	start := recordFixed + n
	if n <= 0 || size > uint64(len(value)-start) {
		return nil, ErrRecord
	}
	end := start + int(size)
	h := head{rest: string(value[start:end])}
	flags := value[3]
	ev := &Event{
		Environment: Environment(value[1]),
		Members:     Members(value[2]),
		Timestamp:   time.UnixMilli(int64(binary.BigEndian.Uint64(value[4:]))).UTC(),
		ID:          h.text(),
		Type:        h.text(),
		Org:         h.text(),
		Key:         h.text(),
		Corridor:    h.text(),
		Network:     h.text(),
		Audience:    Audience{All: flags&flagAll != 0, Orgs: h.orgs()},
		Data:        value[end:len(value):len(value)],
	}
	if flags&flagClaim != 0 {
		ev.Claim = h.claim()
	}
	at := end - len(h.rest)
	if flags&flagSum != 0 && h.sum() != sumOf(value[:at], ev.Data) || h.bad || !ev.wellFormed() {
		return nil, ErrRecord
	}
	if flags&flagSum == 0 {
		if err := ev.check(); err != nil {
			return nil, err
		}
	}
	return ev, nil
}

func (ev *Event) wellFormed() bool {
	d := ev.Data
	return (ev.Environment == Sandbox || ev.Environment == Live) &&
		ValidID(ev.ID) && ValidType(ev.Type) &&
		(!ev.Audience.All || len(ev.Audience.Orgs) == 0) &&
		len(d) >= 2 && d[0] == '{' && d[len(d)-1] == '}'
}

// head reads the texts of a record's head; bad says that there were fewer.
type head struct {
	rest string
	bad  bool
}

func (h *head) count() uint64 {
	// A varint of a string, which encoding/binary reads from bytes only.
	var v uint64
	for i := range min(len(h.rest), binary.MaxVarintLen32) {
		c := h.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			h.rest = h.rest[i+1:]
			return v
		}
	}
	h.bad = true
	return 0
}

func (h *head) text() string {
	n := h.count()
	if h.bad || n > uint64(len(h.rest)) {
		h.bad = true
		return ""
	}
	s := h.rest[:n]
	h.rest = h.rest[n:]
	return s
}

func (h *head) orgs() []string {
	n := h.count()
	if h.bad || n > MaxAudience || n > uint64(len(h.rest)) {
		h.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	orgs := make([]string, n)
	for i := range orgs {
		orgs[i] = h.text()
		// Audience.Includes looks them up in their order.
		if i > 0 && orgs[i-1] >= orgs[i] {
			h.bad = true
		}
	}
	return orgs
}

func (h *head) claim() (c Claim) {
	if len(h.rest) < claimBytes {
		h.bad = true
		return c
	}
	n := copy(c.ID[:], h.rest)
	c.Index = uint16(h.rest[n])<<8 | uint16(h.rest[n+1])
	h.rest = h.rest[claimBytes:]
	return c
}

func (h *head) sum() uint32 {
	if len(h.rest) < sumBytes {
		h.bad = true
		return 0
	}
	return binary.BigEndian.Uint32([]byte(h.rest[:sumBytes]))
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
