package tetrafi

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.Stream{
	Paths:       []string{"/v1/ws"},
	Decode:      messages.Decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
}

var messages = dialect.Messages{
	Example:   `{"type":"auth","token":"sk_…"}`,
	Auth:      auth,
	Subscribe: subscribe,
	Channels:  channels,
}

func auth(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if cmd.Token, err = m.Text("token"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Token == "" {
		return dialect.Command{}, dialect.BadMessage(`"token" is missing: auth carries an API key, {"type":"auth","token":"sk_…"}`, "token")
	}
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
	cmd.Filter = string(m["filter"])
	return cmd, nil
}

func channels(m dialect.Message) ([]string, *dialect.Error) {
	return m.Patterns("channels", `["rfq.*"]`)
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
