package quub

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.Stream{
	Paths:       []string{"/events/v1/stream"},
	Decode:      decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
	PerOrg:      true,
}

func decode(text []byte) (dialect.Command, *dialect.Error) {
	m, err := dialect.ReadMessage(text)
	if err != nil {
		return dialect.Command{}, err
	}
	typ, err := m.Type(`{"type":"auth","token":"sk_…","orgId":"org_…"}`)
	if err != nil {
		return dialect.Command{}, err
	}
	switch typ {
	case "auth":
		return auth(m)
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
	return dialect.Command{}, dialect.Unknown(typ, "auth, subscribe, unsubscribe, ping or pong")
}

func auth(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if cmd.Token, err = m.Text("token"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Org, err = m.Text("orgId"); err != nil {
		return dialect.Command{}, err
	}
	switch {
	case cmd.Token == "":
		return dialect.Command{}, dialect.BadMessage(`"token" is missing: auth carries an API key and its org, {"type":"auth","token":"sk_…","orgId":"org_…"}`, "token")
	case cmd.Org == "":
		return dialect.Command{}, dialect.BadMessage(`"orgId" is missing: auth carries an API key and its org, {"type":"auth","token":"sk_…","orgId":"org_…"}`, "orgId")
	}
	cmd.Verb = dialect.VerbAuth
	return cmd, nil
}

func subscribe(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
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
		err = dialect.BadMessage(`"events" is missing or empty: it lists event types or globs, like ["order.filled"]`, "events")
	}
	return list, err
}

func appendEvent(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
	dst = append(appendEnvelope(dst, ev, ev.Org), `,"cursor":"`...)
	return append(cursor.Append(dst), `"}`...)
}

func appendReply(dst []byte, r *dialect.Reply) []byte {
	switch r.Kind {
	case dialect.ReplyAuthOK:
		dst = dialect.AppendString(append(dst, `{"type":"auth.ok","environment":`...), r.Environment.String())
	case dialect.ReplySubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"subscribe.ok","events":`...), r.Channels)
		dst = dialect.AppendMember(dst, "cursor", r.Cursor)
	case dialect.ReplyUnsubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"unsubscribe.ok","events":`...), r.Channels)
	default:
		return dialect.AppendReply(dst, r)
	}
	return append(dst, '}')
}
