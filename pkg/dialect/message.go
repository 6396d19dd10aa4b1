package dialect

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Message is what a client says on a stream: the members of one JSON object. A
// member that is null is as if it weren't there; one that nobody asks for is left
// alone, since what a later version of a client's library sends must not break it.
type Message map[string]jsontext.Value

// MaxTexts bounds the entries of one list in a message.
const MaxTexts = 100

// readMessage reads one message. It keeps nothing of text.
func readMessage(text []byte) (Message, *Error) {
	dec := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewReader(text))
	if dec.PeekKind() != '{' {
		return nil, BadMessage("a message is one JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON()
	}
	m := make(Message, 4)
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
		if value.Kind() != 'n' {
			m[name] = value.Clone()
		}
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return nil, notJSON()
	}
	if rest := text[dec.InputOffset():]; len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return nil, BadMessage("a message is one JSON object: something follows it")
	}
	return m, nil
}

// decoders are what messages are read with: one that is new for each would take more
// memory than all else that a message leaves.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// Has reports whether the member is there.
func (m Message) Has(name string) bool { return m[name] != nil }

// Text gives a member that is a string; empty: it isn't there.
func (m Message) Text(name string) (string, *Error) {
	if !m.Has(name) {
		return "", nil
	}
	if m[name].Kind() != '"' {
		return "", BadMessage(strconv.Quote(name)+" must be a string", name)
	}
	s, err := jsontext.AppendUnquote(nil, m[name])
	if err != nil {
		return "", notJSON()
	}
	return string(s), nil
}

// Texts gives a member that is a list of strings; nil: it isn't there.
func (m Message) Texts(name string) ([]string, *Error) {
	if !m.Has(name) {
		return nil, nil
	}
	if m[name].Kind() != '[' {
		return nil, BadMessage(strconv.Quote(name)+" must be a list of strings", name)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(m[name]))
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON()
	}
	list := []string{}
	for dec.PeekKind() != ']' {
		if len(list) == MaxTexts {
			return nil, BadMessage(strconv.Quote(name)+" has at most "+strconv.Itoa(MaxTexts)+" entries", name)
		}
		if dec.PeekKind() != '"' {
			return nil, BadMessage(strconv.Quote(name)+" must be a list of strings", name, strconv.Itoa(len(list)))
		}
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON()
		}
		list = append(list, tok.String())
	}
	return list, nil
}

// BadMessage is the error of a message that is wrong at that place.
func BadMessage(message string, path ...string) *Error {
	e := &Error{Status: 400, Code: BadRequest, Message: message}
	if len(path) > 0 {
		e.Issues = []Issue{{Path: path, Message: message}}
	}
	return e
}

func notJSON() *Error { return BadMessage("a message is one JSON object, and this isn't valid JSON") }

// Messages is how the messages of a client read that say by "type" what they ask
// for. Ping, pong and unsubscribe are alike in all dialects.
type Messages struct {
	Example         string                           // a message that would be right
	Auth, Subscribe func(Message) (Command, *Error)  // Auth nil: the key comes otherwise
	Channels        func(Message) ([]string, *Error) // what an unsubscribe takes back
}

// Decode is a Stream's.
func (c *Messages) Decode(text []byte) (cmd Command, err *Error) {
	m, err := readMessage(text)
	if err != nil {
		return cmd, err
	}
	if !m.Has("type") {
		return cmd, BadMessage(`"type" is missing: a message is an object like `+c.Example, "type")
	}
	typ, err := m.Text("type")
	if err != nil {
		return cmd, err
	}
	switch {
	case typ == "auth" && c.Auth != nil:
		cmd, err = c.Auth(m)
		cmd.Verb = VerbAuth
	case typ == "subscribe":
		cmd, err = c.Subscribe(m)
		cmd.Verb = VerbSubscribe
	case typ == "unsubscribe":
		cmd.Channels, err = c.Channels(m)
		cmd.Verb = VerbUnsubscribe
	case typ == "ping":
		cmd.Verb = VerbPing
	case typ == "pong":
		cmd.Verb = VerbPong
	default:
		known := "subscribe, unsubscribe, ping or pong"
		if c.Auth != nil {
			known = "auth, " + known
		}
		err = BadMessage("unknown type "+strconv.Quote(Clip(typ, 40))+": send "+known, "type")
	}
	if err != nil {
		return Command{}, err
	}
	return cmd, nil
}

// Patterns gives a member that lists what is subscribed to; example is a list that
// would be right.
func (m Message) Patterns(name, example string) ([]string, *Error) {
	list, err := m.Texts(name)
	if err == nil && len(list) == 0 {
		err = BadMessage(`"`+name+`" is missing or empty: it lists event types or globs, like `+example, name)
	}
	return list, err
}
