package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
	"sluice/pkg/event"
)

// streamer is a client that follows events on one node after another, and goes on
// from its cursor.
type streamer struct {
	load     *load
	org      org
	name     string
	patterns []string
	rnd      *rand.Rand
	restless bool            // it leaves by itself now and then
	dreamy   bool            // it stops reading now and then
	stuck    bool            // so it does, for longer than a gateway waits, and takes little at a time
	first    *node           // where it begins; nil: anywhere
	front    *fleet.Balancer // whom it connects to; nil: any gateway itself

	stream *ledger.Stream // nil: its first subscription isn't answered yet
	cursor string
	live   bool                         // the connection is subscribed
	closes map[websocket.StatusCode]int // how its connections were closed
	told   []time.Time                  // when going_away announced the end of one
	cut    int                          // its connections that ended without a word
	away   int                          // times it was sent away with 503
}

// run follows until ctx ends.
func (s *streamer) run(ctx context.Context) {
	s.closes = make(map[websocket.StatusCode]int)
	for ctx.Err() == nil {
		s.live = false
		err := s.connection(ctx, s.next())
		if code := websocket.CloseStatus(err); code >= 0 {
			s.closes[code]++
		} else if s.live && ctx.Err() == nil {
			s.cut++
		}
		pause(ctx, time.Duration(50+s.rnd.IntN(200))*time.Millisecond)
	}
}

// next gives the address to connect to.
func (s *streamer) next() string {
	nodes := s.load.fleet.with("gateway")
	switch {
	case s.front != nil:
		return s.front.Address
	case s.stream == nil && s.first != nil:
		return s.first.Address
	}
	return nodes[s.rnd.IntN(len(nodes))].Address
}

// message is what a server says that isn't an event.
type message struct {
	Type, Cursor, Code, Message string
	Count, Missed               int
	AtLeast                     bool
}

// connection follows one connection to its end.
func (s *streamer) connection(ctx context.Context, address string) error {
	if s.restless {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(3+s.rnd.IntN(20))*time.Second)
		defer cancel()
	}
	opening, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, answer, err := websocket.Dial(opening, "ws://"+address+"/v1/ws", s.options())
	if err != nil {
		if answer != nil && answer.StatusCode == http.StatusServiceUnavailable {
			s.away++
		}
		return err
	}
	defer conn.CloseNow()
	subscribe := map[string]any{"type": "subscribe", "channels": s.patterns}
	if s.cursor != "" {
		subscribe["cursor"] = s.cursor
	}
	for _, m := range []any{map[string]string{"type": "auth", "token": s.org.key}, subscribe} {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := conn.Write(opening, websocket.MessageText, text); err != nil {
			return err
		}
	}
	for {
		text, err := read(ctx, conn)
		if err != nil {
			return err
		}
		if err := s.take(text); err != nil {
			return err
		}
		switch {
		case s.dreamy && s.rnd.IntN(400) == 0:
			pause(ctx, time.Duration(1+s.rnd.IntN(4))*time.Second)
		case s.stuck && s.rnd.IntN(1000) == 0:
			pause(ctx, time.Duration(20+s.rnd.IntN(40))*time.Second)
		}
	}
}

// options keep the system from taking for a stuck client what it doesn't read.
func (s *streamer) options() *websocket.DialOptions {
	if !s.stuck {
		return nil
	}
	return &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				err = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			return nc, err
		},
	}}}
}

// silence is how long a client waits for anything, a ping included, until it takes
// the connection for dead.
const silence = 45 * time.Second

func read(ctx context.Context, conn *websocket.Conn) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, text, err := conn.Read(ctx)
	return string(text), err
}

// take writes down what was said, and remembers the place.
func (s *streamer) take(text string) error {
	if strings.Contains(text, `,"timestamp":"`) {
		e, err := parse(text)
		if err != nil {
			return s.broken("a frame can't be read: %v: %s", err, text)
		}
		next, err := place(e.cursor)
		if err != nil || s.stream == nil {
			return s.broken("a frame has a bad cursor, or comes too early: %v: %s", err, text)
		}
		s.stream.Frame(e.id, next-1, e.hash(), e.canary())
		s.cursor = e.cursor
		s.load.frames.Add(1)
		return nil
	}
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return s.broken("a message can't be read: %v: %s", err, text)
	}
	switch m.Type {
	case "subscribe.ok":
		s.live = true
		if s.stream != nil {
			next, err := place(s.cursor)
			s.stream.Resumed(next)
			return err
		}
		next, err := place(m.Cursor)
		if err != nil {
			return s.broken("the first cursor is bad: %v: %s", err, text)
		}
		s.stream = s.load.ledger.Stream(ledger.Client{Name: s.name, Org: s.org.id, Environment: "sandbox", Patterns: s.patterns}, next)
		s.cursor = m.Cursor
		s.load.streaming.Done()
	case "dropped":
		s.stream.Gap(m.Count, false)
	case "replay.truncated":
		s.stream.Gap(m.Missed, m.AtLeast)
	case "going_away":
		s.told = append(s.told, time.Now())
		if m.Cursor != "" {
			s.cursor = m.Cursor
		}
	case "auth.ok", "ping":
	case "error":
		if m.Code != "unavailable" { // that is said when the log doesn't answer, and asks to come again
			return s.broken("it was told %s", text)
		}
		return errors.New(m.Code)
	default:
		return s.broken("it was told %s", text)
	}
	return nil
}

func (s *streamer) broken(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	s.load.fail("%s: %v", s.name, err)
	return err
}

// place reads the place in a cursor.
func place(cursor string) (next int64, err error) {
	c, err := event.ParseCursor(cursor)
	if err == nil && c.Environment != event.Sandbox {
		err = errors.New("it is another environment's")
	}
	return c.Next, err
}
