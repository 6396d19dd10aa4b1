package stream_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
)

// raw is a client that can do everything wrong.
type raw struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

func (s *stage) raw(t *testing.T, header string, behind ...byte) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	ok(t, err)
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	if header == "" {
		header = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	_, err = nc.Write(append([]byte("GET /v1/ws HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"), behind...))
	ok(t, err)
	return &raw{t, nc, bufio.NewReader(nc)}
}

func (r *raw) response() *http.Response {
	r.t.Helper()
	resp, err := http.ReadResponse(r.br, nil)
	ok(r.t, err)
	return resp
}

// masked builds a client's frame.
func masked(b0 byte, payload []byte) []byte {
	f := []byte{b0}
	switch n := len(payload); {
	case n <= 125:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	f = append(f, key[:]...)
	for i, b := range payload {
		f = append(f, b^key[i&3])
	}
	return f
}

// frame reads one frame of the server's.
func (r *raw) frame() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(r.br, h[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var l [2]byte
		_, err = io.ReadFull(r.br, l[:])
		n = uint64(binary.BigEndian.Uint16(l[:]))
	case 127:
		var l [8]byte
		_, err = io.ReadFull(r.br, l[:])
		n = binary.BigEndian.Uint64(l[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r.br, payload)
	return h[0], payload, err
}

// wantClose reads up to the close frame, and then the end of the connection.
func (r *raw) wantClose(code uint16, leaving bool) {
	r.t.Helper()
	for {
		op, payload, err := r.frame()
		if err != nil {
			r.t.Fatalf("want close %d, got %v", code, err)
		}
		if op != 0x88 {
			continue
		}
		got := uint16(0)
		if len(payload) >= 2 {
			got = binary.BigEndian.Uint16(payload)
		}
		if got != code {
			r.t.Fatalf("want close %d, got %d %s", code, got, payload)
		}
		if !leaving {
			r.nc.Write(masked(0x88, payload))
		}
		if _, _, err := r.frame(); !errors.Is(err, io.EOF) {
			r.t.Errorf("behind the close frame: %v", err)
		}
		return
	}
}

func TestCloseCodes(t *testing.T) { carried(t, testCloseCodes) }

func testCloseCodes(t *testing.T) {
	s := open(t, nil)
	text := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	euro := []byte("€")
	for _, tt := range []struct {
		name string
		send [][]byte
		code uint16
	}{
		{"a client that leaves", [][]byte{masked(0x88, []byte{3, 232})}, 1000},
		{"a client that leaves without a code", [][]byte{masked(0x88, nil)}, 0},
		{"its own code", [][]byte{masked(0x88, []byte("\x0f\xa0bye"))}, 4000},
		{"a text of 64 KiB and one", [][]byte{masked(0x81, text(64<<10+1))}, 1009},
		{"the same in fragments", [][]byte{masked(0x01, text(40<<10)), masked(0x00, text(40<<10))}, 1009},
		{"a length that nobody sends", [][]byte{{0x81, 0xff, 0x7f, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}}, 1009},
		{"a length beyond 63 bits", [][]byte{{0x81, 0xff, 0x80, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}}, 1002},
		{"a binary of that size", [][]byte{masked(0x82, text(64<<10+1))}, 1009},
		{"invalid UTF-8", [][]byte{masked(0x81, []byte("\xff\xfe"))}, 1007},
		{"invalid UTF-8 over fragments", [][]byte{masked(0x01, euro[:1]), masked(0x80, []byte("x"))}, 1007},
		{"invalid UTF-8 whose message goes on", [][]byte{{0x01, 0x88, 0, 0, 0, 0, 0xf4, 0x90}}, 1007},
		{"UTF-8 that ends too soon", [][]byte{masked(0x81, euro[:2])}, 1007},
		{"invalid UTF-8 in a close frame", [][]byte{masked(0x88, []byte("\x03\xe8\xff"))}, 1007},
		{"unmasked", [][]byte{{0x81, 1, 'x'}}, 1002},
		{"RSV1", [][]byte{masked(0xc1, text(1))}, 1002},
		{"opcode 3", [][]byte{masked(0x83, text(1))}, 1002},
		{"opcode 11", [][]byte{masked(0x8b, text(1))}, 1002},
		{"a long ping", [][]byte{masked(0x89, text(126))}, 1002},
		{"a ping in fragments", [][]byte{masked(0x09, text(1))}, 1002},
		{"a continuation of nothing", [][]byte{masked(0x80, text(1))}, 1002},
		{"a text within a text", [][]byte{masked(0x01, text(1)), masked(0x81, text(1))}, 1002},
		{"a close of one byte", [][]byte{masked(0x88, []byte{3})}, 1002},
		{"a close with 1005", [][]byte{masked(0x88, []byte{3, 237})}, 1002},
		{"a close with 999", [][]byte{masked(0x88, []byte{3, 231})}, 1002},
		{"five bad messages", [][]byte{
			masked(0x81, []byte("[]")), masked(0x82, text(1)), masked(0x81, []byte(`{"type":"what"}`)),
			masked(0x81, nil), masked(0x81, []byte(`{"type":7}`)),
		}, 4400},
		{"200,000 empty fragments", [][]byte{masked(0x01, nil), bytes.Repeat(masked(0x00, nil), 200_000)}, 1008},
		{"a flood of pings", [][]byte{bytes.Repeat(masked(0x89, nil), 2000)}, 1008},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := s.raw(t, "")
			r.response()
			go func() {
				for _, f := range tt.send {
					for _, part := range [][]byte{f[:len(f)/2], f[len(f)/2:]} {
						r.nc.Write(part)
						time.Sleep(time.Millisecond)
					}
				}
			}()
			r.wantClose(tt.code, tt.send[0][0] == 0x88)
		})
	}
}

// TestFragments: a message has so many at most, however slowly they come.
func TestFragments(t *testing.T) { carried(t, testFragments) }

func testFragments(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Rate = 1e9 })
	r := s.raw(t, "")
	r.response()
	r.nc.Write(append(masked(0x01, nil), bytes.Repeat(masked(0x00, nil), 1023)...))
	r.nc.Write(masked(0x89, nil))
	if op, _, err := r.frame(); err != nil || op != 0x8a {
		t.Fatalf("%x %v", op, err)
	}
	r.nc.Write(masked(0x00, nil))
	r.wantClose(1009, false)
}

// TestFrames holds what isn't wrong.
func TestFrames(t *testing.T) { carried(t, testFrames) }

func testFrames(t *testing.T) {
	s := open(t, nil)
	auth := masked(0x81, []byte(`{"type":"auth","token":"`+s.token+`"}`))
	subscribe := []byte(`{"type":"subscribe","channels":["rfq.*"],"note":"` + strings.Repeat("€", 20_000) + `"}`)
	// Pipelined behind the handshake, in fragments that cut a character, with a ping between.
	sent := auth
	sent = append(sent, masked(0x01, subscribe[:1002])...)
	sent = append(sent, masked(0x89, []byte("hello"))...)
	sent = append(sent, masked(0x00, nil)...)
	sent = append(sent, masked(0x80, subscribe[1002:])...)
	r := s.raw(t, "", sent...)
	if resp := r.response(); resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v", resp)
	}
	for _, want := range []string{"\x81" + `{"type":"auth.ok"`, "\x8ahello", "\x81" + `{"type":"subscribe.ok"`} {
		op, payload, err := r.frame()
		if got := string(op) + string(payload); err != nil || !strings.HasPrefix(string([]byte{op})+string(payload), want) {
			t.Fatalf("want %q, got %.60q %v", want, got, err)
		}
	}
	for _, size := range []int{0, 60, 200, 70_000, 200_000} {
		s.publish("rfq.created", func(ev *event.Event) {
			ev.Data = []byte(`{"pad":"` + strings.Repeat("x", size) + `"}`)
		})
		op, payload, err := r.frame()
		if err != nil || op != 0x81 || !bytes.Contains(payload, bytes.Repeat([]byte("x"), size)) || payload[len(payload)-1] != '}' {
			t.Fatalf("an event of %d: %x %.60s %v", size, op, payload, err)
		}
	}
}

func TestHandshakes(t *testing.T) { carried(t, testHandshakes) }

func testHandshakes(t *testing.T) {
	s := open(t, nil)
	const up, v, k = "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, tt := range []struct {
		header string
		status int
	}{
		{"X: y\r\n", 426},
		{up + k, 426},
		{up + k + "Sec-WebSocket-Version: 12\r\n", 426},
		{up + v, 400},
		{up + v + "Sec-WebSocket-Key: short\r\n", 400},
		{up + v + k, 101},
		{up + v + k + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 101},
	} {
		resp := s.raw(t, tt.header).response()
		if resp.StatusCode != tt.status {
			t.Errorf("%q: %d", tt.header, resp.StatusCode)
		}
		if tt.status == 426 && resp.Header.Get("Upgrade")+resp.Header.Get("Sec-WebSocket-Version") == "" {
			t.Errorf("%q: says not what it wants", tt.header)
		}
		if resp.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%q: agreed on an extension", tt.header)
		}
	}
}

// TestNoUpgrade: only a GET of HTTP/1.1 becomes a WebSocket.
func TestNoUpgrade(t *testing.T) {
	s := open(t, nil)
	for _, line := range []string{"HEAD /v1/ws HTTP/1.1", "POST /v1/ws HTTP/1.1", "GET /v1/ws HTTP/1.0"} {
		nc, err := net.Dial("tcp", s.addr)
		ok(t, err)
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(nc, "%s\r\nHost: x\r\nContent-Length: 0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", line)
		b := make([]byte, 1<<10)
		n, err := nc.Read(b)
		ok(t, err)
		if !bytes.Contains(b[:n], []byte(" 426 ")) {
			t.Errorf("%s: %.40q", line, b[:n])
		}
	}
}

func TestRate(t *testing.T) { carried(t, testRate) }

func testRate(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Rate = 1 }) // however long the test takes to say all that
	c := s.join(`"rfq.*"`)
	for range 250 {
		c.say(`{"type":"ping"}`)
	}
	pongs, refused := 0, 0
	for range 250 {
		m, err := c.hear()
		switch {
		case err == nil && m.Type == "pong":
			pongs++
		case err == nil && m.Code == "rate_limited":
			refused++
		default:
			t.Fatalf("%s %v", m.text, err)
		}
	}
	if pongs < 190 || refused == 0 {
		t.Errorf("%d done, %d refused", pongs, refused)
	}
	n := s.publish("rfq.created")
	c.wantN(n)
}

// TestUnreadAnswers sends and never reads: it isn't read from any more, and
// costs a bounded memory.
func TestUnreadAnswers(t *testing.T) { carried(t, testUnreadAnswers) }

func testUnreadAnswers(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Rate, c.Limits.SendBuffer = 1e9, 4<<10 })
	r := s.raw(t, "", masked(0x81, []byte(`{"type":"auth","token":"`+s.token+`"}`))...)
	r.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	r.response()
	channels := list("rfq.*")
	msg := masked(0x81, []byte(`{"type":"unsubscribe","channels":[`+channels+strings.Repeat(","+channels, 99)+`]}`))
	const most = 16 << 20 // the sockets hold less
	sent := 0
	for ; sent < most; sent += len(msg) {
		r.nc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := r.nc.Write(msg); err != nil {
			break
		}
	}
	if sent >= most {
		t.Error("all of it was read")
	}
	t.Logf("%d bytes taken", sent)
}

func BenchmarkFanOut(b *testing.B) {
	const conns = 1000
	s := open(b, func(c *stream.Config) { c.Limits.QueueEvents = 1 << 20; c.Limits.QueueBytes = 1 << 30 })
	clients := make([]*client, conns)
	for i := range clients {
		clients[i] = s.join(`"rfq.*"`)
	}
	done := make(chan error, conns)
	b.ResetTimer()
	for _, c := range clients {
		go func() {
			for range b.N {
				if _, _, err := c.ws.Read(context.Background()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	// What is timed is the whole way: append, tail, shards, writers, and the clients
	// in the same process.
	for n := 0; n < b.N; n += 64 {
		s.publishAll(min(64, b.N-n), "rfq.created")
	}
	for range clients {
		ok(b, <-done)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)*conns/b.Elapsed().Seconds(), "msgs/s")
	for _, c := range clients {
		c.ws.CloseNow()
	}
}
