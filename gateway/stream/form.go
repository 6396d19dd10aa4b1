package stream

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// form is how messages are written to one kind of client, in one dialect. What is
// written is whole, and never changed: an event's is shared by all who receive it.
// Nil or empty: nothing is said.
type form interface {
	event(ev *event.Event, org string, cursor event.Cursor) []byte
	perOrg() bool // an event isn't written alike for every org
	reply(r *dialect.Reply) []byte
	end(e *Ending) []byte // the last that goes out
}

// webSocket writes frames.
type webSocket struct{ *dialect.Stream }

func (f webSocket) event(ev *event.Event, org string, cursor event.Cursor) []byte {
	if f.PerOrg {
		theirs := *ev
		theirs.Org, ev = org, &theirs
	}
	return textFrame(len(ev.Data)+256, func(dst []byte) []byte { return f.AppendEvent(dst, ev, cursor) })
}

func (f webSocket) perOrg() bool { return f.PerOrg }

// reply writes a text frame. A ping is one in both ways that a client may know.
func (f webSocket) reply(r *dialect.Reply) []byte {
	frame := textFrame(128, func(dst []byte) []byte { return f.AppendReply(dst, r) })
	if r.Kind == dialect.ReplyPing {
		frame = append(frame, wholeFrame(opPing, nil)...)
	}
	return frame
}

func (webSocket) end(e *Ending) []byte { return closeFrame(e.Code, e.Reason) }

// eventStream writes server-sent events, each with its id, which is the cursor
// behind it:
//
//	id: ATRvSWZjUkF4AQAAAAAAAAAB
//	event: order.created
//	data: {"order":{"id":"o_1"}}
//
// What stands alone is an id without data: no event, but a client that knows the
// standard resumes from it.
type eventStream struct{ *dialect.SSE }

func (f eventStream) event(ev *event.Event, _ string, cursor event.Cursor) []byte {
	dst := appendID(make([]byte, 0, len(ev.Data)+len(ev.Type)+64), cursor.String())
	dst = append(append(append(dst, "event: "...), ev.Type...), "\ndata: "...)
	before := len(dst)
	if dst = f.AppendData(dst, ev); len(dst) == before {
		return nil
	}
	return append(dst, "\n\n"...)
}

func (eventStream) perOrg() bool { return false }

func (f eventStream) reply(r *dialect.Reply) []byte {
	dst := make([]byte, 0, 128)
	if r.Kind == dialect.ReplyPing {
		dst = append(dst, ": heartbeat\n"...)
		return append(appendID(dst, r.Cursor), '\n')
	}
	data, name := f.AppendReply(nil, r)
	if name == "" {
		return nil
	}
	if r.Cursor != "" {
		dst = appendID(dst, r.Cursor)
	}
	dst = append(append(append(dst, "event: "...), name...), "\ndata: "...)
	return append(append(dst, data...), "\n\n"...)
}

// end is nothing: the connection's end is the stream's.
func (eventStream) end(*Ending) []byte { return nil }

func appendID(dst []byte, cursor string) []byte {
	return append(append(append(dst, "id: "...), cursor...), '\n')
}
