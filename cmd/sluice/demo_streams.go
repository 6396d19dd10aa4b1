package main

import (
	"context"
	"fmt"
	"time"
)

// subscriber is one of the market's orgs on a WebSocket.
type subscriber struct {
	market   *market
	who, org string
	key      string
	channels []string
}

// subscribers are the solvers and the taker. The solvers ask for everything:
// what they don't get is what they may not see.
func (m *market) subscribers() []*subscriber {
	return []*subscriber{
		{m, "solver α", demoAlpha, m.alpha, []string{"*"}},
		{m, "solver β", demoBeta, m.beta, []string{"*"}},
		{m, "taker", demoTaker, m.taker, []string{"quote.*", "settlement.*"}},
	}
}

// run reads the stream until ctx ends. ready is told once the server has
// answered the subscription, or that it didn't.
func (s *subscriber) run(ctx context.Context, ready chan<- error) {
	cursor := ""
	tell := func(err error) {
		if ready != nil {
			ready <- err
			ready = nil
		}
	}
	for ctx.Err() == nil {
		err := s.follow(ctx, &cursor, tell)
		if ctx.Err() != nil {
			break
		}
		tell(fmt.Errorf("%s: %w", s.who, err))
		s.market.board.notice(s.who, fmt.Sprintf("%v: connecting again", err))
		_ = pause(ctx, 500*time.Millisecond, time.Second)
	}
}

func (s *subscriber) follow(ctx context.Context, cursor *string, tell func(error)) error {
	conn, err := dialStream(ctx, s.market.base, s.key, s.channels, nil, *cursor)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		m, _, err := conn.next()
		if err != nil {
			return err
		}
		switch {
		case m.ID != "":
			s.market.board.streamed(s.who, s.org, m.ID, m.Type)
		case m.Type == "subscribe.ok":
			if *cursor == "" { // from here on everything is owed to it
				s.market.board.expect(s.who, s.org, s.channels)
			}
			tell(nil)
		case m.Type == "error":
			return fmt.Errorf("%s (%s)", m.Message, m.Code)
		}
		if m.Cursor != "" {
			*cursor = m.Cursor
		}
	}
}
