package control

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Mover brings commands into another log, which holds the same events at other
// offsets. Every command keeps its offset. What it says of places among events is
// said anew, and so is its id: a snapshot of the one log isn't one of the other.
type Mover struct {
	// Place gives the offset in the other log of an event of this one.
	Place func(env event.Environment, offset int64) int64

	environments map[string]event.Environment // of endpoints
}

// mover is a command that says something about places among events.
type mover interface{ move(m *Mover) }

// Move gives the record's value in the other log. Records must be moved in their
// order. An error says that a newer release than this wrote the command.
func (m *Mover) Move(r *eventlog.Record) ([]byte, error) {
	id, at, cmd, err := decode(r.Value)
	switch {
	case errors.Is(err, errUnknown):
		return nil, fmt.Errorf("command at offset %d: %w", r.Offset, err)
	case err != nil: // still can't be read when it is longer
		return append(r.Value[:len(r.Value):len(r.Value)], ' '), nil
	}
	if cmd, ok := cmd.(mover); ok {
		cmd.move(m)
		return encode(newID("cmd_"), at, cmd.(Command))
	}
	var rec record
	if err := json.Unmarshal(r.Value, &rec); err != nil {
		return nil, fmt.Errorf("command %s at offset %d: %w", id, r.Offset, err)
	}
	rec.ID = newID("cmd_")
	return json.Marshal(rec)
}

func (cmd *CreateEndpoint) move(m *Mover) {
	if m.environments == nil {
		m.environments = make(map[string]event.Environment)
	}
	m.environments[cmd.ID] = cmd.Environment
	cmd.From = m.Place(cmd.Environment, cmd.From)
}

func (cmd *EnableEndpoint) move(m *Mover) {
	if cmd.Skip > 0 {
		cmd.Skip = m.Place(m.environments[cmd.Endpoint], cmd.Skip)
	}
}

func (cmd *StartReplay) move(m *Mover) {
	env := m.environments[cmd.Endpoint]
	cmd.From, cmd.To = m.Place(env, cmd.From), m.Place(env, cmd.To)
}

// The state is another there, since it has other places: there is nothing to be
// compared with.
func (cmd *check) move(*Mover) { *cmd = check{} }
