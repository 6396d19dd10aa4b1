package tenzro

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// The document lists one path and its program connects to the other.
var stream = &dialect.Stream{
	Paths:       []string{"/api/events/stream", "/events/stream"},
	Decode:      decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
}

func decode(text []byte) (dialect.Command, *dialect.Error) {
	m, err := dialect.ReadMessage(text)
	if err != nil {
		return dialect.Command{}, err
	}
	typ, err := m.Type(`{"type":"subscribe","events":["transaction.*"],"apiKey":"sk_…"}`)
	if err != nil {
		return dialect.Command{}, err
	}
	switch typ {
	case "subscribe":
		return subscribe(m)
	case "unsubscribe":
		events, err := events(m)
		if err != nil {
			return dialect.Command{}, err
		}
		return dialect.Command{Verb: dialect.VerbUnsubscribe, Channels: events}, nil
	case "ping":
		return dialect.Command{Verb: dialect.VerbPing}, nil
	case "pong":
		return dialect.Command{Verb: dialect.VerbPong}, nil
	}
	return dialect.Command{}, dialect.Unknown(typ, "subscribe, unsubscribe, ping or pong")
}

// subscribe may bring the key along; on a connection that has one it needn't.
func subscribe(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if cmd.Token, err = m.Text("apiKey"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Cursor, err = m.Text("cursor"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Channels, err = events(m); err != nil {
		return dialect.Command{}, err
	}
	cmd.Verb = dialect.VerbSubscribe
	return cmd, nil
}

func events(m dialect.Message) ([]string, *dialect.Error) {
	list, err := m.Texts("events")
	if err == nil && len(list) == 0 {
		err = dialect.BadMessage(`"events" is missing or empty: it lists event types or globs, like ["transaction.*"]`, "events")
	}
	return list, err
}

func appendEvent(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
	dst = append(appendEnvelope(dst, ev), `,"cursor":"`...)
	return append(cursor.Append(dst), `"}`...)
}

// appendReply says nothing of a key that is good: what it came with is answered.
func appendReply(dst []byte, r *dialect.Reply) []byte {
	switch r.Kind {
	case dialect.ReplySubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"subscribed","events":`...), r.Channels)
		dst = dialect.AppendMember(dst, "cursor", r.Cursor)
	case dialect.ReplyUnsubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"unsubscribed","events":`...), r.Channels)
	default:
		return dialect.AppendReply(dst, r)
	}
	return append(dst, '}')
}
