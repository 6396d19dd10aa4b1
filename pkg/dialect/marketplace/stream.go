package marketplace

import (
	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

var stream = &dialect.SSE{
	Paths:       []string{"/api/events/stream"},
	AppendData:  appendData,
	AppendReply: appendReply,
}

// appendData writes data as it was published: its canonical form is one line.
func appendData(dst []byte, ev *event.Event) []byte { return append(dst, ev.Data...) }

func appendReply(dst []byte, r *dialect.Reply) ([]byte, string) {
	switch r.Kind {
	case dialect.ReplyGoingAway:
		return append(dialect.AppendString(append(dst, `{"cursor":`...), r.Cursor), '}'), "going_away"
	case dialect.ReplyError:
		return appendError(dst, r.Error), string(r.Error.Code)
	}
	return dst, ""
}
