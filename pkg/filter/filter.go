// Package filter says whether an event's data is what somebody asked for.
//
//	{"quote.price":{"gte":1},"pair":{"in":["ETH/USDC","BTC/USDC"]},"$not":{"test":true}}
//
// A filter is compiled once for all who have the same (Of), into the names that are
// looked for, the tests of their values and the expression of their results. An event
// costs one pass over its data, and no memory:
//
//	data ─► names ─► tests ─► a bit each ─► and, or, not
//	                   ▲
//	 network, corridor ┘ what routes an event, beside its data
//
//	filter.go   Filter, Of
//	parse.go    a text, checked and compiled
//	match.go    the pass over data
//	number.go   numbers, compared exactly
//
// It does no I/O and reads no clock. Two releases must make the same of a filter that
// both take: what an endpoint is owed depends on it.
package filter

import (
	"runtime"
	"strings"
	"sync"
	"weak"

	"sluice/pkg/event"
)

// The bounds of a filter.
const (
	MaxText  = 4096 // bytes, as Text has it
	MaxTests = 64   // conditions on members
	MaxDepth = 16   // of $and, $or and $not in one another
	MaxPath  = 16   // names in a path
	MaxList  = 100  // values of in
)

// Filter is a condition on data. It is used by any number of goroutines at once.
type Filter struct {
	text              string
	root              node
	network, corridor node // of the event's own attributes
	expr              expr
}

// Text is the filter in canonical JSON: what Of takes.
func (f *Filter) Text() string { return f.text }

// Attributes reports whether the filter asks for more than data.
func (f *Filter) Attributes() bool { return len(f.network.tests)+len(f.corridor.tests) > 0 }

// Match reports whether the event is what the filter asks for.
func (f *Filter) Match(ev *event.Event) bool {
	_, bits := f.root.object(ev.Data, 0)
	return f.expr.holds(bits | f.network.attribute(ev.Network) | f.corridor.attribute(ev.Corridor))
}

// Error says what is wrong with a filter, for whoever wrote it.
type Error struct {
	Path    []string // member names and indexes, from the top of the filter
	Message string   // what is wrong, and what would be right
}

func (e *Error) Error() string {
	if len(e.Path) == 0 {
		return "filter: " + e.Message
	}
	return "filter." + strings.Join(e.Path, ".") + ": " + e.Message
}

// shared has every filter that somebody holds, by its text.
var shared struct {
	sync.Mutex
	filters map[string]weak.Pointer[Filter]
}

// Of gives the filter of a text that Parse gave: the same for all who ask, for as long
// as one of them holds it.
func Of(text string) (*Filter, error) {
	shared.Lock()
	defer shared.Unlock()
	if f := shared.filters[text].Value(); f != nil {
		return f, nil
	}
	f, err := compile(strings.Clone(text))
	if err != nil {
		return nil, err
	}
	if shared.filters == nil {
		shared.filters = make(map[string]weak.Pointer[Filter])
	}
	shared.filters[f.text] = weak.Make(f)
	runtime.AddCleanup(f, forget, f.text)
	return f, nil
}

// forget takes a text out whose filter nobody holds any more.
func forget(text string) {
	shared.Lock()
	defer shared.Unlock()
	if shared.filters[text].Value() == nil {
		delete(shared.filters, text)
	}
}
