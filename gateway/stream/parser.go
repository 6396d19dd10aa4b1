package stream

import (
	"encoding/binary"
	"unicode/utf8"
)

// sink is told what a client's frames say. A method that returns an ending stops
// the parser.
type sink interface {
	// most is how many bytes a message may have that begins, or goes on, now.
	most() int
	// onFrame is called for every whole frame, before what it may complete.
	onFrame() *Ending
	// onMessage gets a whole message, valid UTF-8 if it is text. Its bytes are the
	// sink's.
	onMessage(op byte, msg []byte) *Ending
	// onControl gets a ping, pong or close; code is the close's, 0 when it has none.
	onControl(op byte, payload []byte, code uint16) *Ending
}

// parser takes a client's bytes as they come, in pieces of any size, and finds
// frames and messages in them. It never reads by itself, so that it serves a
// goroutine per connection and an event loop alike. It answers nothing: an
// ending says how the connection is to be closed.
//
// The handshake's library could read frames too, but writes its own answers to
// bad ones past our writer, doesn't look at UTF-8, and takes any number of empty
// fragments.
type parser struct {
	maxFragments int
	inflates     bool // messages may come deflated
	sink         sink

	header [14]byte
	have   int // bytes of header there
	need   int // bytes of header wanted, as far as is known; 0: at the start of a frame

	op      byte
	fin     bool
	mask    [4]byte
	maskPos int
	left    int // payload bytes still to come

	inside    bool // between the first and last fragment of a message
	msgOp     byte
	deflated  bool // as the message came
	msg       []byte
	fragments int
	text      utf8Check
	control   []byte
}

// idle reports whether a new message is what comes next.
func (p *parser) idle() bool { return p.need == 0 && !p.inside }

// feed takes the next bytes, unmasking them in place.
func (p *parser) feed(b []byte) *Ending {
	for len(b) > 0 {
		if p.need == 0 {
			p.need, p.have = 2, 0
		}
		if p.have < p.need {
			n := copy(p.header[p.have:p.need], b)
			p.have += n
			b = b[n:]
			if p.have < p.need {
				return nil
			}
			if p.have == 2 {
				if e := p.begin(); e != nil {
					return e
				}
				continue // need has grown: there is always a mask
			}
			if e := p.measure(); e != nil {
				return e
			}
		}
		n := min(p.left, len(b))
		if !p.take(b[:n]) {
			return &endBadUTF8
		}
		b = b[n:]
		if p.left == 0 {
			if e := p.finish(); e != nil {
				return e
			}
		}
	}
	return nil
}

// begin checks the first two bytes, which say how long the header is.
func (p *parser) begin() *Ending {
	b0, b1 := p.header[0], p.header[1]
	p.op, p.fin = b0&0x0f, b0&finBit != 0
	n := b1 &^ maskBit
	switch {
	case b0&rsvBits != 0 && !(p.inflates && b0&rsvBits == rsv1 && (p.op == opText || p.op == opBinary)):
		return protocolError("RSV bits must be 0, but for RSV1 of a deflated message's first frame where compression was agreed on")
	case b1&maskBit == 0:
		return protocolError("frames from a client must be masked")
	case p.op == opText || p.op == opBinary:
		if p.inside {
			return protocolError("a new message within the fragments of another")
		}
	case p.op == opContinuation:
		if !p.inside {
			return protocolError("a continuation of nothing")
		}
	case p.op == opClose || p.op == opPing || p.op == opPong:
		if !p.fin || n > maxControl {
			return protocolError("a control frame has at most 125 bytes and no fragments")
		}
		if p.op == opClose && n == 1 {
			return protocolError("a close frame has no payload or a code of two bytes")
		}
	default:
		return protocolError("an unknown opcode")
	}
	switch n {
	case 126:
		p.need = 2 + 2 + 4
	case 127:
		p.need = 2 + 8 + 4
	default:
		p.need = 2 + 4
	}
	return nil
}

// measure reads the length and the mask, once the header is whole.
func (p *parser) measure() *Ending {
	n := uint64(p.header[1] &^ maskBit)
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(p.header[2:]))
	case 127:
		n = binary.BigEndian.Uint64(p.header[2:])
		if n>>63 != 0 {
			return protocolError("a length beyond 63 bits")
		}
	}
	copy(p.mask[:], p.header[p.need-4:p.need])
	p.maskPos = 0
	if p.op < opClose {
		if p.op != opContinuation {
			p.msgOp, p.deflated, p.fragments = p.op, p.header[0]&rsv1 != 0, 0
		}
		if n > uint64(p.maxSent()-len(p.msg)) {
			return &endTooBig
		}
		if p.fragments++; p.fragments > p.maxFragments {
			return &endFragments
		}
	}
	p.left = int(n)
	return nil
}

// maxSent bounds a message as it comes. What can't be made shorter may be longer for
// having been deflated, by an eighth at most.
func (p *parser) maxSent() int {
	most := p.sink.most()
	if p.deflated {
		return most + most/8
	}
	return most
}

// take unmasks a part of a payload and adds it to what it belongs to; false: it
// can't be the text that it says it is, whatever comes.
func (p *parser) take(b []byte) bool {
	for i := range b {
		b[i] ^= p.mask[(p.maskPos+i)&3]
	}
	p.maskPos += len(b)
	p.left -= len(b)
	if p.op >= opClose {
		p.control = append(p.control, b...)
		return true
	}
	p.msg = append(p.msg, b...)
	return p.deflated || p.msgOp != opText || p.text.take(b)
}

// finish acts on a whole frame.
func (p *parser) finish() *Ending {
	p.need = 0
	if e := p.sink.onFrame(); e != nil {
		return e
	}
	if p.op >= opClose {
		payload := p.control
		p.control = nil
		return p.finishControl(payload)
	}
	p.inside = !p.fin
	if p.inside {
		return nil
	}
	if !p.text.whole() {
		return &endBadUTF8
	}
	msg := p.msg
	p.msg = nil // an idle connection keeps no buffer
	if p.deflated {
		var e *Ending
		if msg, e = inflate(msg, p.sink.most()); e != nil {
			return e
		}
		if p.msgOp == opText && !utf8.Valid(msg) {
			return &endBadUTF8
		}
	}
	return p.sink.onMessage(p.msgOp, msg)
}

func (p *parser) finishControl(payload []byte) *Ending {
	if p.op != opClose || len(payload) == 0 {
		return p.sink.onControl(p.op, payload, 0)
	}
	code := binary.BigEndian.Uint16(payload)
	if !validCloseCode(code) {
		return protocolError("a close code that must not be sent")
	}
	if !utf8.Valid(payload[2:]) {
		return &endBadUTF8
	}
	return p.sink.onControl(p.op, payload[2:], code)
}

// validCloseCode reports whether a client may send the code (RFC 6455, 7.4, and
// the registry since).
func validCloseCode(code uint16) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1014:
		return code != 1004 && code != 1005 && code != 1006
	}
	return false
}
