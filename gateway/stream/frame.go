package stream

import "encoding/binary"

// A frame that goes out (RFC 6455, 5.2), never masked and never in fragments, so
// that one encoding serves every receiver, and a second, deflated (deflate.go), all
// who inflate:
//
//	 0          1                 2 … 10
//	┌──────────┬─────────────────┬────────────────┬─ ─ ─ ─ ─
//	│ 80 | op  │ n, 126 or 127   │ 0, 2 or 8 bytes│ payload
//	└──────────┴─────────────────┴────────────────┴─ ─ ─ ─ ─
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	finBit     = 0x80
	rsvBits    = 0x70
	maskBit    = 0x80
	maxHeader  = 10
	maxControl = 125 // payload of a control frame
)

// textFrame builds a text frame around what payload appends; nil when it
// appends nothing. hint is about how much that will be.
func textFrame(hint int, payload func(dst []byte) []byte) []byte {
	buf := payload(make([]byte, maxHeader, maxHeader+hint))
	if len(buf) == maxHeader {
		return nil
	}
	return sealFrame(buf, opText)
}

// wholeFrame builds a frame of a whole message, or a control frame.
func wholeFrame(op byte, payload []byte) []byte {
	buf := make([]byte, maxHeader, maxHeader+len(payload))
	return sealFrame(append(buf, payload...), op)
}

// closeFrame builds a close frame; code 0 stands for one without a status.
func closeFrame(code uint16, reason string) []byte {
	if code == 0 {
		return wholeFrame(opClose, nil)
	}
	payload := binary.BigEndian.AppendUint16(nil, code)
	return wholeFrame(opClose, append(payload, reason...))
}

// sealFrame writes the header into the maxHeader bytes kept free before the
// payload, and returns the frame, which begins where its header does.
func sealFrame(buf []byte, op byte) []byte {
	n := len(buf) - maxHeader
	var at int
	switch {
	case n <= 125:
		at = maxHeader - 2
		buf[at+1] = byte(n)
	case n < 1<<16:
		at = maxHeader - 4
		buf[at+1] = 126
		binary.BigEndian.PutUint16(buf[at+2:], uint16(n))
	default:
		at = maxHeader - 10
		buf[at+1] = 127
		binary.BigEndian.PutUint64(buf[at+2:], uint64(n))
	}
	buf[at] = finBit | op
	return buf[at:]
}

// payloadOf gives what a frame of ours carries.
func payloadOf(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}
