package delivery

import (
	"encoding/binary"
	"errors"
	"time"

	"sluice/pkg/event"
)

// A record of ours says first what it is:
//
//	┌─────────┬──────┬──────────┬───
//	│ version │ kind │ n(flags) │ …     version 1; kind 'D' a delivery, 'A' an attempt, 'M' a marker
//	└─────────┴──────┴──────────┴───
//
// Numbers are varints (n: unsigned, z: zigzag), texts are n and so many bytes,
// times are z nanoseconds since 1970 with 0 for none. A member in brackets is
// there only if its flag is set.
//
//	delivery   n(data) id endpoint n(attempts) n(control) [n(generation)] [due] [first fail]
//	           event: env id type z(timestamp, ms) org key corridor network members z(offset)
//	           [origin] [outcome] [reason] [more] data
//	attempt    delivery endpoint event-id n(number) [n(generation)] origin outcome [more]
//	marker     n(generation) [more]
//	origin     topic z(offset)
//	outcome    class n(status) detail started z(took) n(epoch) retry-at
//	more       n and so many bytes; in them, for each member: n(tag), n and so many bytes
//
// Data comes last, so that it can be used where it lies.
//
// Whatever a later release adds is a member of more, with a tag of its own; a
// member without bytes is a flag. A release that doesn't know the tag carries the
// member along unread. An odd tag belongs to the delivery, and stands in all its
// hops; an even one belongs to the record, and its next hop is without it. A
// change that older releases mustn't pass over is a new version. Bits of flags
// that aren't known mean nothing.
const recordVersion = 1

// Kinds of records. A partition's reader may meet a kind that a newer process
// wrote: ErrKind.
const (
	kindDelivery = 'D'
	kindAttempt  = 'A'
	kindMarker   = 'M'
)

// Flags of records.
const (
	flagReference = 1 << iota
	flagFirst
	flagTest
	flagDue
	flagFirstFail
	flagOrigin
	flagOutcome
	flagReason
	flagGeneration
	flagMore
)

// The ways in which bytes can be no record.
var (
	ErrVersion = errors.New("delivery: record of an unknown version")
	ErrKind    = errors.New("delivery: record of an unknown kind")
	ErrRecord  = errors.New("delivery: record is damaged")
)

// AppendRecord adds the delivery's bytes to dst. Data that may not travel along
// is left out, and Reference written, whatever d says.
func (d *Delivery) AppendRecord(dst []byte) []byte {
	data, reference := d.Event.Data, d.Reference
	if reference || len(data) > MaxInline {
		data, reference = nil, true
	}
	flags := flag(reference, flagReference) | flag(d.First, flagFirst) | flag(d.Test, flagTest) |
		flag(!d.Due.IsZero(), flagDue) | flag(!d.FirstFail.IsZero(), flagFirstFail) |
		flag(d.Origin != Place{}, flagOrigin) | flag(d.Outcome != Outcome{}, flagOutcome) |
		flag(d.Reason != "", flagReason) | flag(d.Generation != 0, flagGeneration) | flag(d.more != "", flagMore)
	dst = binary.AppendUvarint(append(dst, recordVersion, kindDelivery), flags)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	dst = appendText(dst, d.ID)
	dst = appendText(dst, d.Endpoint)
	dst = binary.AppendUvarint(dst, uint64(d.Attempts))
	dst = binary.AppendUvarint(dst, uint64(d.Control))
	if flags&flagGeneration != 0 {
		dst = binary.AppendUvarint(dst, d.Generation)
	}
	if flags&flagDue != 0 {
		dst = appendTime(dst, d.Due)
	}
	if flags&flagFirstFail != 0 {
		dst = appendTime(dst, d.FirstFail)
	}
	ev := &d.Event
	dst = append(dst, byte(ev.Environment))
	dst = appendText(dst, ev.ID)
	dst = appendText(dst, ev.Type)
	dst = binary.AppendVarint(dst, ev.Timestamp.UnixMilli())
	dst = appendText(dst, ev.Org)
	dst = appendText(dst, ev.Key)
	dst = appendText(dst, ev.Corridor)
	dst = appendText(dst, ev.Network)
	dst = append(dst, byte(ev.Members))
	dst = binary.AppendVarint(dst, ev.Offset)
	if flags&flagOrigin != 0 {
		dst = d.Origin.append(dst)
	}
	if flags&flagOutcome != 0 {
		dst = d.Outcome.append(dst)
	}
	if flags&flagReason != 0 {
		dst = appendText(dst, d.Reason)
	}
	if flags&flagMore != 0 {
		dst = appendText(dst, d.more)
	}
	return append(dst, data...)
}

// DecodeDelivery reads what AppendRecord wrote. The delivery's data is a part of
// value, which must not change any more. ErrVersion, ErrKind and ErrRecord say
// what is wrong with bytes that are none.
func DecodeDelivery(value []byte) (*Delivery, error) {
	flags, body, err := check(value, kindDelivery)
	if err != nil {
		return nil, err
	}
	size, n := binary.Uvarint(body)
	if n <= 0 || size > MaxInline || size > uint64(len(body)-n) {
		return nil, ErrRecord
	}
	end := len(body) - int(size)
	r := reader{rest: string(body[n:end])}

	d := &Delivery{
		Reference: flags&flagReference != 0,
		First:     flags&flagFirst != 0,
		Test:      flags&flagTest != 0,
		ID:        r.text(),
		Endpoint:  r.text(),
		Attempts:  r.count(),
		Control:   int64(r.uvarint()),
	}
	if flags&flagGeneration != 0 {
		d.Generation = r.generation()
	}
	if flags&flagDue != 0 {
		d.Due = r.time()
	}
	if flags&flagFirstFail != 0 {
		d.FirstFail = r.time()
	}
	d.Event = event.Event{
		Environment: event.Environment(r.byte()),
		ID:          r.text(),
		Type:        r.text(),
		Timestamp:   time.UnixMilli(r.varint()).UTC(),
		Org:         r.text(),
		Key:         r.text(),
		Corridor:    r.text(),
		Network:     r.text(),
		Members:     event.Members(r.byte()),
		Offset:      r.varint(),
	}
	if flags&flagOrigin != 0 {
		d.Origin = r.place()
	}
	if flags&flagOutcome != 0 {
		d.Outcome = r.outcome()
	}
	if flags&flagReason != 0 {
		d.Reason = r.text()
	}
	if flags&flagMore != 0 {
		d.more = r.more()
	}
	env := d.Event.Environment
	if r.bad || r.rest != "" || env != event.Sandbox && env != event.Live || d.Reference && size > 0 {
		return nil, ErrRecord
	}
	if !d.Reference {
		d.Event.Data = body[end:len(body):len(body)]
	}
	return d, nil
}

// AppendRecord adds the attempt's bytes to dst.
func (a *Attempt) AppendRecord(dst []byte) []byte {
	flags := flag(a.Test, flagTest) | flag(a.Generation != 0, flagGeneration) | flag(a.hasMore(), flagMore)
	dst = binary.AppendUvarint(append(dst, recordVersion, kindAttempt), flags)
	dst = appendText(dst, a.Delivery)
	dst = appendText(dst, a.Endpoint)
	dst = appendText(dst, a.EventID)
	dst = binary.AppendUvarint(dst, uint64(a.Number))
	if flags&flagGeneration != 0 {
		dst = binary.AppendUvarint(dst, a.Generation)
	}
	dst = a.Origin.append(dst)
	dst = a.Outcome.append(dst)
	if flags&flagMore != 0 {
		dst = a.appendMore(dst)
	}
	return dst
}

// DecodeAttempt reads what AppendRecord wrote. The exchange's headers and answer are
// parts of value, which must not change any more. ErrVersion, ErrKind and ErrRecord
// say what is wrong with bytes that are none.
func DecodeAttempt(value []byte) (*Attempt, error) {
	flags, body, err := check(value, kindAttempt)
	if err != nil {
		return nil, err
	}
	r := reader{rest: string(body)}
	a := &Attempt{
		Test:     flags&flagTest != 0,
		Delivery: r.text(),
		Endpoint: r.text(),
		EventID:  r.text(),
		Number:   r.count(),
	}
	if flags&flagGeneration != 0 {
		a.Generation = r.generation()
	}
	a.Origin, a.Outcome = r.place(), r.outcome()
	if flags&flagMore != 0 && !a.takeMore(r.more(), body) || r.bad || r.rest != "" {
		return nil, ErrRecord
	}
	return a, nil
}

// check gives a record's flags and what stands behind them.
func check(value []byte, kind byte) (flags uint64, body []byte, err error) {
	switch {
	case len(value) == 0:
		return 0, nil, ErrRecord
	case value[0] != recordVersion:
		return 0, nil, ErrVersion
	case len(value) < 3:
		return 0, nil, ErrRecord
	case value[1] != kind:
		return 0, nil, ErrKind
	}
	flags, n := binary.Uvarint(value[2:])
	if n <= 0 {
		return 0, nil, ErrRecord
	}
	return flags, value[2+n:], nil
}
