package bench

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// sseRow is fanout over server-sent events. An event is as many bytes on the wire as
// there.
var sseRow = fanout{name: "sse", connections: 1000, rate: 100, events: true}.asRow()

// An event without its data, and the rest of that, take 90 bytes; the padding fills
// what is left.
var ssePad = strings.Repeat("x", floorBytes-90)

// listen connects n clients to the stream of events.
func (p *product) listen(n int) (*population, error) {
	clients := newPopulation()
	for range n {
		conn, r, err := dialEvents(p.ws, p.key)
		if err != nil {
			return clients, err
		}
		clients.add(conn, r, nextLine)
	}
	return clients, nil
}

// dialEvents asks for all events, and reads the head of the answer.
func dialEvents(address, token string) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "GET /api/events/stream HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", address, token)
	r := bufio.NewReaderSize(conn, 8<<10)
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("read answer: %w", err)
		}
		if first && !strings.Contains(line, " 200 ") {
			return nil, nil, fmt.Errorf("stream of events: %s", strings.TrimSpace(line))
		}
		if strings.HasPrefix(line, "id: ") { // it stands in the stream
			return conn, r, nil
		}
	}
}

// nextLine reads one line of a stream of events.
func nextLine(r *bufio.Reader) ([]byte, error) { return r.ReadSlice('\n') }
