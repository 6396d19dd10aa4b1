package index

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"time"

	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Pebble's keys. An id is its length, in a byte, and itself; offsets are big
// endian; the id of a delivery is its 16 bytes where it is one of ours.
//
//	'r' endpoint event delivery       a row: the list of an endpoint's, in order of their events
//	'o' endpoint event delivery       its step, where it isn't delivered: so that those are found among many that are
//	'd' endpoint delivery             its event: where its row lies
//	'e' env event delivery            its endpoint: what became of an event
//	'p' partition topic               a position
//	'v'                               format, and the log that all this is of
const (
	kindRow      = 'r'
	kindOpen     = 'o'
	kindID       = 'd'
	kindEvent    = 'e'
	kindPosition = 'p'
)

// format rises when rows would be read wrong by another: then all is made anew.
const format = "2"

var logKey = []byte{'v'}

func appendID(dst []byte, id string) []byte { return append(append(dst, byte(len(id))), id...) }

const deliveryPrefix = "dlv_"

// appendDelivery adds a delivery's id, with a byte of its form in front.
func appendDelivery(dst []byte, id string) []byte {
	// Upper case would come back as lower.
	if text, ours := strings.CutPrefix(id, deliveryPrefix); ours && len(text) == 32 && !strings.ContainsAny(text, "ABCDEF") {
		if key, err := hex.AppendDecode(append(dst, 0), []byte(text)); err == nil {
			return key
		}
	}
	return append(append(dst, 1), id...)
}

func takeDelivery(b []byte) (string, bool) {
	switch {
	case len(b) == 17 && b[0] == 0:
		return deliveryPrefix + hex.EncodeToString(b[1:]), true
	case len(b) > 0 && b[0] == 1:
		return string(b[1:]), true
	}
	return "", false
}

// appendKey adds the key of kindRow or kindOpen.
func appendKey(dst []byte, kind byte, k *attempts.Key) []byte {
	b := appendID(append(dst, kind), k.Endpoint)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Event))
	return appendDelivery(b, k.Delivery)
}

func rowKey(k *attempts.Key) []byte  { return appendKey(nil, kindRow, k) }
func openKey(k *attempts.Key) []byte { return appendKey(nil, kindOpen, k) }

func appendIDKey(dst []byte, k *attempts.Key) []byte {
	return appendDelivery(appendID(append(dst, kindID), k.Endpoint), k.Delivery)
}

// span gives the keys of all that an endpoint has of the kind.
func span(kind byte, endpoint string) (from, to []byte) {
	from = appendID([]byte{kind}, endpoint)
	return from, binary.BigEndian.AppendUint64(appendID([]byte{kind}, endpoint), math.MaxUint64)
}

// decodeKey reads a key of kindRow or kindOpen.
func decodeKey(key []byte) (k attempts.Key, ok bool) {
	if len(key) < 2 || len(key) < 2+int(key[1])+8 {
		return k, false
	}
	n := int(key[1])
	k.Endpoint = string(key[2 : 2+n])
	k.Event = int64(binary.BigEndian.Uint64(key[2+n:]))
	k.Delivery, ok = takeDelivery(key[2+n+8:])
	return k, ok
}

func appendEventKey(dst []byte, env event.Environment, k *attempts.Key) []byte {
	b := binary.BigEndian.AppendUint64(append(dst, kindEvent, byte(env)), uint64(k.Event))
	return appendDelivery(b, k.Delivery)
}

func eventSpan(env event.Environment, from, to int64) ([]byte, []byte) {
	return binary.BigEndian.AppendUint64([]byte{kindEvent, byte(env)}, uint64(from)),
		binary.BigEndian.AppendUint64([]byte{kindEvent, byte(env)}, uint64(to))
}

func decodeEventKey(key, value []byte) (k attempts.Key, ok bool) {
	if len(key) < 10 {
		return k, false
	}
	k.Endpoint, k.Event = string(value), int64(binary.BigEndian.Uint64(key[2:]))
	k.Delivery, ok = takeDelivery(key[10:])
	return k, ok
}

func positionKey(p eventlog.Partition) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kindPosition}, uint32(p.Number)), p.Topic...)
}

func encodePosition(pos attempts.Position) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(pos.Next)), uint64(pos.Fence))
}

func decodePosition(key, value []byte) (pos attempts.Position, ok bool) {
	if len(key) < 5 || len(value) != 16 {
		return pos, false
	}
	pos.Partition = eventlog.Partition{Number: int32(binary.BigEndian.Uint32(key[1:])), Topic: string(key[5:])}
	pos.Next = int64(binary.BigEndian.Uint64(value))
	pos.Fence = delivery.Fence(binary.BigEndian.Uint64(value[8:]))
	return pos, true
}

// appendRow adds what a row's key doesn't say.
func appendRow(dst []byte, row *attempts.Row) []byte {
	test := byte(0)
	if row.Test {
		test = 1
	}
	b := append(dst, byte(row.Environment), test)
	b = binary.AppendVarint(b, int64(row.Step))
	for _, t := range [...]time.Time{row.Created, row.Updated, row.Next} {
		b = binary.AppendVarint(b, millis(t))
	}
	for _, s := range [...]string{row.EventID, row.Type, row.Reason, string(row.Class)} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendUvarint(b, uint64(row.HTTP))
	b = binary.AppendUvarint(b, uint64(row.Number))
	b = binary.AppendUvarint(b, uint64(len(row.Attempts)))
	last := int64(0)
	for _, at := range row.Attempts {
		b = binary.AppendVarint(b, at-last)
		last = at
	}
	return b
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.UnixMilli()
}

func decodeRow(key, value []byte) (*attempts.Row, bool) {
	k, ok := decodeKey(key)
	if !ok {
		return nil, false
	}
	row, ok := decodeValue(value)
	if ok {
		row.Key = k
	}
	return row, ok
}

// decodeValue reads what appendRow wrote.
func decodeValue(value []byte) (*attempts.Row, bool) {
	if len(value) < 2 {
		return nil, false
	}
	row := &attempts.Row{Environment: event.Environment(value[0]), Test: value[1] == 1}
	r := rest{b: value[2:]}
	row.Step = attempts.Step(r.varint())
	for _, t := range []*time.Time{&row.Created, &row.Updated, &row.Next} {
		if ms := r.varint(); ms != math.MinInt64 {
			*t = time.UnixMilli(ms).UTC()
		}
	}
	row.EventID, row.Type, row.Reason, row.Class = r.text(), r.text(), r.text(), delivery.Class(r.text())
	row.HTTP, row.Number = int(r.uvarint()), int(r.uvarint())
	last := int64(0)
	for range min(r.uvarint(), attempts.MaxAttempts) {
		last += r.varint()
		row.Attempts = append(row.Attempts, last)
	}
	if r.bad {
		return nil, false
	}
	return row, true
}

// rest reads members off the front.
type rest struct {
	b   []byte
	bad bool
}

func (r *rest) take(n int) {
	if n <= 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return
	}
	r.b = r.b[n:]
}

func (r *rest) varint() int64 {
	v, n := binary.Varint(r.b)
	r.take(n)
	return v
}

func (r *rest) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.take(n)
	return v
}

func (r *rest) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
