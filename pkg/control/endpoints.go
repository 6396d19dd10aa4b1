package control

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// MaxEndpoints bounds the endpoints of one org in one environment.
const MaxEndpoints = 1000

// CreateEndpoint registers an endpoint. Do makes ID and looks up From, the end
// of its environment's events: what was published before is not owed to it.
// ErrLimit, ErrPlan: the org has as many as it may, of all or of this dialect.
type CreateEndpoint struct {
	ID          string            `json:"id"`
	Prefix      string            `json:"-"` // how ID begins; empty: wh_
	Org         string            `json:"org"`
	Environment event.Environment `json:"environment"`
	Dialect     string            `json:"dialect"`
	URL         string            `json:"url"`
	Patterns    []string          `json:"patterns"`
	Description string            `json:"description,omitzero"`
	Secret      endpoint.Secret   `json:"-"` // never in the log
	Sealed      []byte            `json:"sealed"`
	From        int64             `json:"from"`
	Limit       int               `json:"limit,omitzero"`     // endpoints the org may have there; Do sets it
	OfDialect   int               `json:"ofDialect,omitzero"` // those of the dialect that it may have in both environments; 0: any number

	Options endpoint.OptionsPatch `json:"options,omitzero"`
	Headers []byte                `json:"headers,omitzero"` // those of Options, sealed
}

func (*CreateEndpoint) op() string { return "endpoint.create" }

// version 4 may have a bound on endpoints of its dialect.
func (cmd *CreateEndpoint) version() (needs, known int) {
	needs, _ = optionsVersion(&cmd.Options, cmd.Headers)
	if cmd.OfDialect != 0 {
		needs = 4
	}
	return needs, 4
}

func (cmd *CreateEndpoint) prepare(ctx context.Context, c *Control) error {
	cmd.ID = newID(cmp.Or(cmd.Prefix, "wh_"))
	cmd.Limit = MaxEndpoints
	cmd.Sealed = c.sealer.Seal(cmd.Secret, cmd.Org, cmd.ID, firstSecret)
	var err error
	if cmd.Headers, err = c.sealer.sealHeaders(cmd.Options.Headers, cmd.Org, cmd.ID); err != nil {
		return err
	}
	if _, cmd.From, err = c.log.Bounds(ctx, eventlog.Partition{Topic: cmd.Environment.Topic()}); err != nil {
		return fmt.Errorf("look up end of events: %w: %w", ErrUnavailable, err)
	}
	return nil
}

func (cmd *CreateEndpoint) apply(s *state, at stamp) ([]Change, error) {
	patterns, err := parsePatterns(cmd.Patterns)
	if err != nil || cmd.ID == "" || !validEnvironment(cmd.Environment) {
		return nil, fmt.Errorf("%w: endpoint without id, environment or patterns", errUnreadable)
	}
	secret, err := s.sealer.Open(cmd.Sealed, cmd.Org, cmd.ID, firstSecret)
	if err == nil {
		err = checkOptions(&cmd.Options)
	}
	if err == nil {
		cmd.Options.Headers, err = s.sealer.openHeaders(cmd.Headers, cmd.Org, cmd.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	switch {
	case s.orgs[cmd.Org] == nil:
		return nil, fmt.Errorf("create endpoint of org %s: %w", cmd.Org, ErrNotFound)
	case s.endpoints[cmd.ID] != nil:
		return nil, fmt.Errorf("create endpoint %s: %w", cmd.ID, ErrExists)
	case cmd.Limit > 0 && len(s.endpointsOf(cmd.Org, cmd.Environment)) >= cmd.Limit:
		return nil, fmt.Errorf("create endpoint of org %s: %d endpoints: %w", cmd.Org, cmd.Limit, ErrLimit)
	case cmd.OfDialect > 0 && s.countDialect(cmd.Org, cmd.Dialect) >= cmd.OfDialect:
		return nil, fmt.Errorf("create endpoint of org %s: %d of %s: %w", cmd.Org, cmd.OfDialect, cmd.Dialect, ErrPlan)
	}
	ep := &endpoint.Endpoint{
		ID: cmd.ID, Org: s.orgs[cmd.Org].ID, Environment: cmd.Environment, Dialect: cmd.Dialect, URL: cmd.URL,
		Patterns: patterns, Description: cmd.Description, Secret: secret, Status: endpoint.Active,
		CreatedAt: at.at, UpdatedAt: at.at, From: cmd.From, Epoch: 1, Version: 1, Control: at.offset,
	}
	sealed := sealed{secret: string(cmd.Sealed), version: firstSecret}
	setOptions(ep, &sealed, &cmd.Options, cmd.Headers)
	s.addEndpoint(s.pack(ep, at.offset, &sealed))
	return []Change{{Offset: at.offset, Endpoint: ep}}, nil
}

// countDialect counts an org's endpoints of a dialect.
func (s *state) countDialect(org, dialect string) (n int) {
	for _, env := range event.Environments {
		for _, e := range s.endpointsOf(org, env) {
			if e.group.dialect == dialect {
				n++
			}
		}
	}
	return n
}

func parsePatterns(texts []string) (event.Patterns, error) {
	patterns := make(event.Patterns, len(texts))
	for i, t := range texts {
		p, err := event.ParsePattern(t)
		if err != nil {
			return nil, err
		}
		patterns[i] = p
	}
	return patterns, nil
}

// UpdateEndpoint changes the members that aren't nil. Version is the one that is
// expected, 0 any; ErrConflict: it is another. A new URL raises the epoch.
// Status pauses, or ends a pause; ErrDisabled: only EnableEndpoint can.
type UpdateEndpoint struct {
	Endpoint    string           `json:"endpoint"`
	Version     uint64           `json:"version,omitzero"`
	URL         *string          `json:"url,omitzero"`
	Patterns    *[]string        `json:"patterns,omitzero"`
	Description *string          `json:"description,omitzero"`
	Status      *endpoint.Status `json:"status,omitzero"`

	Options endpoint.OptionsPatch `json:"options,omitzero"`
	Headers []byte                `json:"headers,omitzero"` // those of Options, sealed
}

func (*UpdateEndpoint) op() string { return "endpoint.update" }

func (cmd *UpdateEndpoint) version() (needs, known int) {
	return optionsVersion(&cmd.Options, cmd.Headers)
}

func (cmd *UpdateEndpoint) prepare(_ context.Context, c *Control) error {
	if cmd.Options.Headers == nil {
		return nil
	}
	ep := c.Endpoint(cmd.Endpoint)
	if ep == nil {
		return fmt.Errorf("endpoint %s: %w", cmd.Endpoint, ErrNotFound)
	}
	var err error
	cmd.Headers, err = c.sealer.sealHeaders(cmd.Options.Headers, ep.Org, ep.ID)
	return err
}

func (cmd *UpdateEndpoint) apply(s *state, at stamp) ([]Change, error) {
	var patterns event.Patterns
	if cmd.Patterns != nil {
		var err error
		if patterns, err = parsePatterns(*cmd.Patterns); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	if cmd.Status != nil && *cmd.Status != endpoint.Active && *cmd.Status != endpoint.Paused {
		return nil, fmt.Errorf("%w: status %q", errUnreadable, *cmd.Status)
	}
	err := checkOptions(&cmd.Options)
	if e := s.endpoints[cmd.Endpoint]; e != nil && err == nil {
		cmd.Options.Headers, err = s.sealer.openHeaders(cmd.Headers, e.home.org, cmd.Endpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return s.change(cmd.Endpoint, at, "update", func(ep *endpoint.Endpoint, sealed *sealed) error {
		switch {
		case cmd.Version != 0 && cmd.Version != ep.Version:
			return fmt.Errorf("version %d, not %d: %w", ep.Version, cmd.Version, ErrConflict)
		case cmd.Status != nil && ep.Status == endpoint.Disabled:
			return ErrDisabled
		}
		if cmd.URL != nil && *cmd.URL != ep.URL {
			ep.URL = *cmd.URL
			ep.Epoch++
		}
		if patterns != nil {
			ep.Patterns = patterns
		}
		set(&ep.Description, cmd.Description)
		set(&ep.Status, cmd.Status)
		setOptions(ep, sealed, &cmd.Options, cmd.Headers)
		ep.UpdatedAt = at.at
		return nil
	})
}

// change replaces an endpoint by what edit makes of a copy of it.
func (s *state) change(id string, at stamp, verb string, edit func(*endpoint.Endpoint, *sealed) error) ([]Change, error) {
	before := s.endpoints[id]
	if before == nil {
		return nil, fmt.Errorf("%s endpoint %s: %w", verb, id, ErrNotFound)
	}
	was := before.endpoint(s.sealer)
	ep, sealed := *was, before.sealed()
	if err := edit(&ep, &sealed); err != nil {
		return nil, fmt.Errorf("%s endpoint %s: %w", verb, id, err)
	}
	ep.Version++
	ep.Control = at.offset
	s.replaceEndpoint(before, s.pack(&ep, before.created, &sealed))
	return []Change{{Offset: at.offset, Endpoint: &ep, EndpointBefore: was}}, nil
}

// EnableEndpoint makes an endpoint active and begins a new epoch, whatever state
// it was in: failures of before count no more. Its count of missed ones begins
// anew; the Change still has the old one in EndpointBefore.
type EnableEndpoint struct {
	Endpoint string `json:"endpoint"`
	// Skip is the offset of its environment's events below which nothing is sent
	// to it any more; 0: nothing changes about that.
	Skip int64 `json:"skip,omitzero"`
}

func (*EnableEndpoint) op() string { return "endpoint.enable" }

func (cmd *EnableEndpoint) apply(s *state, at stamp) ([]Change, error) {
	return s.change(cmd.Endpoint, at, "enable", func(ep *endpoint.Endpoint, _ *sealed) error {
		ep.Status, ep.Reason, ep.DisabledAt = endpoint.Active, "", time.Time{}
		ep.Epoch++
		ep.Skip = max(ep.Skip, cmd.Skip)
		ep.Missed = 0
		ep.UpdatedAt = at.at
		return nil
	})
}

// DisableEndpoint stops an endpoint that fails. It expects the epoch in which it
// failed, and that it is active. ErrConflict: that has changed, and what was
// seen of it says nothing any more.
type DisableEndpoint struct {
	Endpoint string `json:"endpoint"`
	Epoch    uint64 `json:"epoch"`
	Reason   string `json:"reason"`
}

func (*DisableEndpoint) op() string { return "endpoint.disable" }

func (cmd *DisableEndpoint) apply(s *state, at stamp) ([]Change, error) {
	return s.change(cmd.Endpoint, at, "disable", func(ep *endpoint.Endpoint, _ *sealed) error {
		if ep.Epoch != cmd.Epoch || ep.Status != endpoint.Active {
			return fmt.Errorf("epoch %d and %s, not %d and active: %w", ep.Epoch, ep.Status, cmd.Epoch, ErrConflict)
		}
		ep.Status, ep.Reason, ep.DisabledAt = endpoint.Disabled, cmd.Reason, at.at
		ep.UpdatedAt = at.at
		return nil
	})
}

// DeleteEndpoint takes an endpoint away.
type DeleteEndpoint struct {
	Endpoint string `json:"endpoint"`
}

func (*DeleteEndpoint) op() string { return "endpoint.delete" }

func (cmd *DeleteEndpoint) apply(s *state, at stamp) ([]Change, error) {
	e := s.endpoints[cmd.Endpoint]
	if e == nil {
		return nil, fmt.Errorf("delete endpoint %s: %w", cmd.Endpoint, ErrNotFound)
	}
	s.removeEndpoint(e)
	return []Change{{Offset: at.offset, EndpointBefore: e.endpoint(s.sealer)}}, nil
}

// AddMissed counts deliveries that expired before an endpoint could take them.
type AddMissed struct {
	Endpoint string `json:"endpoint"`
	Count    int64  `json:"count"`
}

func (*AddMissed) op() string { return "endpoint.missed" }

func (cmd *AddMissed) apply(s *state, at stamp) ([]Change, error) {
	if cmd.Count <= 0 {
		return nil, fmt.Errorf("%w: count %d", errUnreadable, cmd.Count)
	}
	return s.change(cmd.Endpoint, at, "count missed of", func(ep *endpoint.Endpoint, _ *sealed) error {
		ep.Missed += cmd.Count
		return nil
	})
}
