package control

import (
	"context"
	"errors"
	"fmt"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// DefaultOrg is the org that the first start makes.
const DefaultOrg = "org_default"

// bootstrap makes the first org and its key, both or neither. ErrExists: there
// are orgs, or were.
type bootstrap struct {
	Org CreateOrg `json:"org"`
	Key CreateKey `json:"key"`
}

func (*bootstrap) op() string { return "bootstrap" }

func (cmd *bootstrap) apply(s *state, at stamp) ([]Change, error) {
	if len(s.orgs) > 0 || len(s.gone) > 0 {
		return nil, fmt.Errorf("bootstrap: %w", ErrExists)
	}
	// Whatever could refuse the key would do so for want of sense in the command,
	// and is asked before the org is made.
	if cmd.Key.Org != cmd.Org.ID || cmd.Key.ID == "" || !validEnvironment(cmd.Key.Environment) {
		return nil, fmt.Errorf("%w: bootstrap key", errUnreadable)
	}
	changes, err := cmd.Org.apply(s, at)
	if err != nil {
		return nil, err
	}
	keyChanges, err := cmd.Key.apply(s, at)
	return append(changes, keyChanges...), err
}

// Bootstrap makes the default org and its key, with all scopes, on a log that
// never had an org; firstStart says that it did. given is the key to use, of
// either environment; where it is empty a sandbox key is made and returned, to be
// shown this once. On any other log a given key is added to the default org if
// it isn't there.
func Bootstrap(ctx context.Context, c *Control, given string) (printedKey string, firstStart bool, err error) {
	token, env := given, event.Sandbox
	if given == "" {
		printedKey = string(key.New(env))
		token = printedKey
	} else if env, err = key.Check(given); err != nil {
		return "", false, fmt.Errorf("the bootstrap key is not well-formed: make one with: sluice key new")
	}
	if c.hadOrgs() && (given == "" || c.keyByHash(key.Hash(given)) != nil) {
		return "", false, nil // nothing to ask of the log
	}
	add := CreateKey{
		ID: newID("key_"), Org: DefaultOrg, Environment: env, Scopes: key.Scopes,
		Name: "bootstrap", Hash: key.Hash(token),
	}
	_, err = c.Do(ctx, &bootstrap{Org: CreateOrg{ID: DefaultOrg, Name: "Default", Plan: Enterprise}, Key: add})
	switch {
	case err == nil:
		return printedKey, true, nil
	case !errors.Is(err, ErrExists):
		return "", false, fmt.Errorf("make the first org: %w", err)
	case given == "":
		return "", false, nil
	}
	if _, err := c.Do(ctx, &add); err != nil && !errors.Is(err, ErrExists) {
		return "", false, fmt.Errorf("add the bootstrap key: %w", err)
	}
	return "", false, nil
}

func (c *Control) hadOrgs() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.state.orgs) > 0 || len(c.state.gone) > 0
}
