package stream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Compression (RFC 7692). Every message is deflated by itself, in both directions:
//
//	handshake ─► agree ─► conn.window
//	entry ─► frame ─► deflated, once ─┬─► who inflates
//	          └───────────────────────┴─► who doesn't, or what is too short, or replayed
//	client ─► parser (RSV1) ─► inflate ─► message
//
// So nothing is kept for a connection but the window that its client inflates with,
// and one deflated frame serves all. A context that went on from message to message
// would be each client's own, to be held and to be compressed for.

const (
	widest        = 15   // the largest window that there is, in bits
	rsv1          = 0x40 // of the first frame of a message: it is deflated
	leastDeflated = 256  // bytes of a frame: of a shorter one next to nothing is saved

	extension    = "permessage-deflate"
	serverWindow = "server_max_window_bits"
	agreed       = extension + "; server_no_context_takeover; client_no_context_takeover"
)

// agree takes the first offer in Sec-WebSocket-Extensions that can be kept, and
// gives the client's window in bits with what is answered there. Without one there
// is no compression, and no answer.
//
// No value that is well-formed has a comma or a semicolon, in quotes or without.
func agree(offers string) (window uint8, answer string) {
	for offer := range strings.SplitSeq(offers, ",") {
		name, params, more := strings.Cut(offer, ";")
		if strings.Trim(name, " \t") != extension {
			continue
		}
		if !more {
			return widest, agreed
		}
		switch bits, ok := readOffer(params); {
		case !ok:
		case bits == 0:
			return widest, agreed
		default:
			return bits, agreed + "; " + serverWindow + "=" + strconv.Itoa(int(bits))
		}
	}
	return 0, ""
}

// readOffer reads the parameters of an offer; 0 bits: it has no wish about ours. One
// that isn't understood can't be kept.
func readOffer(params string) (bits uint8, ok bool) {
	var seen []string
	for param := range strings.SplitSeq(params, ";") {
		name, value, given := strings.Cut(param, "=")
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		if unquoted, err := strconv.Unquote(value); err == nil && value[0] == '"' {
			value = unquoted
		}
		if slices.Contains(seen, name) {
			return 0, false
		}
		seen = append(seen, name)
		switch n := windowBits(value); name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if given {
				return 0, false
			}
		case serverWindow:
			if bits = n; n == 0 {
				return 0, false
			}
		case "client_max_window_bits": // we inflate with the widest
			if given && n == 0 {
				return 0, false
			}
		default:
			return 0, false
		}
	}
	return bits, true
}

// windowBits reads the size of a window; 0: it is none.
func windowBits(text string) uint8 {
	for bits := 8; bits <= widest; bits++ {
		if text == strconv.Itoa(bits) {
			return uint8(bits)
		}
	}
	return 0
}

// inflates reports whether the client can inflate a message of n bytes that was
// deflated for the widest window: in a shorter one than its own nothing refers to
// what it has forgotten.
func (c *conn) inflates(n int) bool {
	return c.window == widest || c.window > 0 && n <= 1<<c.window
}

// flushed is what ends a deflated message, and isn't sent.
const flushed = "\x00\x00\xff\xff"

// deflated gives a frame with its payload deflated; the frame itself where that
// isn't shorter. The compressor has no memory, so there is none to keep.
func deflated(frame []byte) []byte {
	if len(frame) < leastDeflated {
		return frame
	}
	out := writer(make([]byte, maxHeader, maxHeader+len(frame)))
	if flate.StatelessDeflate(&out, payloadOf(frame), false, nil) != nil || !bytes.HasSuffix(out, []byte(flushed)) {
		return frame
	}
	out = out[:len(out)-len(flushed)]
	if len(out)-maxHeader >= len(frame) {
		return frame
	}
	return sealFrame(slices.Clip(out), rsv1|frame[0]&0x0f)
}

// writer appends what is written to it.
type writer []byte

func (w *writer) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}

// inflater is what one message is inflated with.
type inflater struct {
	from bytes.Reader
	to   io.ReadCloser
}

// inflaters that nobody uses: one is needed while a message is inflated only.
var inflaters = sync.Pool{New: func() any {
	z := new(inflater)
	z.to = flate.NewReader(&z.from)
	return z
}}

// unsent is what stands behind every deflated message: what its sender left out, and
// a last block, which is empty.
const unsent = flushed + "\x01" + flushed

// inflate gives the message that was sent deflated. Nothing is inflated beyond most
// bytes, however little they were sent as.
func inflate(sent []byte, most int) ([]byte, *Ending) {
	z := inflaters.Get().(*inflater)
	defer inflaters.Put(z)
	z.from.Reset(append(sent, unsent...))
	defer z.from.Reset(nil)
	if err := z.to.(flate.Resetter).Reset(&z.from, nil); err != nil {
		return nil, &endBadDeflate
	}
	msg := make([]byte, 0, min(4*len(sent)+64, most+1))
	for {
		n, err := z.to.Read(msg[len(msg):cap(msg)])
		msg = msg[:len(msg)+n]
		switch {
		case len(msg) > most:
			return nil, &endTooBig
		case errors.Is(err, io.EOF):
			// A last block of the sender's own has one byte behind it.
			if z.from.Len() > len(unsent)+1 {
				return nil, &endBadDeflate
			}
			return msg, nil
		case err != nil:
			return nil, &endBadDeflate
		case len(msg) == cap(msg):
			msg = slices.Grow(msg, min(len(msg), most+1-len(msg)))
		}
	}
}
