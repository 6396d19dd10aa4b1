package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// User is who may log in to an org, which has one at most.
type User struct {
	ID        string
	Org       string
	Email     string // no two users have the same
	Name      string
	CreatedAt time.Time

	created int64  // offset of the command that made it
	sealed  string // what is kept of the password
}

// Register makes an org, a user who may log in to it, and a key: all or nothing.
// ErrEmail: another user has the address. ErrExists: another org has the slug.
type Register struct {
	User     string    `json:"user"` // its id; Do makes it
	Email    string    `json:"email"`
	Name     string    `json:"name,omitzero"`
	Password string    `json:"-"` // a hash of it, which isn't in the log as it is either
	Sealed   []byte    `json:"sealed"`
	Org      CreateOrg `json:"org"`
	Slug     string    `json:"slug,omitzero"` // of the org
	Key      CreateKey `json:"key"`
}

func (*Register) op() string { return "register" }

func (cmd *Register) prepare(ctx context.Context, c *Control) error {
	cmd.User = newID("usr_")
	if err := cmd.Org.prepare(ctx, c); err != nil {
		return err
	}
	if err := cmd.Key.prepare(ctx, c); err != nil {
		return err
	}
	cmd.Key.Org = cmd.Org.ID
	cmd.Sealed = c.sealer.Seal([]byte(cmd.Password), cmd.Org.ID, sealedOf(cmd.User), firstSecret)
	return nil
}

// sealedOf is for passwords what sealedFor is for providers' secrets.
func sealedOf(user string) string { return "user:" + user }

func (cmd *Register) apply(s *state, at stamp) ([]Change, error) {
	if cmd.User == "" || cmd.Email == "" || cmd.Key.ID == "" || cmd.Key.Org != cmd.Org.ID || !validEnvironment(cmd.Key.Environment) {
		return nil, fmt.Errorf("%w: user without an id or address, or the key of another org", errUnreadable)
	}
	if _, err := s.sealer.Open(cmd.Sealed, cmd.Org.ID, sealedOf(cmd.User), firstSecret); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	// What could refuse the key is asked before the org is made.
	switch {
	case s.users[cmd.Email] != nil:
		return nil, fmt.Errorf("register user %s: %w", cmd.User, ErrEmail)
	case s.keys[cmd.Key.ID] != nil || s.keyByHash[cmd.Key.Hash] != nil:
		return nil, fmt.Errorf("register user %s: create key %s: %w", cmd.User, cmd.Key.ID, ErrExists)
	}
	changes, err := cmd.Org.create(s, at, cmd.Slug)
	if err != nil {
		return nil, err
	}
	s.addUser(&User{ID: cmd.User, Org: cmd.Org.ID, Email: cmd.Email, Name: cmd.Name, CreatedAt: at.at, created: at.offset, sealed: string(cmd.Sealed)})
	keyChanges, err := cmd.Key.apply(s, at)
	return append(changes, keyChanges...), err
}

// MaxSessions bounds the sessions of one user: another login ends the oldest.
const MaxSessions = 20

// CreateSession lets a user in until ExpiresAt: by a key of the org's that no list of
// keys shows to its owners. Those of the user's that have expired go. ErrNotFound: there
// is no such user any more.
type CreateSession struct {
	ID        string      `json:"id"` // Do makes it
	User      string      `json:"user"`
	Email     string      `json:"email"`
	Scopes    []key.Scope `json:"scopes"`
	Hash      [32]byte    `json:"hash"`
	ExpiresAt time.Time   `json:"expiresAt"`
	Limit     int         `json:"limit"` // sessions the user may have; Do sets it
}

func (*CreateSession) op() string { return "session.create" }

func (cmd *CreateSession) prepare(context.Context, *Control) error {
	cmd.ID, cmd.Limit = newID("ses_"), MaxSessions
	return nil
}

func (cmd *CreateSession) apply(s *state, at stamp) ([]Change, error) {
	if cmd.ID == "" || cmd.ExpiresAt.IsZero() || cmd.Limit < 1 {
		return nil, fmt.Errorf("%w: session without an id, an end or a limit", errUnreadable)
	}
	u := s.users[cmd.Email]
	switch {
	case u == nil || u.ID != cmd.User:
		return nil, fmt.Errorf("create session of user %s: %w", cmd.User, ErrNotFound)
	case s.keys[cmd.ID] != nil || s.keyByHash[cmd.Hash] != nil:
		return nil, fmt.Errorf("create session %s: %w", cmd.ID, ErrExists)
	}
	var good, over []*Key
	for _, k := range s.keysOf[u.Org] {
		switch {
		case k.User != u.ID:
		case k.Expired(at.at):
			over = append(over, k)
		default:
			good = append(good, k)
		}
	}
	over = append(over, good[:max(0, len(good)+1-cmd.Limit)]...)
	var changes []Change
	for _, k := range over {
		s.removeKey(k)
		changes = append(changes, Change{Offset: at.offset, KeyBefore: k})
	}
	k := &Key{
		ID: cmd.ID, Org: u.Org, Environment: event.Live, Scopes: cmd.Scopes, Name: "session of " + u.Email,
		Hash: cmd.Hash, CreatedAt: at.at, ExpiresAt: cmd.ExpiresAt.UTC(), User: u.ID, created: at.offset,
	}
	s.addKey(k)
	return append(changes, Change{Offset: at.offset, Key: k}), nil
}

// User gives who has the e-mail address, and what is kept of the password; nil: nobody.
func (c *Control) User(email string) (u *User, password string) {
	c.mu.RLock()
	u = c.state.users[email]
	c.mu.RUnlock()
	if u == nil {
		return nil, ""
	}
	opened, err := c.sealer.Open([]byte(u.sealed), u.Org, sealedOf(u.ID), firstSecret)
	if err != nil {
		// It was opened with the same keys before it came into the state.
		panic(fmt.Sprintf("control: user %s: %v", u.ID, err))
	}
	return u, string(opened)
}

func (s *state) addUser(u *User) {
	s.users[u.Email] = u
	s.userOf[u.Org] = u
	s.toggle(appendUser(s.buf, u))
}

func (s *state) removeUser(u *User) {
	delete(s.users, u.Email)
	delete(s.userOf, u.Org)
	s.toggle(appendUser(s.buf, u))
}

func appendUser(b []byte, u *User) []byte {
	b = append(b, kindUser)
	b = binary.AppendVarint(b, u.created)
	b = appendText(b, u.ID)
	b = appendText(b, u.Org)
	b = appendText(b, u.Email)
	b = appendText(b, u.Name)
	b = appendTime(b, u.CreatedAt)
	return appendText(b, u.sealed)
}

// loadUser adds the user of an org that was loaded before, once the password could be
// opened.
func (s *state) loadUser(in *reader) error {
	u := &User{created: in.varint(), ID: in.text(), Org: in.text(), Email: in.text(), Name: in.text(), CreatedAt: in.time(), sealed: in.text()}
	org := s.orgs[u.Org]
	if !in.done() || org == nil || u.Email == "" || s.users[u.Email] != nil || s.userOf[u.Org] != nil {
		return errDamaged
	}
	if _, err := s.sealer.Open([]byte(u.sealed), u.Org, sealedOf(u.ID), firstSecret); err != nil {
		return err
	}
	u.Org = org.ID
	s.addUser(u)
	return nil
}
