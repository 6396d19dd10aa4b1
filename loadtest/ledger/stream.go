package ledger

import "time"

// Client is who a stream is for.
type Client struct {
	Name, Org, Environment string
	Patterns               []string
}

// Stream is what one client saw, over all its connections.
type Stream struct {
	client Client
	ledger *Ledger
	items  []item
}

// item is something that a client was told, in the order in which it was told.
type item struct {
	offset int64 // of a frame; of a place: the next that wasn't seen
	data   uint64
	event  uint32 // of a frame; of a gap: how many are missing
	at     uint32 // milliseconds since the ledger began
	canary uint16
	kind   itemKind
}

type itemKind uint8

const (
	begun   itemKind = iota // a stream without a past
	resumed                 // a connection after another, from a cursor
	frame
	gap     // so many are missing here
	gapOpen // so many at least
)

// Stream begins to write down what a client sees. next is the place at which its
// stream began, as it was told.
func (l *Ledger) Stream(c Client, next int64) *Stream {
	s := &Stream{client: c, ledger: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams = append(l.streams, s)
	s.items = append(s.items, item{kind: begun, offset: next, at: l.millis()})
	return s
}

// Resumed says that another connection goes on from a place; what was declared
// missing behind it may come after all.
func (s *Stream) Resumed(next int64) { s.add(item{kind: resumed, offset: next}) }

// Frame writes down an event that came, with its place in the log.
func (s *Stream) Frame(id string, offset int64, data uint64, canary string) {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.event(id)
	l.at(i, offset)
	s.items = append(s.items, item{kind: frame, offset: offset, data: data, event: i, at: l.millis(), canary: l.orgs.number(canary)})
}

// Gap says that the client was told of events that it doesn't get; atLeast: or of
// more.
func (s *Stream) Gap(count int, atLeast bool) {
	i := item{kind: gap, event: uint32(count)}
	if atLeast {
		i.kind = gapOpen
	}
	s.add(i)
}

func (s *Stream) add(i item) {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	i.at = l.millis()
	s.items = append(s.items, i)
}

func (l *Ledger) millis() uint32 { return uint32(time.Since(l.began).Milliseconds()) }
