package dialect

import "sluice/pkg/event"

// Stream is what a dialect says on a WebSocket: how its clients' messages read
// and how ours are written. The core knows only Command and Reply.
type Stream struct {
	Paths []string // where it is served

	// Decode reads one text message. The bytes are valid UTF-8 and the decoder must
	// not keep them. An *Error with code BadRequest says what was wrong with them.
	Decode func(text []byte) (Command, *Error)

	// AppendEvent adds the message that carries an event. It is called once per
	// event, however many receive it.
	AppendEvent func(dst []byte, ev *event.Event, cursor event.Cursor) []byte

	// PerOrg says that the message names the org that it is for: ev.Org is that one
	// then, and AppendEvent is called once per event and org.
	PerOrg bool

	// AppendReply adds any other message of ours.
	AppendReply func(dst []byte, r *Reply) []byte
}

// SSE is what a dialect says on a stream of server-sent events, in which a client
// says nothing but what its request did. Ids (the cursor), names and blank lines are
// the gateway's; a dialect writes data, as one line of JSON.
type SSE struct {
	Paths []string // where it is served

	// AppendData adds an event's data; its name is the event's type. It is called once
	// per event, however many receive it.
	AppendData func(dst []byte, ev *event.Event) []byte

	// AppendReply adds the data of another message of ours and gives its name; an empty
	// one says nothing. A type has a dot in it, so a name without one is no event's.
	AppendReply func(dst []byte, r *Reply) (data []byte, name string)
}

// Verb is what a client's message asks for.
type Verb uint8

// The verbs.
const (
	VerbAuth Verb = iota + 1
	VerbSubscribe
	VerbUnsubscribe
	VerbPong // a sign of life, as is any frame
	VerbPing // asks for a pong
)

// Command is one decoded message of a client.
type Command struct {
	Verb      Verb
	Token     string   // auth, or a subscribe that brings its key along; empty: none
	Org       string   // beside Token: the org that the client takes it for; empty: it doesn't say
	Channels  []string // subscribe, unsubscribe: patterns, not yet parsed
	Corridors []string // subscribe; nil: any
	Filter    string   // subscribe: JSON, not yet parsed; empty: none
	Cursor    string   // subscribe; empty: from now on
	Keep      bool     // subscribe: from now on the connection loses nothing, it is read on from the log instead
}

// ReplyKind is what a message of ours says.
type ReplyKind uint8

// The kinds of replies.
const (
	ReplyAuthOK ReplyKind = iota + 1
	ReplySubscribeOK
	ReplyUnsubscribeOK
	ReplyPing // Cursor is where the stream stands
	ReplyPong
	ReplyDropped   // Count events were lost here; Cursor is the place before the first of them
	ReplyTruncated // Count events (or more, if AtLeast) weren't replayed; Cursor is the client's own place
	ReplyGoingAway // this node is being drained; Cursor is where the stream stands
	ReplyError     // of a cursor that is no place: Cursor is where the stream goes on
)

// Reply is one message of ours that carries no event. Only the members that the
// kind names are set.
type Reply struct {
	Kind        ReplyKind
	Environment event.Environment
	Channels    []string
	Corridors   []string // nil: none were given
	Cursor      string
	Count       int64
	AtLeast     bool
	Error       *Error
}
