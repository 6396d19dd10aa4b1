package control

import (
	"slices"
	"sync"

	"sluice/pkg/event"
)

// index finds the endpoints of an environment that have a pattern for a type.
// Endpoints with the same patterns are a group, which is asked once for them
// all; for the types of events that came lately it is remembered which groups
// match:
//
//	rfq.created ─► "*" ─────────────────► endpoint, endpoint, …
//	           └─► "rfq.* quote.received" ─► endpoint, …
//
// So an event for everybody isn't held against every endpoint there is, and a new
// endpoint seldom costs more than its place in a group. What it says is checked
// once more for each event; it only leaves out those that can't match.
type index struct {
	groups map[string]*group // by their patterns' texts
	buf    []byte            // such a text

	mu     sync.Mutex // readers of the state fill these
	byType map[string][]*group
	held   int // groups in byType
}

// group is the endpoints of an environment that have the same patterns.
type group struct {
	patterns event.Patterns // shared by all of them
	entries  []*entry       // in order of creation
}

// Bounds on what is remembered: anybody may publish any type.
const (
	maxTypes = 1024
	maxHeld  = 1 << 20
)

func newIndex() *index { return &index{groups: make(map[string]*group)} }

// text tells sets of patterns apart: no pattern has a space.
func (x *index) text(patterns event.Patterns) []byte {
	x.buf = x.buf[:0]
	for _, p := range patterns {
		x.buf = append(append(x.buf, p.String()...), ' ')
	}
	return x.buf
}

// add puts e, which nobody else has yet, into its group and gives it the group's
// patterns for its own.
func (x *index) add(e *entry) {
	g := x.groups[string(x.text(e.Patterns))]
	if g == nil {
		g = &group{patterns: e.Patterns}
		x.groups[string(x.buf)] = g
		x.remember(g)
	}
	e.Patterns, e.group = g.patterns, g
	i, _ := slices.BinarySearchFunc(g.entries, e.created, byCreation) // at the end, unless its patterns changed
	g.entries = slices.Insert(g.entries, i, e)
}

func (x *index) remove(e *entry) {
	g := e.group
	if g.entries = without(g.entries, e); len(g.entries) == 0 {
		delete(x.groups, string(x.text(g.patterns)))
		x.forget(g)
	}
}

func (x *index) replace(before, e *entry) {
	if !slices.Equal(before.Patterns, e.Patterns) {
		x.remove(before)
		x.add(e)
		return
	}
	g := before.group
	e.Patterns, e.group = g.patterns, g
	if i, found := slices.BinarySearchFunc(g.entries, e.created, byCreation); found {
		g.entries[i] = e
	}
}

// of gives the groups that match the type. They are good until the state changes.
func (x *index) of(typ string) []*group {
	x.mu.Lock()
	defer x.mu.Unlock()
	found, ok := x.byType[typ]
	if ok {
		return found
	}
	for _, g := range x.groups {
		if g.patterns.Match(typ) {
			found = append(found, g)
		}
	}
	if x.byType == nil || len(x.byType) >= maxTypes || x.held+len(found) > maxHeld {
		x.byType, x.held = make(map[string][]*group), 0
	}
	x.byType[typ] = found
	x.held += len(found)
	return found
}

// remember adds a new group to the types that it matches.
func (x *index) remember(g *group) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for typ, groups := range x.byType {
		if g.patterns.Match(typ) {
			x.byType[typ] = append(groups, g)
			x.held++
		}
	}
	if x.held > maxHeld {
		x.byType, x.held = nil, 0
	}
}

// forget takes an empty group out.
func (x *index) forget(g *group) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for typ, groups := range x.byType {
		if i := slices.Index(groups, g); i >= 0 {
			x.byType[typ] = slices.Delete(groups, i, i+1)
			x.held--
		}
	}
}
