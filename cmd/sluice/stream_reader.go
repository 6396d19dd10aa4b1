package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
)

// streamReader reads a stream, and keeps its place over reconnects.
//
//	dial ─► auth ─► subscribe (from the last cursor) ─► event, event …
//	  ▲                                                      │ lost
//	  └────────────── 1 s, 2 s, 4 s … 30 s ◄─────────────────┘
type streamReader struct {
	api       *apiFlags
	channels  []string
	corridors []string
	cursor    string    // of the last event that was taken; empty: from now on
	notices   io.Writer // what happens to the connection

	// begun is told the environment, whenever a subscription stands; nil: nobody is.
	begun func(environment string)
	// event takes an event, with the text of its message. An error of it ends all.
	event func(m *message, text []byte) error

	failures int // in a row
}

// run follows until ctx ends, or trying again is no use.
func (r *streamReader) run(ctx context.Context) error {
	for {
		err := r.follow(ctx)
		var refused *refusedError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused):
			return err
		}
		wait := min(time.Second<<min(r.failures, 5), 30*time.Second)
		wait += rand.N(wait / 4) // so that those who lost one server don't come back at once
		r.failures++
		fmt.Fprintf(r.notices, "sluice: %v: connecting again in %v\n", err, wait.Round(100*time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow reads one connection until it ends. A refusedError says that trying again
// is no use.
func (r *streamReader) follow(ctx context.Context) error {
	conn, err := dialStream(ctx, r.api.URL, r.api.Key, r.channels, r.corridors, r.cursor)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var environment string
	for {
		m, text, err := conn.next()
		if err != nil {
			return err
		}
		switch {
		case m.ID != "":
			if err := r.event(&m, text); err != nil {
				return &refusedError{message: err.Error()}
			}
		case m.Type == "auth.ok":
			environment = m.Environment
		case m.Type == "subscribe.ok":
			r.failures = 0
			if r.begun != nil {
				r.begun(environment)
			}
		case m.Type == "error":
			if err := r.refused(m); err != nil {
				return err
			}
		case m.Type == "dropped":
			fmt.Fprintf(r.notices, "sluice: %d events were left out: this end was too slow for them. GET /v1/events?cursor=%s has them\n", m.Count, m.Cursor)
			continue // its cursor lies behind us
		case m.Type == "replay.truncated":
			fmt.Fprintf(r.notices, "sluice: %d older events were left out: a stream replays no more than 100. GET /v1/events?cursor=%s has them\n", m.Missed, m.Cursor)
			continue
		case m.Type == "going_away":
			fmt.Fprintln(r.notices, "sluice: the server is going away")
		}
		if m.Cursor != "" {
			r.cursor = m.Cursor
		}
	}
}

// refused says whether the stream can go on after an error message.
func (r *streamReader) refused(m message) error {
	text := fmt.Sprintf("%s (%s)", m.Message, m.Code)
	switch m.Code {
	case "cursor_expired", "invalid_cursor":
		// The stream itself goes on, from now.
		fmt.Fprintf(r.notices, "sluice: %s: going on from now\n", text)
		r.cursor = ""
		return nil
	case "rate_limited", "unavailable", "internal":
		return errors.New(text)
	default:
		return &refusedError{message: text}
	}
}

// streamConn is a client's end of /v1/ws.
type streamConn struct{ *websocket.Conn }

// message is what any message may hold, as far as a client must know it. Only
// events have an id.
type message struct {
	Type, ID, Cursor, Environment, Code, Message string
	Count, Missed                                int64
}

// streamPath is where the commands of this program listen to events.
const streamPath = "/v1/ws"

// dialStream connects, authenticates and subscribes. What the server makes of it
// is read with next.
func dialStream(ctx context.Context, base, key string, channels, corridors []string, cursor string) (*streamConn, error) {
	address := "ws" + strings.TrimPrefix(strings.TrimSuffix(base, "/"), "http") + streamPath
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, address, nil)
	if err != nil {
		if resp != nil {
			return nil, &refusedError{message: fmt.Sprintf("%s answered %s: does --url name a sluice?", address, resp.Status)}
		}
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	subscribe := map[string]any{"type": "subscribe", "channels": channels}
	if len(corridors) > 0 {
		subscribe["corridors"] = corridors
	}
	if cursor != "" {
		subscribe["cursor"] = cursor
	}
	s := &streamConn{conn}
	// Both at once: the server takes messages in order.
	if err := errors.Join(s.WriteJSON(map[string]any{"type": "auth", "token": key}), s.WriteJSON(subscribe)); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe at %s: %w", address, err)
	}
	return s, nil
}

// silence is how long a server may say nothing: it pings every 30 s.
const silence = 90 * time.Second

// next gives the next message that isn't a ping, and answers those.
func (s *streamConn) next() (message, []byte, error) {
	for {
		s.SetReadDeadline(time.Now().Add(silence))
		_, text, err := s.ReadMessage()
		if err != nil {
			return message{}, nil, fmt.Errorf("connection lost: %w", err)
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			return message{}, nil, fmt.Errorf("not a message of sluice's: %w", err)
		}
		if m.Type != "ping" {
			return m, text, nil
		}
		if err := s.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`)); err != nil {
			return message{}, nil, fmt.Errorf("connection lost: %w", err)
		}
	}
}
