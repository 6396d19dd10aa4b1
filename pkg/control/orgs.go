package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/key"
	"sluice/pkg/plan"
)

// Plan is what an org may use, as package plan has it.
type Plan = plan.Plan

// The plans.
const (
	Free       = plan.Free
	Starter    = plan.Starter
	Pro        = plan.Pro
	Enterprise = plan.Enterprise
)

// Plans lists all plans, the smallest first.
var Plans = plan.All

// Org is a tenant.
type Org struct {
	ID        string
	Name      string
	Plan      Plan
	Email     string // where notices go; empty: nowhere
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   uint64 // rises with every change
	Slug      string // a name of its own that whoever registered it chose; empty: none

	created int64 // offset of the command that made it
}

// Key is an API key as we keep it.
type Key struct {
	ID          string
	Org         string
	Environment event.Environment
	Scopes      []key.Scope
	Name        string
	Hash        [32]byte
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	Start       string    // how it begins, for people to tell it by; empty: that wasn't kept
	Network     string    // the one that it is for; empty: any
	User        string    // whose login made it: it is a session; empty: it isn't

	created int64 // offset of the command that made it
}

// Expired reports whether the key is no good any more at t.
func (k *Key) Expired(t time.Time) bool { return !k.ExpiresAt.IsZero() && !t.Before(k.ExpiresAt) }

// Principal gives who calls with the key.
func (k *Key) Principal() *key.Principal {
	return &key.Principal{Org: k.Org, Environment: k.Environment, KeyID: k.ID, Scopes: k.Scopes, ExpiresAt: k.ExpiresAt, Network: k.Network, Session: k.User != ""}
}

// MaxKeys bounds the keys of one org, sessions not among them.
const MaxKeys = 1000

// CreateOrg makes an org. ErrExists: the id is taken, or once was; ids of
// deleted orgs are never given again.
type CreateOrg struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitzero"`
	Plan  Plan   `json:"plan"`
	Email string `json:"email,omitzero"`
}

func (*CreateOrg) op() string { return "org.create" }

func (cmd *CreateOrg) apply(s *state, at stamp) ([]Change, error) { return cmd.create(s, at, "") }

// create makes the org with a slug, which no other has; empty: without.
func (cmd *CreateOrg) create(s *state, at stamp, slug string) ([]Change, error) {
	if cmd.ID == "" || !slices.Contains(Plans, cmd.Plan) {
		return nil, fmt.Errorf("%w: org without an id or a plan", errUnreadable)
	}
	if s.orgs[cmd.ID] != nil || s.gone[cmd.ID] {
		return nil, fmt.Errorf("create org %s: %w", cmd.ID, ErrExists)
	}
	if slug != "" && s.slugs[slug] {
		return nil, fmt.Errorf("create org %s: slug %s: %w", cmd.ID, slug, ErrExists)
	}
	org := &Org{ID: cmd.ID, Name: cmd.Name, Plan: cmd.Plan, Email: cmd.Email, CreatedAt: at.at, UpdatedAt: at.at, Version: 1, Slug: slug, created: at.offset}
	s.addOrg(org)
	return []Change{{Offset: at.offset, Org: org}}, nil
}

// UpdateOrg changes the members that aren't nil. Version is the one that is
// expected, 0 any; ErrConflict: it is another.
type UpdateOrg struct {
	Org     string  `json:"org"`
	Version uint64  `json:"version,omitzero"`
	Name    *string `json:"name,omitzero"`
	Plan    *Plan   `json:"plan,omitzero"`
	Email   *string `json:"email,omitzero"`
}

func (*UpdateOrg) op() string { return "org.update" }

func (cmd *UpdateOrg) apply(s *state, at stamp) ([]Change, error) {
	if cmd.Plan != nil && !slices.Contains(Plans, *cmd.Plan) {
		return nil, fmt.Errorf("%w: plan %q", errUnreadable, *cmd.Plan)
	}
	before := s.orgs[cmd.Org]
	switch {
	case before == nil:
		return nil, fmt.Errorf("update org %s: %w", cmd.Org, ErrNotFound)
	case cmd.Version != 0 && cmd.Version != before.Version:
		return nil, fmt.Errorf("update org %s: version %d, not %d: %w", cmd.Org, before.Version, cmd.Version, ErrConflict)
	}
	org := *before
	org.UpdatedAt = at.at
	org.Version++
	set(&org.Name, cmd.Name)
	set(&org.Plan, cmd.Plan)
	set(&org.Email, cmd.Email)
	s.replaceOrg(before, &org)
	return []Change{{Offset: at.offset, Org: &org, OrgBefore: before}}, nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// DeleteOrg takes an org away with its user, keys, sessions, endpoints and providers.
type DeleteOrg struct {
	Org string `json:"org"`
}

func (*DeleteOrg) op() string { return "org.delete" }

func (cmd *DeleteOrg) apply(s *state, at stamp) ([]Change, error) {
	org := s.orgs[cmd.Org]
	if org == nil {
		return nil, fmt.Errorf("delete org %s: %w", cmd.Org, ErrNotFound)
	}
	var changes []Change
	for _, k := range slices.Clone(s.keysOf[org.ID]) {
		s.removeKey(k)
		changes = append(changes, Change{Offset: at.offset, KeyBefore: k})
	}
	for _, env := range event.Environments {
		for _, e := range slices.Clone(s.endpointsOf(org.ID, env)) {
			s.removeEndpoint(e)
			changes = append(changes, Change{Offset: at.offset, EndpointBefore: e.endpoint(s.sealer)})
		}
	}
	for _, p := range providersOf(s, org.ID) {
		s.replaceProvider(p, nil)
	}
	if u := s.userOf[org.ID]; u != nil {
		s.removeUser(u)
	}
	s.removeOrg(org)
	s.retire(org.ID)
	return append(changes, Change{Offset: at.offset, OrgBefore: org}), nil
}

// CreateKey gives an org a key. Do makes ID where it is empty.
type CreateKey struct {
	ID          string            `json:"id"`
	Org         string            `json:"org"`
	Environment event.Environment `json:"environment"`
	Scopes      []key.Scope       `json:"scopes"`
	Name        string            `json:"name,omitzero"`
	Hash        [32]byte          `json:"hash"`
	ExpiresAt   time.Time         `json:"expiresAt,omitzero"`
	Limit       int               `json:"limit,omitzero"` // keys the org may have; Do sets it
	Start       string            `json:"start,omitzero"`
	Network     string            `json:"network,omitzero"`
}

func (*CreateKey) op() string { return "key.create" }

// version 2 may say how the key begins, and which network it is for.
func (cmd *CreateKey) version() (needs, known int) {
	if cmd.Start != "" || cmd.Network != "" {
		return 2, 2
	}
	return 1, 2
}

func (cmd *CreateKey) apply(s *state, at stamp) ([]Change, error) {
	if cmd.ID == "" || !validEnvironment(cmd.Environment) {
		return nil, fmt.Errorf("%w: key without an id or environment", errUnreadable)
	}
	switch {
	case s.orgs[cmd.Org] == nil:
		return nil, fmt.Errorf("create key of org %s: %w", cmd.Org, ErrNotFound)
	case s.keys[cmd.ID] != nil || s.keyByHash[cmd.Hash] != nil:
		return nil, fmt.Errorf("create key %s: %w", cmd.ID, ErrExists)
	case cmd.Limit > 0 && s.countKeys(cmd.Org) >= cmd.Limit:
		return nil, fmt.Errorf("create key of org %s: %d keys: %w", cmd.Org, cmd.Limit, ErrLimit)
	}
	k := &Key{
		ID: cmd.ID, Org: s.orgs[cmd.Org].ID, Environment: cmd.Environment, Scopes: cmd.Scopes, Name: cmd.Name,
		Hash: cmd.Hash, CreatedAt: at.at, ExpiresAt: cmd.ExpiresAt.UTC(),
		Start: cmd.Start, Network: cmd.Network, created: at.offset,
	}
	s.addKey(k)
	return []Change{{Offset: at.offset, Key: k}}, nil
}

// RevokeKey takes a key away.
type RevokeKey struct {
	Org string `json:"org"`
	ID  string `json:"id"`
}

func (*RevokeKey) op() string { return "key.revoke" }

func (cmd *RevokeKey) apply(s *state, at stamp) ([]Change, error) {
	k := s.keys[cmd.ID]
	if k == nil || k.Org != cmd.Org {
		return nil, fmt.Errorf("revoke key %s: %w", cmd.ID, ErrNotFound)
	}
	s.removeKey(k)
	return []Change{{Offset: at.offset, KeyBefore: k}}, nil
}

func (cmd *CreateKey) prepare(context.Context, *Control) error {
	if cmd.ID == "" {
		cmd.ID = newID("key_")
	}
	cmd.Limit = MaxKeys
	return nil
}

func (cmd *CreateOrg) prepare(context.Context, *Control) error {
	if cmd.ID == "" {
		cmd.ID = newID("org_")
	}
	return nil
}
