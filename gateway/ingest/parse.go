package ingest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// maxIssues bounds what a refused request is told at once.
const maxIssues = 20

// parser reads the events of one request. It goes on behind an event that isn't
// right, so that one answer names all that is wrong, up to maxIssues; it stops
// where the JSON itself can't be followed.
type parser struct {
	reader
	principal *key.Principal
	orgExists func(id string) bool
	now       time.Time

	events    []*event.Event
	keyed     bool                // the request has an Idempotency-Key
	given     []int               // for each event, which members it was given; nil: none has an id, nor the request a key
	ids       map[string]struct{} // those given by a batch's publisher
	path      []string            // of the event that is being read
	issues    []dialect.Issue
	forbidden []dialect.Issue // what the key may not do
	large     bool            // some issue is that data is too large
	broken    bool            // the JSON can't be followed any further
}

// issue notes what is wrong with a member of the event being read.
func (p *parser) issue(message string, member ...string) {
	p.issues = append(p.issues, dialect.Issue{Path: slices.Concat(p.path, member), Message: message})
}

// stop reports whether there is no sense in reading on.
func (p *parser) stop() bool { return p.broken || len(p.issues) >= maxIssues }

// syntax notes that the JSON can't be followed; from is where the value begins
// that jsontext shall look at.
func (p *parser) syntax(from int) {
	if !p.broken {
		p.broken = true
		p.issues = append(p.issues, syntaxIssue(p.b[from:], p.path))
	}
}

// A bit for each member of an event, to know those that are there.
const (
	hasType = 1 << iota
	hasData
	hasAudience
	hasKey
	hasCorridor
	hasNetwork
	hasID
	hasTimestamp
)

var memberBits = map[string]int{
	"type": hasType, "data": hasData, "audience": hasAudience, "key": hasKey,
	"corridor": hasCorridor, "network": hasNetwork, "id": hasID, "timestamp": hasTimestamp,
}

// event reads one event. Members of other names are refused: a mistyped
// audience would show an event to the wrong people, or hide it.
func (p *parser) event() {
	begin := p.pos
	if !p.take('{') {
		p.kind("must be an object with type and data", nil, begin)
		return
	}
	ev := &event.Event{Environment: p.principal.Environment, Org: p.principal.Org}
	before, seen := len(p.issues), 0
	ok := p.members(begin, func(name []byte) {
		bit := memberBits[string(name)]
		if seen&bit != 0 {
			p.twice(name)
		}
		seen |= bit
		p.member(ev, bit, name, begin)
	})
	if !ok {
		return
	}
	if seen&hasType == 0 {
		p.issue(`is missing; say what happened, as in "rfq.created"`, "type")
	}
	if seen&hasData == 0 {
		p.issue("is missing; send a JSON object, {} if there is nothing to say", "data")
	}
	if len(p.issues) == before {
		p.add(ev, seen)
	}
}

// add takes an event in that is as it should be. What it was given is only noted
// where it matters.
func (p *parser) add(ev *event.Event, given int) {
	if p.keyed || p.given != nil || given&hasID != 0 {
		p.given = append(append(p.given, make([]int, len(p.events)-len(p.given))...), given)
	}
	fill(ev, p.now)
	p.events = append(p.events, ev)
}

// members reads the members of an object that is open; value reads the value of
// each. It reports whether the object was read to its end, or far enough.
func (p *parser) members(begin int, value func(name []byte)) bool {
	for more := !p.take('}'); more && !p.stop(); {
		p.next()
		name, ok := p.text()
		if !ok || !p.take(':') {
			p.syntax(begin)
			return false
		}
		value(name)
		if p.broken {
			return false
		}
		more = p.take(',')
		if !more && !p.take('}') {
			p.syntax(begin)
			return false
		}
	}
	return true
}

func (p *parser) twice(name []byte) {
	p.issue("the name stands twice in its object; send it once", string(name))
}

// member reads the value of one member.
func (p *parser) member(ev *event.Event, bit int, name []byte, begin int) {
	p.next()
	switch bit {
	case hasData:
		p.data(ev, begin)
	case hasAudience:
		p.audience(ev, begin)
	case 0:
		name := string(name)
		p.issue("is no member of an event; what is the event's own goes into data", name)
		if !p.skip() {
			p.syntax(begin)
		}
	default:
		raw, ok := p.text()
		if !ok {
			p.kind(noText(bit), name, begin)
			return
		}
		if message := setText(ev, bit, string(raw)); message != "" {
			p.issue(message, string(name))
		} else if bit == hasID {
			p.own(ev.ID)
		}
	}
}

// noText is what is wrong with a member that should be a string.
func noText(bit int) string {
	if bit&(hasType|hasSpecversion|hasSource) != 0 {
		return "must be a string"
	}
	return "must be a string; leave it out if there is none"
}

// kind notes that a value is of the wrong kind, and passes over it.
func (p *parser) kind(message string, name []byte, begin int) {
	if !p.skip() {
		p.syntax(begin)
		return
	}
	if name == nil {
		p.issue(message)
	} else {
		p.issue(message, string(name))
	}
}

// setText sets the members that are strings, or says what would be right.
func setText(ev *event.Event, bit int, s string) (message string) {
	switch bit {
	case hasType:
		ev.Type = s
		if !event.ValidType(s) {
			return "must be two or more words of lower case letters, digits and '_', with dots between, at most 128 bytes, as in \"rfq.created\""
		}
	case hasID:
		ev.ID = s
		if !event.ValidID(s) {
			return "must have 1 to 64 letters, digits, '_' and '-'"
		}
	case hasKey:
		ev.Key = s
		if !event.ValidText(s, event.MaxKey) {
			return "must have 1 to 256 bytes and no control characters"
		}
	case hasCorridor:
		ev.Corridor = s
		if !event.ValidText(s, event.MaxAttribute) {
			return "must have 1 to 128 bytes and no control characters"
		}
	case hasNetwork:
		ev.Network = s
		if !event.ValidText(s, event.MaxAttribute) {
			return "must have 1 to 128 bytes and no control characters"
		}
	case hasTimestamp:
		t, ok := event.ParseTimestamp(s)
		if !ok {
			return `must be a time as RFC 3339 writes it, as in "2026-11-22T03:10:00.000Z", in the years 0000 to 9999`
		}
		ev.Timestamp = t
	}
	return ""
}

// own notes an id that the publisher gave: twice in one request is a mistake.
func (p *parser) own(id string) {
	if p.path == nil { // a single event
		return
	}
	if _, twice := p.ids[id]; twice {
		p.issue("another event of this request has the same id", "id")
		return
	}
	if p.ids == nil {
		p.ids = make(map[string]struct{})
	}
	p.ids[id] = struct{}{}
}

func (p *parser) data(ev *event.Event, begin int) {
	if p.next() != '{' {
		p.kind("must be a JSON object", []byte("data"), begin)
		return
	}
	data, n, members, err := event.CanonicalPrefix(p.b[p.pos:])
	var wrong *event.DataError
	if errors.As(err, &wrong) {
		p.issue(wrong.Message, append([]string{"data"}, wrong.Path...)...)
		// It may be JSON all the same, with something else wrong behind it.
		p.broken = !p.skip()
		return
	}
	p.pos += n
	if len(data) > event.MaxData {
		p.large = true
		p.issue("has more than 256 KiB; keep the large part elsewhere and send where it is", "data")
	}
	ev.Data, ev.Members = data, members
}

// audience reads "*" or a list of orgs. For others than its own org the key must
// have the scope.
func (p *parser) audience(ev *event.Event, begin int) {
	const want = `must be "*" or a list of org ids; leave it out for your own org only`
	name := []byte("audience")
	if p.next() == '"' {
		raw, ok := p.text()
		switch {
		case !ok:
			p.kind(want, name, begin)
		case string(raw) != "*":
			p.issue(want, "audience")
		default:
			ev.Audience.All = true
			p.needBroadcast(`"*" needs a key with the scope broadcast`)
		}
		return
	}
	if p.next() != '[' {
		p.kind(want, name, begin)
		return
	}
	p.pos++
	for more := !p.take(']'); more; {
		if p.next() != '"' {
			p.issue(want, "audience")
			p.broken = true
			return
		}
		raw, ok := p.text()
		if !ok {
			p.syntax(begin)
			return
		}
		ev.Audience.Orgs = append(ev.Audience.Orgs, string(raw))
		more = p.take(',')
		if !more && !p.take(']') {
			p.syntax(begin)
			return
		}
	}
	switch n := len(ev.Audience.Orgs); {
	case n == 0:
		p.issue(want, "audience")
	case n > event.MaxAudience:
		p.issue("names more than 1000 orgs", "audience")
	default:
		p.orgs(ev)
	}
}

// orgs checks the orgs of a list, and puts them in order.
func (p *parser) orgs(ev *event.Event) {
	list := ev.Audience.Orgs
	slices.Sort(list)
	ev.Audience.Orgs = slices.Compact(list)
	var unknown []string
	for _, org := range ev.Audience.Orgs {
		if org == p.principal.Org {
			continue
		}
		if !p.principal.Can(key.Broadcast) {
			p.needBroadcast("orgs other than your own need a key with the scope broadcast")
			return
		}
		if len(org) > event.MaxAttribute || !p.orgExists(org) {
			unknown = append(unknown, org)
		}
	}
	if len(unknown) == 0 {
		return
	}
	const most = 10
	message := "no such org: "
	if len(unknown) > most {
		message, unknown = "no such orgs, among others: ", unknown[:most]
	}
	for i, org := range unknown {
		unknown[i] = org[:min(len(org), event.MaxAttribute)]
	}
	p.issue(message+strings.ToValidUTF8(strings.Join(unknown, ", "), ""), "audience")
}

func (p *parser) needBroadcast(message string) {
	if !p.principal.Can(key.Broadcast) && len(p.forbidden) < maxIssues {
		p.forbidden = append(p.forbidden, dialect.Issue{Path: slices.Concat(p.path, []string{"audience"}), Message: message})
	}
}
