package delivery

import (
	"encoding/binary"
	"errors"
	"time"

	"sluice/pkg/event"
)

// A record of ours says first what it is:
//
//	┌─────────┬──────┬───────┬───
//	│ version │ kind │ flags │ …     version 1; kind 'D' a delivery, 'A' an attempt
//	└─────────┴──────┴───────┴───
//
// Numbers are varints (n: unsigned, z: zigzag), texts are n and so many bytes,
// times are z nanoseconds since 1970 with 0 for none. A member in brackets is
// there only if its flag is set.
//
//	delivery   n(data) id endpoint n(attempts) n(control) [due] [first fail]
//	           event: env id type z(timestamp, ms) org key corridor network members z(offset)
//	           [origin] [outcome] [reason] data
//	attempt    delivery endpoint event-id n(number) origin outcome
//	origin     topic z(offset)
//	outcome    class n(status) detail started z(took) n(epoch) retry-at
//
// Data comes last, so that it can be used where it lies.
const recordVersion = 1

// Kinds of records. A partition's reader may meet a kind that a newer process
// wrote: ErrKind.
const (
	kindDelivery = 'D'
	kindAttempt  = 'A'
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
		flag(d.Reason != "", flagReason)
	dst = append(dst, recordVersion, kindDelivery, flags)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	dst = appendText(dst, d.ID)
	dst = appendText(dst, d.Endpoint)
	dst = binary.AppendUvarint(dst, uint64(d.Attempts))
	dst = binary.AppendUvarint(dst, uint64(d.Control))
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
	return append(dst, data...)
}

// DecodeDelivery reads what AppendRecord wrote. The delivery's data is a part of
// value, which must not change any more. ErrVersion, ErrKind and ErrRecord say
// what is wrong with bytes that are none.
func DecodeDelivery(value []byte) (*Delivery, error) {
	if err := check(value, kindDelivery); err != nil {
		return nil, err
	}
	size, n := binary.Uvarint(value[3:])
	if n <= 0 || size > MaxInline || size > uint64(len(value)-3-n) {
		return nil, ErrRecord
	}
	end := len(value) - int(size)
	flags := value[2]
	r := reader{rest: string(value[3+n : end])}

	d := &Delivery{
		Reference: flags&flagReference != 0,
		First:     flags&flagFirst != 0,
		Test:      flags&flagTest != 0,
		ID:        r.text(),
		Endpoint:  r.text(),
		Attempts:  r.count(),
		Control:   int64(r.uvarint()),
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
	env := d.Event.Environment
	if r.bad || r.rest != "" || env != event.Sandbox && env != event.Live || d.Reference && size > 0 {
		return nil, ErrRecord
	}
	if !d.Reference {
		d.Event.Data = value[end:len(value):len(value)]
	}
	return d, nil
}

// AppendRecord adds the attempt's bytes to dst.
func (a *Attempt) AppendRecord(dst []byte) []byte {
	dst = append(dst, recordVersion, kindAttempt, flag(a.Test, flagTest))
	dst = appendText(dst, a.Delivery)
	dst = appendText(dst, a.Endpoint)
	dst = appendText(dst, a.EventID)
	dst = binary.AppendUvarint(dst, uint64(a.Number))
	dst = a.Origin.append(dst)
	return a.Outcome.append(dst)
}

// DecodeAttempt reads what AppendRecord wrote. ErrVersion, ErrKind and ErrRecord
// say what is wrong with bytes that are none.
func DecodeAttempt(value []byte) (*Attempt, error) {
	if err := check(value, kindAttempt); err != nil {
		return nil, err
	}
	r := reader{rest: string(value[3:])}
	a := &Attempt{
		Test:     value[2]&flagTest != 0,
		Delivery: r.text(),
		Endpoint: r.text(),
		EventID:  r.text(),
		Number:   r.count(),
		Origin:   r.place(),
		Outcome:  r.outcome(),
	}
	if r.bad || r.rest != "" {
		return nil, ErrRecord
	}
	return a, nil
}

func check(value []byte, kind byte) error {
	switch {
	case len(value) == 0:
		return ErrRecord
	case value[0] != recordVersion:
		return ErrVersion
	case len(value) < 3:
		return ErrRecord
	case value[1] != kind:
		return ErrKind
	}
	return nil
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendVarint(dst, t.UnixNano())
}

func (p Place) append(dst []byte) []byte {
	return binary.AppendVarint(appendText(dst, p.Topic), p.Offset)
}

func (o *Outcome) append(dst []byte) []byte {
	dst = appendText(dst, string(o.Class))
	dst = binary.AppendUvarint(dst, uint64(o.Status))
	dst = appendText(dst, o.Detail)
	dst = appendTime(dst, o.Started)
	dst = binary.AppendVarint(dst, int64(o.Took))
	dst = binary.AppendUvarint(dst, o.Epoch)
	return appendTime(dst, o.RetryAt)
}

// reader takes members off the front of rest. Once something was missing, bad is
// set and every further member is zero. Texts are parts of rest.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = "", true }

func (r *reader) byte() byte {
	if r.rest == "" {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := r.byte()
		if r.bad || shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads a number that fits any int.
func (r *reader) count() int {
	u := r.uvarint()
	if u > 1<<31-1 {
		r.fail()
		return 0
	}
	return int(u)
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) time() time.Time {
	if ns := r.varint(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Time{}
}

func (r *reader) place() Place { return Place{Topic: r.text(), Offset: r.varint()} }

func (r *reader) outcome() Outcome {
	return Outcome{
		Class:   Class(r.text()),
		Status:  r.count(),
		Detail:  r.text(),
		Started: r.time(),
		Took:    time.Duration(r.varint()),
		Epoch:   r.uvarint(),
		RetryAt: r.time(),
	}
}
