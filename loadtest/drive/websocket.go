package drive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"sluice/loadtest/ledger"
)

// webSocketConn is a connection to /v1/ws.
type webSocketConn struct {
	*websocket.Conn
	*follower
	text     bytes.Buffer
	deadline time.Time
}

var writeBuffers sync.Pool

// dialWebSocket connects, authenticates and subscribes. What the server makes of it
// is read.
func (f *follower) dialWebSocket(ctx context.Context) (conn, error) {
	r := f.of.run
	d := websocket.Dialer{HandshakeTimeout: answerWithin, ReadBufferSize: 4 << 10, WriteBufferPool: &writeBuffers, NetDialContext: f.dialTCP}
	c, resp, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(r.Stream, "http")+"/v1/ws", nil)
	if err != nil {
		if resp != nil {
			return nil, f.answered(resp)
		}
		return nil, cause(err)
	}
	subscribe := map[string]any{"type": "subscribe", "channels": r.marks.patterns(f.of.Publishers)}
	if f.cursor != "" {
		subscribe["cursor"] = f.cursor
	}
	if f.of.OnSlow == "resume" {
		subscribe["onSlow"] = "resume"
	}
	w := &webSocketConn{Conn: c, follower: f}
	// Both at once: the server takes messages in order.
	if err := errors.Join(w.say(map[string]any{"type": "auth", "token": r.Keys[f.org]}), w.say(subscribe)); err != nil {
		c.Close()
		return nil, fmt.Errorf("subscribe: %w", cause(err))
	}
	return w, nil
}

// say writes a message; who doesn't take it in time has broken the connection.
func (c *webSocketConn) say(message map[string]any) error {
	c.SetWriteDeadline(time.Now().Add(answerWithin))
	return c.WriteJSON(message)
}

// stalledBytes are what the system may keep of what a client that stalls doesn't read:
// else it would be long until the server could know. With much less, a client that
// reads again would get a few kilobytes at a time.
const stalledBytes = 64 << 10

// dialTCP connects.
func (f *follower) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := (&net.Dialer{Timeout: answerWithin}).DialContext(ctx, network, address)
	if err != nil || f.manner != stalled {
		return nc, err
	}
	if err := nc.(*net.TCPConn).SetReadBuffer(stalledBytes); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// answered is the error of an answer that is no stream. One that another try won't
// mend ends the run.
func (f *follower) answered(resp *http.Response) error {
	resp.Body.Close()
	err := fmt.Errorf("a stream was refused with %s", resp.Status)
	if resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests {
		f.of.run.fail(fmt.Errorf("streams %s: %w", f.of.Name, err))
	}
	return err
}

// cause is an error without the addresses in it, of which there are as many as
// connections.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// silence is how long a server may say nothing: it pings every 30 s.
const silence = 90 * time.Second

func (c *webSocketConn) read() error {
	if now := time.Now(); c.deadline.Sub(now) < silence-5*time.Second {
		c.deadline = now.Add(silence)
		c.SetReadDeadline(c.deadline)
	}
	_, in, err := c.NextReader()
	if err == nil {
		c.text.Reset()
		_, err = c.text.ReadFrom(in)
	}
	if err != nil {
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			return fmt.Errorf("closed with %d", closed.Code)
		}
		return fmt.Errorf("the connection broke: %w", cause(err))
	}
	number, cursor, err := c.of.run.marks.event(c.text.Bytes())
	switch {
	case err == nil:
		return c.took(number, cursor)
	case errors.Is(err, errAltered):
		c.strange(ledger.Altered, number, c.text.Bytes())
		return nil
	}
	return c.hear(c.text.Bytes())
}

// message is what a server says that isn't an event of the run. Only events have an
// id.
type message struct {
	Type, ID, Cursor, Code, Message string
	Count, Missed                   int
	AtLeast                         bool
}

func (c *webSocketConn) hear(text []byte) error {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("a message can't be read: %w", err)
	}
	if m.ID != "" {
		c.strange(ledger.Unwanted, -1, text)
		return c.moved(m.Cursor)
	}
	switch m.Type {
	case "subscribe.ok":
		return c.begin(m.Cursor)
	case "dropped":
		c.lost(m.Count, false)
	case "replay.truncated":
		c.lost(m.Missed, m.AtLeast)
	case "going_away":
		return c.moved(m.Cursor)
	case "ping":
		return c.say(map[string]any{"type": "pong"})
	case "error":
		return c.refused(m.Code, m.Message)
	}
	return nil
}

// refused takes an error that the server names. One that another try won't mend ends
// the run.
func (f *follower) refused(code, text string) error {
	switch code {
	case "cursor_expired", "invalid_cursor":
		f.lost(0, true)
		return nil
	case "rate_limited", "unavailable", "internal":
		return errors.New("told " + code)
	}
	err := fmt.Errorf("a stream was refused: %s (%s)", text, code)
	f.of.run.fail(err)
	return err
}
