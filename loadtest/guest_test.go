package loadtest

import (
	"bufio"
	bits "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// guest is a client that speaks as it likes. Errors don't matter to it: who is sent
// away has reached what it came for.
type guest struct {
	host *host
	tcp  *net.TCPConn
	nc   net.Conn // tcp, or TLS on it
	in   *bufio.Reader
	rnd  *rand.Rand
}

// way is how a guest behaves, until it leaves.
type way struct {
	name  string
	stays bool // until it is sent away, or for some seconds
	bare  bool // it begins below TLS
	do    func(g *guest)
}

var ways = []way{
	{"says nothing", false, true, func(g *guest) {}},
	{"says nothing and stays", true, true, func(g *guest) { g.listen() }},
	{"half a request line", false, false, func(g *guest) { g.raw("GET /v1/w") }},
	{"half a handshake", false, false, func(g *guest) { g.raw(handshake[:len(handshake)-20]) }},
	{"half a handshake and stays", true, false, func(g *guest) { g.raw(handshake[:len(handshake)-20]); g.listen() }},
	{"huge headers", false, false, func(g *guest) {
		g.raw(handshake[:len(handshake)-2] + "X-Much: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")
		g.listen()
	}},
	{"garbage", false, false, func(g *guest) {
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(g.rnd.Uint32())
		}
		g.raw(string(b) + "\r\n\r\n")
		g.listen()
	}},
	{"the other protocol", false, true, func(g *guest) {
		text := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		if g.host.tls == nil {
			text = hello
		}
		g.raw(text)
		g.tcp.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		g.listen()
	}},
	{"half a TLS handshake", false, true, func(g *guest) { g.raw(hello[:20+g.rnd.IntN(len(hello)-20)]) }},
	{"half a TLS handshake and stays", true, true, func(g *guest) { g.raw(hello[:40]); g.listen() }},
	{"doesn't wait for the handshake", false, false, func(g *guest) { g.raw(handshake) }},
	{"doesn't authenticate", true, false, func(g *guest) { g.shake(); g.listen() }},
	{"has no key", false, false, func(g *guest) { g.shake(); g.say(0x81, `{"type":"auth","token":"nonsense"}`); g.listen() }},
	{"leaves within a frame", false, false, func(g *guest) { g.join(""); g.raw("\x81\xfe\x01") }},
	{"leaves within a payload", false, false, func(g *guest) { g.join(""); g.raw("\x81\xfe\x01\x00\x01\x02\x03\x04half") }},
	{"leaves within a message", false, false, func(g *guest) { g.join(""); g.say(0x01, `{"type":`) }},
	{"leaves right behind subscribe", false, false, func(g *guest) { g.raw(handshake); g.ask("") }},
	{"leaves right behind a resume", false, false, func(g *guest) { g.raw(handshake); g.ask(g.host.start) }},
	{"leaves during a replay", false, false, func(g *guest) {
		g.join(g.host.start)
		io.CopyN(io.Discard, g.in, int64(g.rnd.IntN(100<<10)))
	}},
	{"doesn't read a replay", false, false, func(g *guest) {
		g.tcp.SetReadBuffer(1 << 10)
		g.join(g.host.start)
		time.Sleep(time.Duration(g.rnd.IntN(100)) * time.Millisecond)
	}},
	{"never reads", true, false, func(g *guest) {
		g.tcp.SetReadBuffer(1 << 10)
		g.join(g.host.start)
		time.Sleep(time.Duration(2+g.rnd.IntN(10)) * time.Second)
	}},
	{"says that nothing more comes", true, false, func(g *guest) { g.join(""); g.tcp.CloseWrite(); g.listen() }},
	{"breaks the protocol", false, false, func(g *guest) {
		g.shake()
		g.raw([]string{"\x81\x01x", "\xc1\x80aaaa", "\x83\x80aaaa", "\x80\x80aaaa", "\x09\x80aaaa"}[g.rnd.IntN(5)])
		g.listen()
	}},
	{"isn't UTF-8", false, false, func(g *guest) { g.shake(); g.say(0x81, "\xff\xfe"); g.listen() }},
	{"pings too much", false, false, func(g *guest) {
		g.join("")
		g.raw(strings.Repeat("\x89\x80aaaa", 1000))
		g.listen()
	}},
	{"says nonsense", false, false, func(g *guest) {
		g.join("")
		for range 5 {
			g.say(0x81, "nonsense")
		}
		g.listen()
	}},
	{"closes", false, false, func(g *guest) { g.join(""); g.say(0x88, "\x03\xe8"); g.listen() }},
	{"closes and goes on", false, false, func(g *guest) { g.join(""); g.say(0x88, "\x03\xe9"); g.raw(strings.Repeat("more", 5000)) }},
	{"half a body", false, false, func(g *guest) { g.raw(g.post(1000) + `{"type":"a.b"`) }},
	{"a body that doesn't come", true, false, func(g *guest) { g.raw(g.post(1000)); g.listen() }},
	{"doesn't read answers", false, false, func(g *guest) { g.raw(strings.Repeat("GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 200)) }},
}

const handshake = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// hello is how a TLS client begins: a record whose end is wanting.
var hello = "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + strings.Repeat("\x07", 120)

func (g *guest) raw(text string) { io.WriteString(g.nc, text) }

func (g *guest) post(length int) string {
	return fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", g.host.key, length)
}

// say sends a frame.
func (g *guest) say(b0 byte, payload string) {
	f := []byte{b0, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		f[1] = 0x80 | 126
		f = bits.BigEndian.AppendUint16(f, uint16(len(payload)))
	}
	f = append(f, 0, 0, 0, 0) // a mask that changes nothing
	g.nc.Write(append(f, payload...))
}

// shake opens a WebSocket.
func (g *guest) shake() {
	g.raw(handshake)
	http.ReadResponse(g.in, nil)
}

// ask authenticates and subscribes; an empty cursor: from now on.
func (g *guest) ask(cursor string) {
	if cursor != "" {
		cursor = `,"cursor":"` + cursor + `"`
	}
	g.say(0x81, `{"type":"auth","token":"`+g.host.key+`"}`)
	g.say(0x81, `{"type":"subscribe","channels":["ugly.*"]`+cursor+`}`)
}

// join does all that it takes to have a stream, and hears that it does.
func (g *guest) join(cursor string) {
	g.shake()
	g.ask(cursor)
	if cursor == "" {
		g.frame()
	}
}

// cursor hears where its stream stands.
func (g *guest) cursor() string {
	_, text, _ := g.frame()
	_, rest, _ := strings.Cut(string(text), `"cursor":"`)
	cursor, _, _ := strings.Cut(rest, `"`)
	return cursor
}

// frame reads one of the server's.
func (g *guest) frame() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(g.in, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(h[1])
	if n == 126 {
		var l [2]byte
		if _, err := io.ReadFull(g.in, l[:]); err != nil {
			return 0, nil, err
		}
		n = int(bits.BigEndian.Uint16(l[:]))
	}
	if n > 126 && h[1] == 127 {
		return 0, nil, errors.New("nothing of ours is so long")
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(g.in, payload)
	return h[0], payload, err
}

// listen hears all that comes, until it is sent away.
func (g *guest) listen() { io.Copy(io.Discard, g.in) }

// leave closes as a program does, or as one that dies.
func (g *guest) leave() {
	if g.rnd.IntN(2) == 0 {
		g.tcp.SetLinger(0) // a reset
	}
	g.tcp.Close()
}
