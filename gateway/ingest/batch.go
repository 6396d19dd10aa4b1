package ingest

import (
	"bytes"
	"strconv"
)

// MaxBatch is how many events one request may hold.
const MaxBatch = 1000

// body reads one event, or {"events":[…]}, and reports which: it is a batch if
// that is its first member.
func (p *parser) body() (batch bool) {
	if p.batch() {
		return true
	}
	p.event()
	p.end()
	return false
}

// end makes sure that nothing stands behind the one value of the body.
func (p *parser) end() {
	if !p.broken && (p.next() != 0 || p.pos != len(p.b)) {
		p.syntax(0)
	}
}

// batch reads {"events":[…]}. It reports false, and has moved nowhere, if the
// body isn't one.
func (p *parser) batch() bool {
	begin := p.pos
	open := p.take('{')
	if name, ok := p.text(); !open || !ok || string(name) != "events" {
		p.pos = begin
		return false
	}
	p.path = []string{"events"}
	if !p.take(':') {
		p.path = nil
		p.syntax(0)
		return true
	}
	if !p.take('[') {
		p.next()
		p.kind("must be a list of events", nil, 0)
		return true
	}
	n := 0
	for more := !p.take(']'); more && !p.stop(); n++ {
		if n == MaxBatch {
			p.path = []string{"events"}
			p.issue("has more than 1000 events; send them in several requests")
			p.broken = true
			return true
		}
		p.path = []string{"events", strconv.Itoa(n)}
		p.next()
		p.event()
		if p.stop() {
			return true
		}
		more = p.take(',')
		if !more && !p.take(']') {
			p.path = nil
			p.syntax(0)
			return true
		}
	}
	p.path = []string{"events"}
	if n == 0 {
		p.issue("is empty; send at least one event")
	}
	p.path = nil
	if p.take(',') {
		if name, ok := p.text(); ok {
			p.issue("is no member of a batch; it has events and nothing else", string(name))
			return true
		}
		p.syntax(0)
		return true
	}
	if !p.take('}') || p.next() != 0 || p.pos != len(p.b) {
		p.syntax(0)
	}
	return true
}

// lines reads a body with an event on each line; empty lines are passed over.
// Its issues name the line, the first being 1.
func (p *parser) lines() {
	body := p.b
	n, line := 0, 0
	for len(body) > 0 && len(p.issues) < maxIssues {
		text, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		line++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		p.path = []string{"line", strconv.Itoa(line)}
		if n++; n > MaxBatch {
			p.issue("is the 1001st event; send them in several requests")
			return
		}
		// What can't be followed in one line says nothing of the next.
		p.reader, p.broken = reader{b: text}, false
		p.next()
		p.event()
		if !p.broken && (p.next() != 0 || p.pos != len(text)) {
			p.syntax(0)
		}
	}
	if n == 0 {
		p.path = nil
		p.issue("the body is empty; send an event on each line")
	}
}
