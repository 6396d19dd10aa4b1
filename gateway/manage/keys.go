package manage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// maxKeyName bounds the name of a key, in bytes.
const maxKeyName = 256

// CreateKey makes the caller's org another key. Whoever has a key could do with the
// new one what it can't do itself, if there were more to that in any way.
func (c *Core) CreateKey(ctx context.Context, p *key.Principal, spec dialect.KeySpec) (*dialect.Key, error) {
	beyond := func(what string) error {
		return &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "the key that you call with can't make one " + what}
	}
	for _, s := range spec.Scopes {
		if !p.Can(s) {
			return nil, beyond(fmt.Sprintf("with the scope %q", s))
		}
	}
	switch {
	case !seesKeysOf(p, spec.Environment):
		return nil, beyond("for live")
	case p.Network != "" && spec.Network != p.Network:
		return nil, beyond("for another network than " + p.Network)
	case len(spec.Name) > maxKeyName:
		return nil, dialect.Invalid(dialect.Issue{Path: []string{"name"}, Message: "has more than 256 bytes"})
	}
	token := key.Branded(spec.Brand, spec.Environment)
	change, err := c.control.Do(ctx, &control.CreateKey{
		Org: p.Org, Environment: spec.Environment, Scopes: spec.Scopes, Name: spec.Name, Hash: key.Hash(string(token)),
		ExpiresAt: spec.ExpiresAt.Truncate(time.Millisecond), Start: token.Start(), Network: spec.Network,
	})
	switch {
	case errors.Is(err, control.ErrLimit):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict,
			Message: fmt.Sprintf("there are %d keys already, the most that an org may have: delete one", control.MaxKeys)}
	case err != nil:
		return nil, refusal(err)
	}
	made := ownKey(change.Key)
	made.Token = token
	return &made, nil
}

// seesKeysOf reports whether keys of the environment are the caller's to see.
func seesKeysOf(p *key.Principal, env event.Environment) bool {
	return p.Environment == event.Live || env == event.Sandbox
}

// Keys lists the keys of the caller's org.
func (c *Core) Keys(_ context.Context, p *key.Principal) (all []dialect.Key, _ error) {
	for _, k := range c.control.Keys(p.Org) {
		if k.User == "" && seesKeysOf(p, k.Environment) {
			all = append(all, ownKey(k))
		}
	}
	return all, nil
}

// RevokeKey takes a key of the caller's org away.
func (c *Core) RevokeKey(ctx context.Context, p *key.Principal, id string) error {
	if _, err := ofCaller(ctx, c.control, func() *control.Key {
		if k := c.control.Key(id); k != nil && k.Org == p.Org && k.User == "" && seesKeysOf(p, k.Environment) {
			return k
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := c.control.Do(ctx, &control.RevokeKey{Org: p.Org, ID: id}); err != nil {
		return refusal(err)
	}
	return nil
}

func ownKey(k *control.Key) dialect.Key {
	return dialect.Key{
		ID: k.ID, Start: cmp.Or(k.Start, key.Prefix(key.OurBrand, k.Environment)), Name: k.Name, Environment: k.Environment,
		Network: k.Network, CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt,
	}
}
