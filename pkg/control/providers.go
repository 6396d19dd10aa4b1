package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/pkg/endpoint"
)

// Provider is who may send webhooks to an org: those that are signed with its secret
// become the org's events.
type Provider struct {
	Org       string
	Name      string
	UpdatedAt time.Time

	created int64  // offset of the command that made it
	sealed  sealed // without headers
}

// SetProvider gives an org's provider a secret; the one that is the newest already stays
// the newest. ErrConflict: it was set meanwhile. ErrLimit: MaxPrevious secrets are good
// already beside the newest.
type SetProvider struct {
	Org      string `json:"org"`
	Provider string `json:"provider"`
	NewSecret
}

func (*SetProvider) op() string { return "provider.set" }

func (cmd *SetProvider) prepare(_ context.Context, c *Control) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cmd.Version = firstSecret
	if p := c.state.providers[cmd.Org][cmd.Provider]; p != nil {
		cmd.Version = p.sealed.version + 1
	}
	cmd.Sealed = c.sealer.Seal(cmd.Secret, cmd.Org, sealedFor(cmd.Provider), cmd.Version)
	return nil
}

// sealedFor stands in the place of an endpoint's id, which never has a colon.
func sealedFor(provider string) string { return "provider:" + provider }

func (cmd *SetProvider) apply(s *state, at stamp) ([]Change, error) {
	if cmd.Provider == "" || !validOverlap(cmd.Overlap) {
		return nil, fmt.Errorf("%w: provider %q, overlap of %d s", errUnreadable, cmd.Provider, cmd.Overlap)
	}
	given, err := s.sealer.Open(cmd.Sealed, cmd.Org, sealedFor(cmd.Provider), cmd.Version)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	org, before := s.orgs[cmd.Org], s.providers[cmd.Org][cmd.Provider]
	if org == nil {
		return nil, fmt.Errorf("set provider of org %s: %w", cmd.Org, ErrNotFound)
	}
	after := &Provider{Org: org.ID, Name: cmd.Provider, UpdatedAt: at.at, created: at.offset}
	if before != nil {
		after.created, after.sealed = before.created, before.sealed
		if bytes.Equal(given, before.secrets(s.sealer, at.at)[0]) {
			after.sealed.secret = "" // it isn't replaced, but goes on under another version
		}
	}
	if err := after.sealed.rotate(&cmd.NewSecret, at.at); err != nil {
		return nil, fmt.Errorf("set provider %s of org %s: %w", cmd.Provider, cmd.Org, err)
	}
	s.replaceProvider(before, after)
	return nil, nil
}

// RemoveProvider takes an org's provider away, with its secrets.
type RemoveProvider struct {
	Org      string `json:"org"`
	Provider string `json:"provider"`
}

func (*RemoveProvider) op() string { return "provider.remove" }

func (cmd *RemoveProvider) apply(s *state, _ stamp) ([]Change, error) {
	before := s.providers[cmd.Org][cmd.Provider]
	if before == nil {
		return nil, fmt.Errorf("remove provider %s of org %s: %w", cmd.Provider, cmd.Org, ErrNotFound)
	}
	s.replaceProvider(before, nil)
	return nil, nil
}

// Providers lists an org's providers by name.
func (c *Control) Providers(org string) []*Provider {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return providersOf(c.state, org)
}

// ProviderSecrets gives the secrets with which the org's provider may have signed what
// comes at that time, the newest first; none: there is no such provider.
func (c *Control) ProviderSecrets(org, provider string, at time.Time) []endpoint.Secret {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p := c.state.providers[org][provider]; p != nil {
		return p.secrets(c.sealer, at)
	}
	return nil
}

// secrets opens what is good at that time.
func (p *Provider) secrets(sealer *Sealer, at time.Time) []endpoint.Secret {
	all := []sealedSecret{{secret: p.sealed.secret, version: p.sealed.version}}
	for _, old := range slices.Backward(p.sealed.previous) {
		if at.Before(old.until) {
			all = append(all, old)
		}
	}
	out := make([]endpoint.Secret, len(all))
	for i := range all {
		secret, err := sealer.Open([]byte(all[i].secret), p.Org, sealedFor(p.Name), all[i].version)
		if err != nil {
			// It was opened with the same keys before it came into the state.
			panic(fmt.Sprintf("control: provider %s of org %s: %v", p.Name, p.Org, err))
		}
		out[i] = secret
	}
	return out
}

func providersOf(s *state, org string) []*Provider {
	list := make([]*Provider, 0, len(s.providers[org]))
	for _, name := range slices.Sorted(maps.Keys(s.providers[org])) {
		list = append(list, s.providers[org][name])
	}
	return list
}

// replaceProvider puts a provider in the place of the one before; nil: there is none.
func (s *state) replaceProvider(before, after *Provider) {
	if before != nil {
		delete(s.providers[before.Org], before.Name)
		if len(s.providers[before.Org]) == 0 {
			delete(s.providers, before.Org)
		}
		s.toggle(appendProvider(s.buf, before))
	}
	if after != nil {
		if s.providers[after.Org] == nil {
			s.providers[after.Org] = make(map[string]*Provider)
		}
		s.providers[after.Org][after.Name] = after
		s.toggle(appendProvider(s.buf, after))
	}
}

func appendProvider(b []byte, p *Provider) []byte {
	b = append(b, kindProvider)
	b = binary.AppendVarint(b, p.created)
	b = appendText(b, p.Org)
	b = appendText(b, p.Name)
	b = appendTime(b, p.UpdatedAt)
	b = appendText(b, p.sealed.secret)
	b = binary.AppendUvarint(b, uint64(p.sealed.version))
	return appendPrevious(b, p.sealed.previous)
}

// loadProvider adds a provider of an org that was loaded before, once its secrets
// could be opened.
func (s *state) loadProvider(in *reader) error {
	p := &Provider{created: in.varint(), Org: in.text(), Name: in.text(), UpdatedAt: in.time()}
	p.sealed.secret, p.sealed.version = in.text(), uint32(in.uvarint())
	p.sealed.previous = in.previous()
	org := s.orgs[p.Org]
	if !in.done() || org == nil || p.Name == "" || s.providers[p.Org][p.Name] != nil {
		return errDamaged
	}
	p.Org = org.ID
	for _, old := range append(p.sealed.previous, sealedSecret{secret: p.sealed.secret, version: p.sealed.version}) {
		if _, err := s.sealer.Open([]byte(old.secret), p.Org, sealedFor(p.Name), old.version); err != nil {
			return err
		}
	}
	s.replaceProvider(nil, p)
	return nil
}
