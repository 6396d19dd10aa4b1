package ingest

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice/pkg/event"
)

// An event as CloudEvents 1.0 writes it becomes one of ours:
//
//	source, id   its id: what identifies it, in the form that an id of ours has
//	type         its type; it must fit
//	subject      its key
//	time         its timestamp
//	data         its data, a JSON object; none: {}
//	audience, corridor, network    extensions: what they are in an event of ours, audience with commas between
//
// Other attributes may be there, as whoever passed the event on may have added
// some; they aren't kept.

// ceHeader is what the headers of binary mode begin with.
const ceHeader = "ce-"

// What a CloudEvent has beside the members of an event of ours.
const (
	hasSpecversion = hasTimestamp << (1 + iota)
	hasSource
	hasContentType
	hasBase64
)

// ceBits gives the attributes by their names; "id" is checked with the source.
var ceBits = map[string]int{
	"specversion": hasSpecversion, "id": hasID, "source": hasSource, "type": hasType, "subject": hasKey, "time": hasTimestamp,
	"data": hasData, "data_base64": hasBase64, "datacontenttype": hasContentType,
	"audience": hasAudience, "corridor": hasCorridor, "network": hasNetwork,
}

// ceNames are the attributes that are looked for in headers.
var ceNames = []string{"specversion", "id", "source", "type", "subject", "time", "audience", "corridor", "network"}

// cloud is a CloudEvent that is being read.
type cloud struct {
	ev         *event.Event
	id, source string
	seen       int
}

// cloudBatch reads a list of CloudEvents.
func (p *parser) cloudBatch() {
	if !p.take('[') {
		p.kind("must be a list of CloudEvents", nil, 0)
		return
	}
	n := 0
	for more := !p.take(']'); more && !p.stop(); n++ {
		if n == MaxBatch {
			p.path = nil
			p.issue("the batch has more than 1000 events; send them in several requests")
			return
		}
		p.path = []string{strconv.Itoa(n)}
		p.next()
		p.cloudEvent()
		if p.stop() {
			return
		}
		if more = p.take(','); !more && !p.take(']') {
			p.syntax(0)
			return
		}
	}
	p.path = nil
	if n == 0 {
		p.issue("the batch is empty; send at least one event")
	}
	p.end()
}

// cloudEvent reads a CloudEvent in its JSON format.
func (p *parser) cloudEvent() {
	p.next()
	begin := p.pos
	if !p.take('{') {
		p.kind("must be an object with specversion, id, source and type", nil, begin)
		return
	}
	c := p.newCloud()
	before := len(p.issues)
	named := 0                          // like c.seen, those that are null too
	others := make(map[string]struct{}) // attributes that we don't know
	ok := p.members(begin, func(name []byte) {
		bit := ceBits[string(name)]
		_, twice := others[string(name)]
		if twice || named&bit != 0 {
			p.twice(name)
		}
		if named |= bit; bit == 0 {
			others[string(name)] = struct{}{}
		}
		p.next()
		if bit == 0 || p.null() {
			if !p.skip() {
				p.syntax(begin)
			}
			return // null is as good as not there
		}
		c.seen |= bit
		if bit == hasData {
			p.data(c.ev, begin)
			return
		}
		text, isText := p.text()
		if !isText {
			p.kind(noText(bit), name, begin)
			return
		}
		p.attribute(c, string(name), bit, string(text))
	})
	if ok {
		p.cloudEnd(c, before)
	}
}

// cloudBinary reads a CloudEvent whose attributes are headers.
func (p *parser) cloudBinary(header func(string) string) {
	c := p.newCloud()
	before := len(p.issues)
	for _, name := range ceNames {
		value := header(ceHeader + name)
		if value == "" {
			continue
		}
		// What isn't printable ASCII comes percent-encoded; older senders quote.
		text, err := url.PathUnescape(unquoted(value))
		if err != nil || !utf8.ValidString(text) {
			p.issue("must be UTF-8, with % encoding what isn't printable ASCII", ceHeader+name)
			continue
		}
		c.seen |= ceBits[name]
		p.attribute(c, name, ceBits[name], text)
	}
	if p.next() != 0 || p.pos != len(p.b) {
		c.seen |= hasData
		p.data(c.ev, 0)
		p.end()
	}
	p.cloudEnd(c, before)
}

func (p *parser) newCloud() *cloud {
	return &cloud{ev: &event.Event{Environment: p.principal.Environment, Org: p.principal.Org}}
}

// null reports whether null is next.
func (p *parser) null() bool {
	return strings.HasPrefix(string(p.b[p.pos:min(p.pos+4, len(p.b))]), "null")
}

// attribute sets one of the attributes that we know.
func (p *parser) attribute(c *cloud, name string, bit int, text string) {
	message := ""
	switch bit {
	case hasSpecversion:
		if text != "1.0" {
			message = `must be "1.0"`
		}
	case hasID, hasSource:
		if message = "must not be empty"; text != "" {
			message = ""
		}
		if bit == hasID {
			c.id = text
		} else {
			c.source = text
		}
	case hasContentType:
		mt, _, _ := strings.Cut(text, ";")
		if !jsonMedia(strings.ToLower(strings.TrimSpace(mt))) {
			message = "must be application/json, or left out: the data of an event is a JSON object"
		}
	case hasBase64:
		message = "can't be taken: the data of an event is a JSON object; send it as data"
	case hasAudience:
		p.ceAudience(c.ev, text)
	default:
		message = setText(c.ev, bit, text)
	}
	if message != "" {
		p.issue(message, name)
	}
}

// ceAudience reads an audience: * or org ids with commas between.
func (p *parser) ceAudience(ev *event.Event, text string) {
	if text == "*" {
		ev.Audience.All = true
		p.needBroadcast(`"*" needs a key with the scope broadcast`)
		return
	}
	for org := range strings.SplitSeq(text, ",") {
		ev.Audience.Orgs = append(ev.Audience.Orgs, strings.TrimSpace(org))
	}
	if slices.Contains(ev.Audience.Orgs, "") {
		p.issue("must be * or org ids with commas between; leave it out for your own org only", "audience")
		return
	}
	if len(ev.Audience.Orgs) > event.MaxAudience {
		p.issue("names more than 1000 orgs", "audience")
		return
	}
	p.orgs(ev)
}

// cloudEnd takes in a CloudEvent that was read whole.
func (p *parser) cloudEnd(c *cloud, before int) {
	for _, need := range []string{"specversion", "id", "source", "type"} {
		if c.seen&ceBits[need] == 0 {
			p.issue("is missing; a CloudEvent has specversion, id, source and type", need)
		}
	}
	if len(p.issues) > before {
		return
	}
	if c.seen&hasData == 0 {
		c.ev.Data = []byte("{}")
	}
	c.ev.ID = event.SourceID("ce_", c.source, c.id)
	if p.own(c.ev.ID); len(p.issues) > before {
		return
	}
	p.add(c.ev, c.seen)
}

// unquoted gives what a header's quoted string stands for; any other value stands
// for itself.
func unquoted(value string) string {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	value = value[1 : len(value)-1]
	if !strings.Contains(value, `\`) {
		return value
	}
	text := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && i+1 < len(value) {
			i++
		}
		text = append(text, value[i])
	}
	return string(text)
}

// jsonMedia reports whether a media type, in lower case, is JSON's, as CloudEvents
// has it: with the subtype json, or one that ends in +json. None is JSON's, too.
func jsonMedia(mt string) bool {
	return mt == "" || strings.HasSuffix(mt, "/json") || strings.HasSuffix(mt, "+json")
}
