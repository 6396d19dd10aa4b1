package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// The ways in which a token can be refused.
var (
	ErrUnauthorized = errors.New("key is not known")
	ErrExpired      = errors.New("key has expired")
)

// Authenticate says who calls with the token. A mistyped one is refused without
// a look-up; one that isn't known is looked for once more when the state is as
// new as the log, for it may have been made on another node a moment ago. That
// takes lookFor at most.
func (c *Control) Authenticate(ctx context.Context, token string) (*key.Principal, error) {
	if p := c.Known(token); p != nil {
		return p, nil
	}
	if _, err := key.Check(token); err != nil {
		return nil, ErrUnauthorized
	}
	hash := key.Hash(token)
	k := c.keyByHash(hash)
	if k == nil {
		within, cancel := context.WithTimeout(ctx, lookFor)
		defer cancel()
		if err := c.Recheck(within); err != nil {
			return nil, err
		}
		if k = c.keyByHash(hash); k == nil {
			return nil, ErrUnauthorized
		}
	}
	if k.Expired(time.Now()) {
		return nil, ErrExpired
	}
	return k.Principal(), nil
}

// Known gives who a token stands for where its key is known here and hasn't expired;
// nil: Authenticate finds out. It doesn't wait.
func (c *Control) Known(token string) *key.Principal {
	if _, err := key.Check(token); err != nil {
		return nil
	}
	k := c.keyByHash(key.Hash(token))
	if k == nil || k.Expired(time.Now()) {
		return nil
	}
	return k.Principal()
}

// lookFor bounds how long a key is looked for that isn't known here.
const lookFor = 2 * time.Second

// keyByHash finds a key. A map look-up takes a time that depends on the hash, and
// whoever measures it learns nothing that helps to find a token.
func (c *Control) keyByHash(hash [32]byte) *Key {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.keyByHash[hash]
}

// Org gives an org, or nil.
func (c *Control) Org(id string) *Org {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.orgs[id]
}

// Orgs lists all orgs in order of creation.
func (c *Control) Orgs() []*Org {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*Org, len(c.state.orgIDs))
	for i, id := range c.state.orgIDs {
		out[i] = c.state.orgs[id]
	}
	return out
}

// Key gives a key by its id, or nil.
func (c *Control) Key(id string) *Key {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.keys[id]
}

// Keys lists an org's keys in order of creation.
func (c *Control) Keys(org string) []*Key {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.state.keysOf[org])
}

// Endpoint gives an endpoint, of whichever org, or nil.
func (c *Control) Endpoint(id string) *endpoint.Endpoint {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.state.endpoints[id]; e != nil {
		return e.endpoint(c.sealer)
	}
	return nil
}

// HasEndpoint reports whether there is an endpoint of that id. It opens no secret.
func (c *Control) HasEndpoint(id string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.endpoints[id] != nil
}

// Endpoints lists an org's endpoints in an environment in order of creation,
// those behind the place after; 0 is before the first. next is the place of the
// page's last, 0 where the page ends the list.
func (c *Control) Endpoints(org string, env event.Environment, after int64, limit int) (page []*endpoint.Endpoint, next int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := c.state.endpointsOf(org, env)
	i, _ := slices.BinarySearchFunc(list, after+1, byCreation)
	rest := list[i:]
	if len(rest) > limit {
		rest = rest[:limit]
		next = rest[limit-1].created
	}
	for _, e := range rest {
		page = append(page, e.endpoint(c.sealer))
	}
	return page, next
}

// CountEndpoints counts an org's endpoints of a dialect in both environments, and those
// among them that are active.
func (c *Control) CountEndpoints(org, dialect string) (all, active int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, env := range event.Environments {
		for _, e := range c.state.endpointsOf(org, env) {
			if e.group.dialect != dialect {
				continue
			}
			all++
			var ep endpoint.Endpoint
			if e.unpack(&ep); ep.Status == endpoint.Active {
				active++
			}
		}
	}
	return all, active
}

// Matching lists the endpoints that are owed the event by their ids, whatever their
// status; those of one org with the same patterns in order of creation.
func (c *Control) Matching(ev *event.Event) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !validEnvironment(ev.Environment) {
		return nil
	}
	var out []string
	v := verdicts{ev: ev}
	if ev.Audience.All {
		for _, g := range c.state.wanted[ev.Environment].matching(ev.Type) {
			if v.match(g.filter) {
				out = appendWanting(out, g.entries, ev, &v)
			}
		}
		return out
	}
	for _, org := range ev.Audience.Orgs {
		out = appendWanting(out, c.state.endpointsOf(org, ev.Environment), ev, &v)
	}
	return out
}

func appendWanting(dst []string, list []*entry, ev *event.Event, v *verdicts) []string {
	for _, e := range list {
		if !e.wants(ev, v) {
			continue
		}
		if id := e.id(); !ev.TellsOf(id) {
			dst = append(dst, id)
		}
	}
	return dst
}

// Unwell lists those of an org's endpoints that are disabled, or missed something
// since they were enabled last.
func (c *Control) Unwell(org string) (unwell []*endpoint.Endpoint) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, env := range event.Environments {
		for _, e := range c.state.endpointsOf(org, env) {
			var ep endpoint.Endpoint
			e.unpack(&ep) // a secret is opened where somebody needs it
			if ep.Status == endpoint.Disabled || ep.Missed > 0 {
				unwell = append(unwell, e.endpoint(c.sealer))
			}
		}
	}
	return unwell
}

// StateHash is a fingerprint of the whole state: nodes that applied the same
// commands have the same, however they came to it.
func (c *Control) StateHash() [32]byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.hash
}
