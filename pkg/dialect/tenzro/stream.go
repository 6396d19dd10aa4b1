package tenzro

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// The document lists one path and its program connects to the other.
var stream = &dialect.Stream{
	Paths:       []string{"/api/events/stream", "/events/stream"},
	Decode:      messages.Decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
}

var messages = dialect.Messages{
	Example:   `{"type":"subscribe","events":["transaction.*"],"apiKey":"sk_…"}`,
	Subscribe: subscribe,
	Channels:  events,
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
	return cmd, nil
}

func events(m dialect.Message) ([]string, *dialect.Error) {
	return m.Patterns("events", `["transaction.*"]`)
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
