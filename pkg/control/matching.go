package control

import (
	"sync"

	"sluice/pkg/event"
)

// matching remembers, for the types of events that came lately, which endpoints
// of an environment have a pattern for them, so that an event for everybody isn't
// held against every pattern there is. What it says is checked once more for each
// event; it only leaves out those that can't match.
type matching struct {
	mu     sync.Mutex
	byType map[string][]*entry
}

// maxTypes bounds what is remembered: anybody may publish any type.
const maxTypes = 1024

// forget drops everything; an endpoint came, went or has other patterns.
func (m *matching) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byType = nil
}

// of gives those of all that have a pattern for the type, in the order of all.
func (m *matching) of(typ string, all []*entry) []*entry {
	m.mu.Lock()
	found, ok := m.byType[typ]
	m.mu.Unlock()
	if ok {
		return found
	}
	for _, e := range all {
		if e.Patterns.Match(typ) {
			found = append(found, e)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byType == nil || len(m.byType) >= maxTypes {
		m.byType = make(map[string][]*entry)
	}
	m.byType[typ] = found
	return found
}

func newMatching() map[event.Environment]*matching {
	out := make(map[event.Environment]*matching)
	for _, env := range event.Environments {
		out[env] = &matching{}
	}
	return out
}
