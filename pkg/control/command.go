package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// Command is one change of the state. Commands are made with their exported
// fields set and given to Do by pointer; what is left to resolve (ids, secrets)
// Do writes into them.
type Command interface {
	op() string
	// apply changes the state and says what changed, or refuses and changes
	// nothing. It looks at nothing but its arguments. errUnreadable says that the
	// command makes no sense, whatever the state.
	apply(s *state, at stamp) ([]Change, error)
}

// preparer resolves what apply must not: chance, keys, other parts of the log.
type preparer interface {
	prepare(ctx context.Context, c *Control) error
}

// stamp says where in the log a command is, and when it was given.
type stamp struct {
	offset int64
	at     time.Time
}

// versioned is a command that can say more than its first version could. One that
// gets a new member, or a new meaning, has a higher version where it makes use of
// it, so that a node that doesn't know it stops, and no other does.
type versioned interface {
	// version gives the one that this command needs, and the highest known of it.
	version() (needs, known int)
}

func versionsOf(cmd Command) (needs, known int) {
	if v, ok := cmd.(versioned); ok {
		return v.version()
	}
	return 1, 1
}

// record is how a command lies in the log:
//
//	{"v":1,"op":"endpoint.create","id":"cmd_…","at":"2026-11-22T03:00:00Z","do":{…}}
type record struct {
	V  int            `json:"v"`
	Op string         `json:"op"`
	ID string         `json:"id"`
	At time.Time      `json:"at"`
	Do jsontext.Value `json:"do"`
}

// The commands by their names in the log.
var commands = map[string]func() Command{}

func init() {
	for _, make := range []func() Command{
		func() Command { return new(begin) },
		func() Command { return new(reseal) },
		func() Command { return new(check) },
		func() Command { return new(bootstrap) },
		func() Command { return new(NewIncarnation) },
		func() Command { return new(CreateOrg) },
		func() Command { return new(UpdateOrg) },
		func() Command { return new(DeleteOrg) },
		func() Command { return new(CreateKey) },
		func() Command { return new(RevokeKey) },
		func() Command { return new(CreateEndpoint) },
		func() Command { return new(UpdateEndpoint) },
		func() Command { return new(RotateSecret) },
		func() Command { return new(EnableEndpoint) },
		func() Command { return new(DisableEndpoint) },
		func() Command { return new(DeleteEndpoint) },
		func() Command { return new(AddMissed) },
		func() Command { return new(StartReplay) },
		func() Command { return new(ReplayProgress) },
		func() Command { return new(CancelReplay) },
		func() Command { return new(SetProvider) },
		func() Command { return new(RemoveProvider) },
		func() Command { return new(Register) },
		func() Command { return new(CreateSession) },
	} {
		commands[make().op()] = make
	}
}

var (
	// errUnreadable: no release can make sense of the record; all skip it alike.
	errUnreadable = errors.New("record can't be read")
	// errUnknown: a newer release may; this one must not go on.
	errUnknown = errors.New("command is of a newer release than this one: upgrade this node")
)

func encode(id string, at time.Time, cmd Command) ([]byte, error) {
	do, err := json.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	needs, _ := versionsOf(cmd)
	return json.Marshal(record{V: needs, Op: cmd.op(), ID: id, At: at, Do: do})
}

// decode reads a record. id is set whenever it could be read.
func decode(value []byte) (id string, at time.Time, cmd Command, err error) {
	var r record
	// Members of the envelope that aren't known can only come with a higher version.
	if err := json.Unmarshal(value, &r); err != nil {
		return "", time.Time{}, nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if r.V < 1 || r.Op == "" {
		return r.ID, r.At, nil, fmt.Errorf("%w: no version or name", errUnreadable)
	}
	known := 0
	if make := commands[r.Op]; make != nil {
		cmd = make()
		_, known = versionsOf(cmd)
	}
	if r.V > known {
		return r.ID, r.At, nil, fmt.Errorf("%s, version %d: %w", r.Op, r.V, errUnknown)
	}
	if err := json.Unmarshal(r.Do, cmd, json.RejectUnknownMembers(true)); err != nil {
		return r.ID, r.At, nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if needs, _ := versionsOf(cmd); r.V < needs {
		// A release that knows no other version can't read it either.
		return r.ID, r.At, nil, fmt.Errorf("%w: %s has members of version %d, and says %d", errUnreadable, r.Op, needs, r.V)
	}
	return r.ID, r.At.UTC(), cmd, nil
}

// newID makes an id: the prefix and 22 random base62 characters, 130 bits.
func newID(prefix string) string {
	return string(key.AppendRandom([]byte(prefix), 22))
}

func validEnvironment(e event.Environment) bool { return e == event.Sandbox || e == event.Live }

// begin is the first command of a log.
type begin struct {
	Incarnation event.Incarnation `json:"incarnation"`
	Lanes       int32             `json:"lanes"`
	SealedWith  string            `json:"sealedWith"` // fingerprint of the sealing key
}

func (*begin) op() string { return "begin" }

func (cmd *begin) apply(s *state, _ stamp) ([]Change, error) {
	if s.begun {
		return nil, ErrExists
	}
	s.setLog(func() {
		s.begun, s.incarnation, s.lanes, s.sealedWith = true, cmd.Incarnation, cmd.Lanes, []string{cmd.SealedWith}
	})
	return nil, nil
}

// NewIncarnation begins another life of the log, as after a restore from a backup:
// cursors of the one before expire. Nodes that run already keep the one that they
// started with.
type NewIncarnation struct {
	Incarnation event.Incarnation `json:"incarnation"` // made by Do
}

func (*NewIncarnation) op() string { return "incarnation" }

func (cmd *NewIncarnation) prepare(context.Context, *Control) error {
	cmd.Incarnation = newIncarnation()
	return nil
}

func (cmd *NewIncarnation) apply(s *state, _ stamp) ([]Change, error) {
	if cmd.Incarnation == (event.Incarnation{}) || !s.begun {
		return nil, errUnreadable
	}
	s.setLog(func() { s.incarnation = cmd.Incarnation })
	return nil, nil
}

func newIncarnation() (i event.Incarnation) {
	copy(i[:], key.AppendRandom(nil, len(i)))
	return i
}

// reseal records that secrets are sealed with another key from here on. A node
// that doesn't have it stops here, before the first secret that it couldn't open.
type reseal struct {
	SealedWith string `json:"sealedWith"` // fingerprint
}

func (*reseal) op() string { return "reseal" }

func (cmd *reseal) apply(s *state, _ stamp) ([]Change, error) {
	switch {
	case cmd.SealedWith == "" || !s.begun:
		return nil, fmt.Errorf("%w: key without a fingerprint, or before the log's first", errUnreadable)
	case s.sealedWith[len(s.sealedWith)-1] == cmd.SealedWith:
		return nil, ErrExists
	}
	s.setLog(func() {
		others := slices.DeleteFunc(slices.Clone(s.sealedWith), func(f string) bool { return f == cmd.SealedWith })
		s.sealedWith = append(others, cmd.SealedWith)
	})
	return nil, nil
}
