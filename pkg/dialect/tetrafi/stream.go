package tetrafi

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.Stream{
	Paths:       []string{"/v1/ws"},
	Decode:      decode,
	AppendEvent: appendEvent,
	AppendReply: appendReply,
}

// maxList bounds the entries of one list in a message.
const maxList = 100

// message is what a client may send, whatever its type.
type message struct {
	typ       string
	token     string
	cursor    string
	channels  []string
	corridors []string
	filter    string
	given     map[string]bool
}

func decode(text []byte) (dialect.Command, *dialect.Error) {
	m, err := readMessage(text)
	if err != nil {
		return dialect.Command{}, err
	}
	if !m.given["type"] {
		return dialect.Command{}, bad(`"type" is missing: a message is an object like {"type":"auth","token":"sk_…"}`, "type")
	}
	switch m.typ {
	case "auth":
		if m.token == "" {
			return dialect.Command{}, bad(`"token" is missing: auth carries an API key, {"type":"auth","token":"sk_…"}`, "token")
		}
		return dialect.Command{Verb: dialect.VerbAuth, Token: m.token}, nil
	case "subscribe":
		if m.given["onSlow"] {
			return dialect.Command{}, bad(`"onSlow" isn't supported: leave it out`, "onSlow")
		}
		if m.given["corridors"] && len(m.corridors) == 0 {
			return dialect.Command{}, bad(`"corridors" is empty: name at least one, or leave it out for all`, "corridors")
		}
		if err := needChannels(m); err != nil {
			return dialect.Command{}, err
		}
		return dialect.Command{Verb: dialect.VerbSubscribe, Channels: m.channels, Corridors: m.corridors, Filter: m.filter, Cursor: m.cursor}, nil
	case "unsubscribe":
		if err := needChannels(m); err != nil {
			return dialect.Command{}, err
		}
		return dialect.Command{Verb: dialect.VerbUnsubscribe, Channels: m.channels}, nil
	case "pong":
		return dialect.Command{Verb: dialect.VerbPong}, nil
	case "ping":
		return dialect.Command{Verb: dialect.VerbPing}, nil
	}
	return dialect.Command{}, bad("unknown type "+strconv.Quote(dialect.Clip(m.typ, 40))+": send auth, subscribe, unsubscribe, ping or pong", "type")
}

func needChannels(m *message) *dialect.Error {
	if len(m.channels) == 0 {
		return bad(`"channels" is missing or empty: it lists event types or globs, like ["rfq.*"]`, "channels")
	}
	return nil
}

// readMessage takes the members that we know. Others are left alone: what a
// later version of a client's library sends must not break it.
func readMessage(text []byte) (*message, *dialect.Error) {
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if dec.PeekKind() != '{' {
		return nil, bad("a message is one JSON object")
	}
	m := &message{given: make(map[string]bool, 4)}
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON()
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON()
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, notJSON()
		}
		if value.Kind() == 'n' {
			continue // null: as if it weren't there
		}
		m.given[name] = true
		if wrong := m.set(name, value); wrong != nil {
			return nil, wrong
		}
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return nil, notJSON()
	}
	if rest := text[dec.InputOffset():]; len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return nil, bad("a message is one JSON object: something follows it")
	}
	return m, nil
}

func (m *message) set(name string, value jsontext.Value) *dialect.Error {
	var err *dialect.Error
	switch name {
	case "type":
		m.typ, err = text(name, value)
	case "token":
		m.token, err = text(name, value)
	case "cursor":
		m.cursor, err = text(name, value)
	case "channels":
		m.channels, err = texts(name, value)
	case "corridors":
		m.corridors, err = texts(name, value)
	case "filter":
		m.filter = string(value)
	}
	return err
}

func text(name string, value jsontext.Value) (string, *dialect.Error) {
	if value.Kind() != '"' {
		return "", bad(strconv.Quote(name)+" must be a string", name)
	}
	s, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "", notJSON()
	}
	return string(s), nil
}

func texts(name string, value jsontext.Value) ([]string, *dialect.Error) {
	if value.Kind() != '[' {
		return nil, bad(strconv.Quote(name)+" must be a list of strings", name)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(value))
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON()
	}
	list := []string{}
	for dec.PeekKind() != ']' {
		if len(list) == maxList {
			return nil, bad(strconv.Quote(name)+" has at most 100 entries", name)
		}
		if dec.PeekKind() != '"' {
			return nil, bad(strconv.Quote(name)+" must be a list of strings", name, strconv.Itoa(len(list)))
		}
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON()
		}
		list = append(list, tok.String())
	}
	return list, nil
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
	open := func(typ string) { dst = append(append(append(dst, `{"type":"`...), typ...), '"') }
	switch r.Kind {
	case dialect.ReplyAuthOK:
		open("auth.ok")
		dst = dialect.AppendString(append(dst, `,"environment":`...), r.Environment.String())
	case dialect.ReplySubscribeOK:
		open("subscribe.ok")
		dst = appendTexts(append(dst, `,"channels":`...), r.Channels)
		if r.Corridors != nil {
			dst = appendTexts(append(dst, `,"corridors":`...), r.Corridors)
		}
		dst = appendCursor(dst, r.Cursor)
	case dialect.ReplyUnsubscribeOK:
		open("unsubscribe.ok")
		dst = appendTexts(append(dst, `,"channels":`...), r.Channels)
	case dialect.ReplyPing:
		open("ping")
	case dialect.ReplyPong:
		open("pong")
	case dialect.ReplyDropped:
		open("dropped")
		dst = strconv.AppendInt(append(dst, `,"count":`...), r.Count, 10)
		dst = appendCursor(dst, r.Cursor)
	case dialect.ReplyTruncated:
		open("replay.truncated")
		dst = strconv.AppendInt(append(dst, `,"missed":`...), r.Count, 10)
		if r.AtLeast {
			dst = append(dst, `,"atLeast":true`...)
		}
		dst = appendCursor(dst, r.Cursor)
	case dialect.ReplyGoingAway:
		open("going_away")
		dst = appendCursor(dst, r.Cursor)
	case dialect.ReplyError:
		open("error")
		dst = dialect.AppendString(append(dst, `,"code":`...), string(r.Error.Code))
		dst = dialect.AppendString(append(dst, `,"message":`...), r.Error.Message)
	default:
		return dst // not said in this dialect
	}
	return append(dst, '}')
}

func appendCursor(dst []byte, cursor string) []byte {
	if cursor == "" {
		return dst
	}
	return dialect.AppendString(append(dst, `,"cursor":`...), cursor)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = dialect.AppendString(dst, s)
	}
	return append(dst, ']')
}

func bad(message string, path ...string) *dialect.Error {
	e := &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: message}
	if len(path) > 0 {
		e.Issues = []dialect.Issue{{Path: path, Message: message}}
	}
	return e
}

func notJSON() *dialect.Error { return bad("a message is one JSON object, and this isn't valid JSON") }
