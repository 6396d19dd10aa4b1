package dialect

import "strconv"

// AppendReply adds what streams say alike, in whatever dialect: pong, dropped,
// replay.truncated, going_away and error. What a dialect says of a client's
// commands is its own, and so is whether it asks for signs of life in words.
func AppendReply(dst []byte, r *Reply) []byte {
	switch r.Kind {
	case ReplyPong:
		dst = append(dst, `{"type":"pong"`...)
	case ReplyDropped:
		dst = strconv.AppendInt(append(dst, `{"type":"dropped","count":`...), r.Count, 10)
	case ReplyTruncated:
		dst = strconv.AppendInt(append(dst, `{"type":"replay.truncated","missed":`...), r.Count, 10)
		if r.AtLeast {
			dst = append(dst, `,"atLeast":true`...)
		}
	case ReplyGoingAway:
		dst = append(dst, `{"type":"going_away"`...)
	case ReplyError:
		dst = AppendString(append(dst, `{"type":"error","code":`...), string(r.Error.Code))
		return append(AppendMember(dst, "message", r.Error.Message), '}')
	default:
		return dst
	}
	if r.Cursor != "" {
		dst = AppendMember(dst, "cursor", r.Cursor)
	}
	return append(dst, '}')
}
