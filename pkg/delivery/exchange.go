package delivery

import (
	"encoding/binary"
	"time"

	"sluice/pkg/event"
)

// MaxAnswer is the most of an answer's body that an attempt's record keeps, in
// bytes.
const MaxAnswer = 16 << 10

// Exchange is what went over the wire in an attempt, for people who look into
// it. Nothing is decided by it.
type Exchange struct {
	// Headers are the request's, as lines that each end with CR LF; nil: none were
	// sent. They have signatures, which show nobody a secret, and none of the values
	// that the endpoint's owner chose.
	Headers []byte
	// Answer is the beginning of the answer's body.
	Answer []byte
	Timing Timing
}

// Timing says where an attempt's time went. What didn't happen took no time.
type Timing struct {
	DNS       time.Duration // looking up the host's name
	Connect   time.Duration
	TLS       time.Duration // the handshake
	FirstByte time.Duration // from the request's last byte to the answer's first
	Total     time.Duration // until all of the answer was read that is; 0: not measured
	Reused    bool          // the connection was there already
}

// Next says where a delivery went after an attempt.
type Next struct {
	Topic string    // a tier, held or dead; empty: nowhere, it is settled
	Due   time.Time // of its next attempt; zero: not set
}

// What an attempt's record says beside the outcome: members of more, all of the
// record but the last.
//
//	event     env z(offset) type
//	next      due topic
//	timing    n(1: reused) n(dns) n(connect) n(tls) n(first byte) n(total), µs
//	headers   bytes
//	answer    bytes
//	by hand   a flag
//	replay    id: of deliveries, too, and of all their hops
//
// A later release may add to a member behind what is known of it.
const (
	tagEvent   = 4
	tagNext    = 6
	tagTiming  = 8
	tagHeaders = 10
	tagAnswer  = 12
	tagByHand  = 14 // of deliveries, too
	tagReplay  = 15
)

// appendMore adds the attempt's members as they stand in more, with their length.
func (a *Attempt) appendMore(dst []byte) []byte {
	var length [binary.MaxVarintLen64]byte
	at := len(dst)
	dst = a.appendMembers(dst)
	n := len(dst) - at
	head := binary.AppendUvarint(length[:0], uint64(n))
	dst = append(dst, head...)
	copy(dst[at+len(head):], dst[at:at+n])
	copy(dst[at:], head)
	return dst
}

func (a *Attempt) appendMembers(dst []byte) []byte {
	var room [128 + 6*binary.MaxVarintLen64]byte
	member := func(tag byte, value []byte) {
		dst = binary.AppendUvarint(append(dst, tag), uint64(len(value)))
		dst = append(dst, value...)
	}
	if a.Type != "" {
		v := binary.AppendVarint(append(room[:0], byte(a.Environment)), a.EventOffset)
		member(tagEvent, append(v, a.Type...))
	}
	if a.Next != (Next{}) {
		member(tagNext, append(appendTime(room[:0], a.Next.Due), a.Next.Topic...))
	}
	if t := &a.Exchange.Timing; *t != (Timing{}) {
		v := binary.AppendUvarint(room[:0], flag(t.Reused, 1))
		for _, d := range [...]time.Duration{t.DNS, t.Connect, t.TLS, t.FirstByte, t.Total} {
			v = binary.AppendUvarint(v, uint64(max(0, d.Microseconds())))
		}
		member(tagTiming, v)
	}
	if len(a.Exchange.Headers) > 0 {
		member(tagHeaders, a.Exchange.Headers)
	}
	if len(a.Exchange.Answer) > 0 {
		member(tagAnswer, a.Exchange.Answer[:min(len(a.Exchange.Answer), MaxAnswer)])
	}
	if a.ByHand {
		member(tagByHand, nil)
	}
	if a.Replay != "" {
		dst = appendText(append(dst, tagReplay), a.Replay)
	}
	return append(dst, a.more...)
}

// hasMore reports whether appendMore has something to add.
func (a *Attempt) hasMore() bool {
	return a.more != "" || a.Type != "" || a.ByHand || a.Replay != "" || a.Next != Next{} || a.Exchange.Timing != Timing{} ||
		len(a.Exchange.Headers) > 0 || len(a.Exchange.Answer) > 0
}

// takeMore reads the attempt's members, with which body ends, and keeps those that
// aren't known. It reports false if one that is known can't be read.
func (a *Attempt) takeMore(more string, body []byte) bool {
	for r := (reader{rest: more}); r.rest != ""; {
		before := r.rest
		tag, value := r.member()
		v := reader{rest: value}
		switch tag {
		case tagEvent:
			a.Environment, a.EventOffset = event.Environment(v.byte()), v.varint()
			a.Type = v.rest
			if a.Type == "" {
				return false
			}
		case tagNext:
			a.Next = Next{Due: v.time(), Topic: v.rest}
		case tagTiming:
			t := Timing{Reused: v.uvarint()&1 != 0}
			for _, d := range [...]*time.Duration{&t.DNS, &t.Connect, &t.TLS, &t.FirstByte, &t.Total} {
				*d = time.Duration(v.uvarint()&(1<<50-1)) * time.Microsecond
			}
			a.Exchange.Timing = t
		case tagHeaders, tagAnswer:
			end := len(body) - len(r.rest)
			if bytes := body[end-len(value) : end : end]; tag == tagHeaders {
				a.Exchange.Headers = bytes
			} else {
				a.Exchange.Answer = bytes[:min(len(bytes), MaxAnswer)]
			}
		case tagByHand:
			a.ByHand = true
		case tagReplay:
			a.Replay = value
		default:
			a.more += before[:len(before)-len(r.rest)]
		}
		if v.bad {
			return false
		}
	}
	return true
}
