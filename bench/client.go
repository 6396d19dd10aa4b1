package bench

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// population is a number of connections that count the events they get. It
// parses only what it must, so that the load doesn't crowd out what is measured.
type population struct {
	conns   []net.Conn
	readers sync.WaitGroup
	events  atomic.Int64
	owed    int64      // events that it is to have had
	latency *latencies // of each tenth connection
}

func newPopulation() *population { return &population{latency: newLatencies()} }

// add counts what comes over the connection until it ends.
func (p *population) add(conn net.Conn, r *bufio.Reader, next func(*bufio.Reader) ([]byte, error)) {
	observed := len(p.conns)%10 == 0
	p.conns = append(p.conns, conn)
	p.readers.Go(func() {
		for {
			frame, err := next(r)
			if err != nil {
				return
			}
			if !bytes.Contains(frame, sentMark) {
				continue
			}
			p.events.Add(1)
			if observed {
				p.latency.observe(frame)
			}
		}
	})
}

// missing tells how many events didn't come; less than none: some came twice.
func (p *population) missing() int64 { return p.owed - p.events.Load() }

// narrow has the kernel hold little of what comes and isn't read.
func (p *population) narrow() {
	for _, c := range p.conns {
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
}

// stall has nobody read any more. The connections stay open.
func (p *population) stall() {
	for _, c := range p.conns {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	p.readers.Wait()
}

func (p *population) close() {
	for _, c := range p.conns {
		c.Close()
	}
	p.readers.Wait()
}

// await waits until n events have come, for ten seconds at most.
func (p *population) await(n int64) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if p.events.Load() >= n {
			return nil
		}
	}
	return fmt.Errorf("%d of %d events came", p.events.Load(), n)
}

// handshake is a client's, for a host, with more lines.
const handshake = "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"

// dialWebSocket connects, authenticates and subscribes to everything.
func dialWebSocket(address, token string) (net.Conn, *bufio.Reader, error) {
	return dialSubscribe(address, token, `{"type":"subscribe","channels":["*"]}`)
}

// dialSubscribe connects, authenticates and sends a subscribe, and returns behind
// its answer. headers are whole lines of the handshake.
func dialSubscribe(address, token, subscribe string, headers ...string) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, handshake, address, strings.Join(headers, ""))
	r := bufio.NewReaderSize(conn, 8<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("read handshake: %w", err)
		}
		if line == "\r\n" {
			break
		}
	}
	conn.Write(maskedText(`{"type":"auth","token":"` + token + `"}`))
	conn.Write(maskedText(subscribe))
	for {
		frame, err := nextFrame(r)
		if err != nil {
			return nil, nil, fmt.Errorf("read answer to subscribe: %w", err)
		}
		switch {
		case bytes.Contains(frame, []byte(`"subscribe.ok"`)):
			return conn, r, nil
		case bytes.Contains(frame, []byte(`"error"`)):
			return nil, nil, fmt.Errorf("subscribe: %s", frame)
		}
	}
}

// maskedText makes a client's text frame; a mask of zeros leaves the text as it is.
func maskedText(text string) []byte {
	frame := []byte{0x81, 0x80 | byte(len(text))}
	if len(text) > 125 {
		frame = binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	}
	return append(append(frame, 0, 0, 0, 0), text...)
}

// nextFrame reads one frame of a server and returns its payload, valid until the next call.
func nextFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	size, header := int(head[1]&0x7f), 2
	if size == 126 {
		if head, err = r.Peek(4); err != nil {
			return nil, err
		}
		size, header = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	if size == 127 || size+header > r.Size() {
		return nil, fmt.Errorf("frame of %d bytes", size)
	}
	frame, err := r.Peek(header + size)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(header + size)
	return frame[header:], err
}

// offerDeflate is the header line of who inflates.
const offerDeflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

// nextDeflated is nextFrame for who inflates. Only where it is to look is anything
// inflated; else whatever came deflated is taken for an event, as nothing else does.
func nextDeflated(look bool) func(*bufio.Reader) ([]byte, error) {
	return func(r *bufio.Reader) ([]byte, error) {
		head, err := r.Peek(1)
		if err != nil {
			return nil, err
		}
		deflated := head[0]&0x40 != 0
		frame, err := nextFrame(r)
		switch {
		case err != nil || !deflated:
			return frame, err
		case !look:
			return sentMark, nil
		}
		return io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(frame), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	}
}

// nextFixed reads messages of a fixed size, as the floor writes them.
func nextFixed(size int) func(*bufio.Reader) ([]byte, error) {
	return func(r *bufio.Reader) ([]byte, error) {
		frame, err := r.Peek(size)
		if err != nil {
			return nil, io.EOF
		}
		_, err = r.Discard(size)
		return frame, err
	}
}
