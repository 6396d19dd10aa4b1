package quub

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.Stream{
	Paths:       []string{"/events/v1/stream"},
	Decode:      messages.Decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
	PerOrg:      true,
}

var messages = dialect.Messages{
	Example:   `{"type":"auth","token":"sk_…","orgId":"org_…"}`,
	Auth:      auth,
	Subscribe: subscribe,
	Channels:  events,
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
	return cmd, nil
}

func subscribe(m dialect.Message) (cmd dialect.Command, err *dialect.Error) {
	if cmd.Cursor, err = m.Text("cursor"); err != nil {
		return dialect.Command{}, err
	}
	if cmd.Channels, err = events(m); err != nil {
		return dialect.Command{}, err
	}
	return cmd, nil
}

func events(m dialect.Message) ([]string, *dialect.Error) {
	return m.Patterns("events", `["order.filled"]`)
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
