package stream

import (
	"bytes"
	stdflate "compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAgree(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		offers string
		window uint8
		answer string
	}{
		{"", 0, ""},
		{"x-webkit-deflate-frame, permessage-bzip2", 0, ""},
		{"permessage-deflate", 15, plain},
		{"permessage-deflate; client_max_window_bits", 15, plain}, // browsers
		{" permessage-deflate ;client_max_window_bits = 10 ; server_no_context_takeover;client_no_context_takeover", 15, plain},
		{"foo; bar=1, permessage-deflate", 15, plain},
		{"permessage-deflate; server_max_window_bits=8", 8, plain + "; server_max_window_bits=8"},
		{"permessage-deflate; server_max_window_bits=15", 15, plain + "; server_max_window_bits=15"},
		{`permessage-deflate; server_max_window_bits="10"`, 10, plain + "; server_max_window_bits=10"},
		// The first that can be kept, in the client's order.
		{"permessage-deflate; server_max_window_bits=9, permessage-deflate", 9, plain + "; server_max_window_bits=9"},
		{"permessage-deflate; what, permessage-deflate; server_max_window_bits=12", 12, plain + "; server_max_window_bits=12"},
		// What isn't an offer that can be kept is passed over.
		{"permessage-deflate; server_max_window_bits", 0, ""},
		{"permessage-deflate; server_max_window_bits=7", 0, ""},
		{"permessage-deflate; server_max_window_bits=16", 0, ""},
		{"permessage-deflate; server_max_window_bits=08", 0, ""},
		{`permessage-deflate; server_max_window_bits="9`, 0, ""},
		{"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", 0, ""},
		{"permessage-deflate; client_max_window_bits=", 0, ""},
		{"permessage-deflate; client_max_window_bits=3", 0, ""},
		{"permessage-deflate; server_no_context_takeover=1", 0, ""},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", 0, ""},
		{"permessage-deflate;", 0, ""},
		{"permessage-deflatex", 0, ""},
	} {
		window, answer := agree(tt.offers)
		if window != tt.window || answer != tt.answer {
			t.Errorf("%q: %d %q", tt.offers, window, answer)
		}
	}
}

// pack deflates by another library, and ends as asked for.
func pack(text []byte, final bool) []byte {
	var b bytes.Buffer
	w, _ := stdflate.NewWriter(&b, 6)
	w.Write(text)
	if final {
		w.Close()
		return append(b.Bytes(), 0) // RFC 7692, 7.2.3.4
	}
	w.Flush()
	return b.Bytes()[:b.Len()-4]
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func TestInflate(t *testing.T) {
	const most = 64 << 10
	for name, text := range map[string][]byte{
		"nothing":        {},
		"a word":         []byte("word"),
		"as much as may": bytes.Repeat([]byte("ab"), most/2),
		"as much noise":  noise(most),
	} {
		for _, final := range []bool{false, true} {
			sent := pack(text, final)
			if got, e := inflate(bytes.Clone(sent), most); e != nil || !bytes.Equal(got, text) {
				t.Errorf("%s, last block %v: %d bytes, %+v", name, final, len(got), e)
			}
			if len(sent) > most+most/8 {
				t.Errorf("%s takes %d bytes", name, len(sent))
			}
		}
	}
	word := pack([]byte("word"), true)
	for name, tt := range map[string]struct {
		sent []byte
		want *Ending
	}{
		"one byte too many":                {pack(bytes.Repeat([]byte("a"), most+1), false), &endTooBig},
		"a gigabyte":                       {bytes.Repeat(append(pack(make([]byte, 1<<20), false), flushed...), 1024), &endTooBig},
		"no deflate":                       {[]byte("\x07nonsense"), &endBadDeflate},
		"half":                             {pack(noise(1000), false)[:500], &endBadDeflate},
		"more behind the last block":       {append(word, word...), &endBadDeflate},
		"refers to what was before":        {[]byte{0x4a, 0x04, 0x92, 0x00}, &endBadDeflate},
		"hundred thousand last blocks":     {bytes.Repeat([]byte{0x03, 0x00}, 100_000), &endBadDeflate},
		"hundred thousand empty blocks":    {append(bytes.Repeat([]byte("\x00\x00\x00\xff\xff"), 100_000), 0), nil},
		"nothing at all, not even a block": {nil, &endBadDeflate},
	} {
		if got, e := inflate(tt.sent, most); e != tt.want {
			t.Errorf("%s: %d bytes, %+v", name, len(got), e)
		}
	}
}

// TestDeflated: who inflates finds what the frame had, by another library, and by
// one that remembers no more than it said.
func TestDeflated(t *testing.T) {
	for _, size := range []int{300, 5000, 70_000, 300_000} {
		text := []byte(strings.Repeat(`{"type":"quote.received","quote":{"price":"1.0`+string(rune('a'+size%26))+`"}}`, size/50))
		for _, op := range []byte{opText, opBinary} {
			frame := deflated(wholeFrame(op, text))
			if frame[0] != finBit|rsv1|op || len(frame) >= len(text) {
				t.Fatalf("%d bytes became %d, as %x", len(text), len(frame), frame[0])
			}
			got, err := io.ReadAll(stdflate.NewReader(strings.NewReader(string(payloadOf(frame)) + unsent)))
			if err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes: %v, %d bytes", len(text), err, len(got))
			}
		}
	}
	for _, text := range [][]byte{nil, []byte("short"), noise(2000)} {
		if frame := wholeFrame(opText, text); !bytes.Equal(deflated(frame), frame) {
			t.Errorf("%d bytes of noise were deflated", len(text))
		}
	}
}

// TestWindow: a client with a small window gets what fits into it deflated, for
// nothing there can be too far back, and the rest as it is.
func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		window uint8
		bytes  int
		want   bool
	}{{0, 0, false}, {0, 1, false}, {8, 256, true}, {8, 257, false}, {14, 16 << 10, true}, {14, 16<<10 + 1, false}, {15, 1 << 20, true}} {
		if got := (&conn{window: tt.window}).inflates(tt.bytes); got != tt.want {
			t.Errorf("%d bytes in a window of %d bits: %v", tt.bytes, tt.window, got)
		}
	}
}

func FuzzInflate(f *testing.F) {
	f.Add([]byte("nonsense"), []byte("text"))
	f.Add(pack([]byte("word"), true), []byte{})
	f.Fuzz(func(t *testing.T, sent, text []byte) {
		const most = 4000
		if got, e := inflate(bytes.Clone(sent), most); e == nil && len(got) > most {
			t.Fatalf("%d bytes", len(got))
		}
		if len(text) > most {
			return
		}
		if got, e := inflate(pack(text, false), most); e != nil || !bytes.Equal(got, text) {
			t.Fatalf("%q: %q %+v", text, got, e)
		}
		frame := deflated(wholeFrame(opText, text))
		if frame[0]&rsv1 == 0 {
			return
		}
		if got, e := inflate(bytes.Clone(payloadOf(frame)), most); e != nil || !bytes.Equal(got, text) {
			t.Fatalf("%q: %q %+v", text, got, e)
		}
	})
}

// BenchmarkDeflated is what compression costs an event, for all who inflate together;
// with a compressor for each connection it would be the price of every message.
func BenchmarkDeflated(b *testing.B) {
	for _, size := range []int{300, 1000, 5000} {
		var text []byte
		for i := 0; len(text) < size; i++ {
			text = fmt.Appendf(text, `"m%d":{"price":"%d.%02d","pair":"ETH-USDC","solver":"slv_%x"},`, i, 1700+i, i%100, noise(8 + i)[i:])
		}
		frame := wholeFrame(opText, text[:size])
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				deflated(frame)
			}
			b.ReportMetric(float64(len(deflated(frame)))/float64(len(frame)), "of-its-size")
		})
	}
}
