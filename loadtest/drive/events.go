package drive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/loadtest/ledger"
)

// eventsConn is a stream of server-sent events.
type eventsConn struct {
	net.Conn
	*follower
	lines    *bufio.Scanner
	deadline time.Time

	id, typ string
	data    []byte
}

// mostLine bounds a line: an event's data, at most.
const mostLine = 1 << 20

// dialEvents asks for events, and reads the head of the answer. The connection is its
// own: a transport would have two goroutines beside each.
func (f *follower) dialEvents(ctx context.Context) (conn, error) {
	r := f.of.run
	u, err := url.Parse(r.Stream + "/api/events/stream?types=" + strings.Join(r.marks.patterns(f.of.Publishers), ","))
	if err != nil {
		return nil, err
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	nc, err := f.dialTCP(ctx, "tcp", address)
	if err != nil {
		return nil, cause(err)
	}
	if u.Scheme == "https" {
		nc = tls.Client(nc, &tls.Config{ServerName: u.Hostname()})
	}
	nc.SetDeadline(time.Now().Add(answerWithin))
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Accept": {"*/*"}, "Authorization": {"Bearer " + r.Keys[f.org]}}}
	if f.cursor != "" {
		req.Header.Set("Last-Event-ID", f.cursor)
	}
	in := bufio.NewReaderSize(nc, 4<<10)
	err = req.Write(nc)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(in, req)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = f.answered(resp)
	}
	if err != nil {
		nc.Close()
		return nil, cause(err)
	}
	nc.SetDeadline(time.Time{})
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), mostLine)
	return &eventsConn{Conn: nc, follower: f, lines: lines}, nil
}

// read reads up to the end of one event.
func (c *eventsConn) read() error {
	if now := time.Now(); c.deadline.Sub(now) < silence-5*time.Second {
		c.deadline = now.Add(silence)
		c.SetReadDeadline(c.deadline)
	}
	c.typ, c.data = "", c.data[:0]
	id := ""
	for c.lines.Scan() {
		line := c.lines.Bytes()
		if len(line) == 0 {
			return c.dispatch(id)
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "id":
			id = string(value)
		case "event":
			c.typ = string(value)
		case "data":
			c.data = append(c.data, value...)
		}
	}
	if err := c.lines.Err(); err != nil {
		return fmt.Errorf("the connection broke: %w", cause(err))
	}
	return errors.New("the stream ended")
}

func (c *eventsConn) dispatch(id string) error {
	if id != "" && c.stream == nil || id != "" && c.id == "" {
		if err := c.begin(id); err != nil {
			return err
		}
	}
	if id != "" {
		c.id = id
	}
	if c.typ == "" {
		if id == "" { // a sign of life
			return nil
		}
		return c.moved(id)
	}
	number, err := c.of.run.marks.data([]byte(c.typ), c.data)
	switch {
	case err == nil:
		return c.took(number, id)
	case errors.Is(err, errAltered):
		c.strange(ledger.Altered, number, c.data)
		return nil
	}
	switch c.typ {
	case "going_away":
		return c.moved(id)
	case "cursor_expired", "invalid_cursor", "unauthorized":
		var m message
		if err := json.Unmarshal(c.data, &m); err != nil {
			return fmt.Errorf("a message can't be read: %w", err)
		}
		if err := c.refused(c.typ, m.Message); err != nil {
			return err
		}
		return c.moved(id)
	}
	c.strange(ledger.Unwanted, -1, c.data)
	return c.moved(id)
}
