package control

import (
	"fmt"
	"slices"
	"sync"

	"sluice/pkg/event"
	"sluice/pkg/filter"
)

// index finds the endpoints of an environment that have a pattern for a type.
// Endpoints with the same patterns (and dialect, and filter) are a group, which is
// asked once for them all; for the types of events that came lately it is remembered which groups
// match:
//
//	rfq.created ─► "*" ─────────────────► endpoint, endpoint, …
//	           └─► "rfq.* quote.received" ─► endpoint, …
//
// So an event for everybody isn't held against every endpoint there is, and a new
// endpoint seldom costs more than its place in a group. What it says is checked
// once more for each event; it only leaves out those that can't match.
type index struct {
	groups map[string]*group // by what they have in common
	buf    []byte

	mu     sync.Mutex // readers of the state fill these
	byType map[string][]*group
	held   int // groups in byType
}

// group is the endpoints of an environment that have the same dialect, patterns and
// filter.
type group struct {
	key      string // of all three
	common   string // dialect and patterns, as appendCommon has them
	dialect  string
	patterns event.Patterns
	filter   *filter.Filter // nil: none
	entries  []*entry       // in order of creation
}

// Bounds on what is remembered: anybody may publish any type.
const (
	maxTypes = 1024
	maxHeld  = 1 << 20
)

func newIndex() *index { return &index{groups: make(map[string]*group)} }

// of gives the group of endpoints that have these. The text of a filter that isn't
// empty must be one that filter.Of takes.
func (x *index) of(dialect string, patterns event.Patterns, text string) *group {
	x.buf = appendCommon(x.buf[:0], dialect, patterns)
	common := len(x.buf)
	x.buf = append(x.buf, text...) // none is the key of dialect and patterns alone
	if g := x.groups[string(x.buf)]; g != nil {
		return g
	}
	g := &group{key: string(x.buf), dialect: dialect, patterns: patterns}
	g.common = g.key[:common]
	if text != "" {
		var err error
		if g.filter, err = filter.Of(text); err != nil {
			panic(fmt.Sprintf("control: %v", err)) // it was compiled before
		}
	}
	return g
}

// add puts e, which nobody else has yet, into its group.
func (x *index) add(e *entry) {
	g := e.group
	if len(g.entries) == 0 {
		x.groups[g.key] = g
		x.remember(g)
	}
	i, _ := slices.BinarySearchFunc(g.entries, e.created, byCreation) // at the end, unless its patterns changed
	g.entries = slices.Insert(g.entries, i, e)
}

func (x *index) remove(e *entry) {
	g := e.group
	if g.entries = without(g.entries, e); len(g.entries) == 0 {
		delete(x.groups, g.key)
		x.forget(g)
	}
}

func (x *index) replace(before, e *entry) {
	if before.group != e.group {
		x.remove(before)
		x.add(e)
	} else if i, found := slices.BinarySearchFunc(e.group.entries, e.created, byCreation); found {
		e.group.entries[i] = e
	}
}

// matching gives the groups that match the type. They are good until the state
// changes.
func (x *index) matching(typ string) []*group {
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

// verdicts remembers what filters said of one event: many endpoints may have the same.
type verdicts struct {
	ev     *event.Event
	asked  [8]*filter.Filter
	said   [8]bool
	filled int
}

// match asks each filter once, or so.
func (v *verdicts) match(f *filter.Filter) bool {
	if f == nil {
		return true
	}
	if i := slices.Index(v.asked[:v.filled], f); i >= 0 {
		return v.said[i]
	}
	said := f.Match(v.ev)
	if v.filled < len(v.asked) {
		v.asked[v.filled], v.said[v.filled] = f, said
		v.filled++
	}
	return said
}
