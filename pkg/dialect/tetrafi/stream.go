package tetrafi

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.Stream{
	Paths:       []string{"/v1/ws"},
	Decode:      decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
}

func decode(text []byte) (dialect.Command, *dialect.Error) {
	m, err := dialect.ReadMessage(text)
	if err != nil {
		return dialect.Command{}, err
	}
	typ, err := m.Type(`{"type":"auth","token":"sk_…"}`)
	if err != nil {
		return dialect.Command{}, err
	}
	switch typ {
	case "auth":
		return auth(m)
	case "subscribe":
		return subscribe(m)
	case "unsubscribe":
		channels, err := channels(m)
		if err != nil {
			return dialect.Command{}, err
		}
		return dialect.Command{Verb: dialect.VerbUnsubscribe, Channels: channels}, nil
	case "pong":
		return dialect.Command{Verb: dialect.VerbPong}, nil
	case "ping":
		return dialect.Command{Verb: dialect.VerbPing}, nil
	}
	return dialect.Command{}, dialect.Unknown(typ, "auth, subscribe, unsubscribe, ping or pong")
}

func auth(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if cmd.Token, err = m.Text("token"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Token == "" {
		return dialect.Command{}, dialect.BadMessage(`"token" is missing: auth carries an API key, {"type":"auth","token":"sk_…"}`, "token")
	}
	cmd.Verb = dialect.VerbAuth
	return cmd, nil
}

func subscribe(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if m.Has("onSlow") {
		onSlow, err := m.Text("onSlow")
		if err != nil {
			return dialect.Command{}, err
		}
		if onSlow != "resume" {
			return dialect.Command{}, dialect.BadMessage(`"onSlow" can only be "resume", which loses nothing: leave it out, and a client that doesn't keep up is told what it lost`, "onSlow")
		}
		cmd.Keep = true
	}
	if cmd.Cursor, err = m.Text("cursor"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Corridors, err = m.Texts("corridors"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Corridors != nil && len(cmd.Corridors) == 0 {
		return dialect.Command{}, dialect.BadMessage(`"corridors" is empty: name at least one, or leave it out for all`, "corridors")
	}
	if cmd.Channels, err = channels(m); err != nil {
		return dialect.Command{}, err
	}
	cmd.Verb, cmd.Filter = dialect.VerbSubscribe, string(m["filter"])
	return cmd, nil
}

func channels(m dialect.Message) ([]string, *dialect.Error) {
	list, err := m.Texts("channels")
	if err == nil && len(list) == 0 {
		err = dialect.BadMessage(`"channels" is missing or empty: it lists event types or globs, like ["rfq.*"]`, "channels")
	}
	return list, err
}

// appendEvent writes {"type","id","timestamp",…members of data…,"cursor"}. Where
// data has a member of one of these names, the event's own stands.
func appendEvent(dst []byte, ev *event.Event, cursor event.Cursor) []byte {
	dst = appendEnvelope(dst, ev, event.MemberType|event.MemberID|event.MemberTimestamp|event.MemberCursor)
	dst = append(dst, `,"cursor":"`...)
	dst = cursor.Append(dst)
	return append(dst, `"}`...)
}

// appendEnvelope writes all of an event but its closing brace. Type and id have
// no byte that JSON escapes.
func appendEnvelope(dst []byte, ev *event.Event, own event.Members) []byte {
	dst = append(append(dst, `{"type":"`...), ev.Type...)
	dst = append(append(dst, `","id":"`...), ev.ID...)
	dst = append(dst, `","timestamp":"`...)
	dst = ev.Timestamp.UTC().AppendFormat(dst, event.TimestampLayout)
	dst = append(dst, '"')
	return ev.AppendMembers(dst, own)
}

func appendReply(dst []byte, r *dialect.Reply) []byte {
	switch r.Kind {
	case dialect.ReplyAuthOK:
		dst = dialect.AppendString(append(dst, `{"type":"auth.ok","environment":`...), r.Environment.String())
	case dialect.ReplySubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"subscribe.ok","channels":`...), r.Channels)
		if r.Corridors != nil {
			dst = dialect.AppendTexts(append(dst, `,"corridors":`...), r.Corridors)
		}
		dst = dialect.AppendMember(dst, "cursor", r.Cursor)
	case dialect.ReplyUnsubscribeOK:
		dst = dialect.AppendTexts(append(dst, `{"type":"unsubscribe.ok","channels":`...), r.Channels)
	case dialect.ReplyPing:
		dst = append(dst, `{"type":"ping"`...)
	default:
		return dialect.AppendReply(dst, r)
	}
	return append(dst, '}')
}
