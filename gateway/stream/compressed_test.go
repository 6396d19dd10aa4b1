package stream_test

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"sluice/gateway/stream"
	"sluice/pkg/event"
)

const (
	handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	offer     = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
)

func compressing(c *stream.Config) { c.Compress = true }

// pack deflates as a client does, without what ends a message.
func pack(text string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	io.WriteString(w, text)
	w.Flush()
	return b.Bytes()[:b.Len()-4]
}

func unpack(t *testing.T, payload []byte) string {
	t.Helper()
	text, err := io.ReadAll(flate.NewReader(strings.NewReader(string(payload) + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	ok(t, err)
	return string(text)
}

// frameOf reads one frame with that first byte.
func (r *raw) frameOf(b0 byte) []byte {
	r.t.Helper()
	got, payload, err := r.frame()
	if err != nil || got != b0 {
		r.t.Fatalf("want %x, got %x %.80q %v", b0, got, payload, err)
	}
	return payload
}

// joined is a client that made that offer, and is subscribed.
func (s *stage) joined(t *testing.T, offer, cursor string) *raw {
	t.Helper()
	r := s.raw(t, handshake+offer)
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	r.join(s, `"rfq.*"`, cursor)
	r.frameOf(0x81)
	r.frameOf(0x81)
	return r
}

func padded(n int) func(*event.Event) {
	return func(ev *event.Event) { ev.Data = []byte(`{"pad":"` + strings.Repeat("ab", n/2) + `"}`) }
}

// TestCompressed: each event is deflated once, for all who offered to inflate, and
// all get the same, whoever inflates.
func TestCompressed(t *testing.T) { carried(t, testCompressed) }

func testCompressed(t *testing.T) {
	s := open(t, compressing)
	plain := s.joined(t, "", "")
	s.publish("rfq.created", padded(1000))
	want := string(plain.frameOf(0x81))
	if n := s.count("sluice_stream_deflated_bytes_total", "before"); n != 0 {
		t.Errorf("%v bytes were deflated for nobody", n)
	}

	var inflating []*raw
	for range 5 {
		inflating = append(inflating, s.joined(t, offer, ""))
	}
	narrow := s.joined(t, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n", "")
	for _, size := range []int{1000, 300, 0, 100_000} {
		s.publish("rfq.created", padded(size))
		want = string(plain.frameOf(0x81))
		first := byte(0xc1)
		if len(want) < 252 {
			first = 0x81 // too short to be worth it
		}
		var frames []string
		for _, r := range inflating {
			frame := r.frameOf(first)
			if first == 0xc1 {
				frames = append(frames, string(frame))
				frame = []byte(unpack(t, frame))
			}
			if string(frame) != want {
				t.Fatalf("inflated %.200q\nwant %.200q", frame, want)
			}
		}
		for _, f := range frames {
			if f != frames[0] || len(f) > len(want)*9/10 {
				t.Errorf("%d and %d bytes for %d", len(f), len(frames[0]), len(want))
			}
		}
		if len(want) > 508 {
			first = 0x81 // more than it remembers
		}
		if got := string(narrow.frameOf(first)); first == 0x81 && got != want || first == 0xc1 && unpack(t, []byte(got)) != want {
			t.Errorf("into a small window %.200q\nwant %.200q", got, want)
		}
	}
	// 1,000, 300 and 100,000, each with its envelope and header.
	if n := s.count("sluice_stream_deflated_bytes_total", "before"); n < 101_300+3*100 || n > 101_300+3*200 {
		t.Errorf("%v bytes were deflated", n)
	}
	if n := s.count("sluice_stream_deflated_bytes_total", "after"); n == 0 || n > 2000 {
		t.Errorf("to %v", n)
	}
	// What was missed comes as it is, and what follows it deflated.
	late := s.joined(t, offer, s.cursor(4))
	if got := string(late.frameOf(0x81)); got != want {
		t.Errorf("replayed %.200q", got)
	}
	s.publish("rfq.created", padded(1000))
	late.frameOf(0xc1)
}

// TestNotCompressed: nobody gets what they didn't ask for, or the operator doesn't
// want.
func TestNotCompressed(t *testing.T) { carried(t, testNotCompressed) }

func testNotCompressed(t *testing.T) {
	for _, tt := range []struct {
		change func(*stream.Config)
		offer  string
		answer string
	}{
		{nil, offer, ""},
		{compressing, "", ""},
		{compressing, "Sec-WebSocket-Extensions: permessage-bzip2\r\n", ""},
		{compressing, offer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{compressing, "Sec-WebSocket-Extensions: foo\r\n" + offer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
	} {
		s := open(t, tt.change)
		r := s.raw(t, handshake+tt.offer)
		if got := r.response().Header.Get("Sec-WebSocket-Extensions"); got != tt.answer {
			t.Errorf("%q: answered with %q", tt.offer, got)
		}
		if tt.answer == "" {
			r.nc.Write(masked(0xc1, pack("x")))
			r.wantClose(1002, false)
		}
	}
}

// TestInflated: clients may deflate what they send, in fragments too, and no other
// way than was agreed on.
func TestInflated(t *testing.T) { carried(t, testInflated) }

func testInflated(t *testing.T) {
	s := open(t, compressing)
	r := s.raw(t, handshake+offer)
	r.response()
	auth := pack(`{"type":"auth","token":"` + s.token + `"}`)
	r.nc.Write(masked(0x41, auth[:10]))
	r.nc.Write(masked(0x89, []byte("between")))
	r.nc.Write(masked(0x00, auth[10:20]))
	r.nc.Write(masked(0x80, auth[20:]))
	r.frameOf(0x8a)
	if got := string(r.frameOf(0x81)); !strings.Contains(got, "auth.ok") {
		t.Fatal(got)
	}
	r.text(`{"type":"ping"}`) // a message may come as it is
	r.frameOf(0x81)
	fits := `{"type":"subscribe","channels":["rfq.*"],"note":"`
	fits += strings.Repeat("é", (64<<10-len(fits)-2)/2) + `"}`
	fits += strings.Repeat(" ", 64<<10-len(fits))
	r.nc.Write(masked(0xc1, pack(fits)))
	if got := string(r.frameOf(0x81)); !strings.Contains(got, "subscribe.ok") {
		t.Fatal(got)
	}

	for _, tt := range []struct {
		name string
		send [][]byte
		code uint16
	}{
		{"one byte more than may be", [][]byte{masked(0xc1, pack(fits+" "))}, 1009},
		{"fifty megabytes", [][]byte{masked(0xc1, bytes.Repeat(append(pack(strings.Repeat("a", 1<<20)), 0, 0, 0xff, 0xff), 50))}, 1009},
		{"more than may be sent", [][]byte{masked(0xc1, bytes.Repeat([]byte{0}, 80<<10))}, 1009},
		{"the same in fragments", [][]byte{masked(0x41, bytes.Repeat([]byte{0}, 40<<10)), masked(0x80, bytes.Repeat([]byte{0}, 40<<10))}, 1009},
		{"no deflate", [][]byte{masked(0xc1, []byte("\x07nonsense"))}, 1007},
		{"no UTF-8 in it", [][]byte{masked(0xc1, pack("\xff"))}, 1007},
		{"RSV1 within a message", [][]byte{masked(0x41, pack("x")), masked(0xc0, nil)}, 1002},
		{"RSV1 behind its first frame only", [][]byte{masked(0x01, nil), masked(0xc0, pack("x"))}, 1002},
		{"RSV1 on a ping", [][]byte{masked(0xc9, nil)}, 1002},
		{"RSV1 on a close", [][]byte{masked(0xc8, nil)}, 1002},
		{"RSV2", [][]byte{masked(0xa1, nil)}, 1002},
		{"RSV1 and RSV3", [][]byte{masked(0xd1, nil)}, 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := s.raw(t, handshake+offer)
			r.response()
			go func() { r.nc.Write(bytes.Join(tt.send, nil)) }()
			r.wantClose(tt.code, false)
		})
	}
}
