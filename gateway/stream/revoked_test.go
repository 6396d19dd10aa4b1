package stream_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// between does something once, right behind a look-up of a key.
type between struct {
	stream.Access
	do atomic.Pointer[func()]
}

func (b *between) Authenticate(ctx context.Context, token string) (*key.Principal, error) {
	p, err := b.Access.Authenticate(ctx, token)
	if do := b.do.Swap(nil); do != nil {
		(*do)()
	}
	return p, err
}

func (b *between) Known(token string) *key.Principal {
	p, _ := b.Authenticate(context.Background(), token)
	return p
}

// A key that is revoked when it was looked up, and nobody knows yet whose
// connection it will be, leaves none open.
func TestRevokedWhileAuthenticating(t *testing.T) { carried(t, testRevokedWhileAuthenticating) }

func testRevokedWhileAuthenticating(t *testing.T) {
	access := new(between)
	s := open(t, func(c *stream.Config) {
		access.Access = c.Access
		c.Access = access
	})
	token, id := s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
	revoke := func() { s.revoke(id) }
	access.do.Store(&revoke)
	c := s.dial()
	c.say(`{"type":"auth","token":"` + token + `"}`)
	c.wantError("unauthorized")
	c.wantClose(4401)
}

func TestRevokedWhileAsking(t *testing.T) { carried(t, testRevokedWhileAsking) }

func testRevokedWhileAsking(t *testing.T) {
	access := new(between)
	s := open(t, func(c *stream.Config) {
		access.Access = c.Access
		c.Access = access
	})
	var id string
	s.token, id = s.newKeyID(s.org, event.Sandbox, time.Time{}, key.Subscribe)
	revoke := func() { s.revoke(id) }
	then := func() { access.do.Store(&revoke) }
	access.do.Store(&then) // the server looks twice: for the body's bound, then for the call
	r := s.read("")
	r.want("unauthorized")
	r.wantEnd()
}

// bound has every key be for one network.
type bound struct{ stream.Access }

func (b bound) Authenticate(ctx context.Context, token string) (*key.Principal, error) {
	p, err := b.Access.Authenticate(ctx, token)
	if err == nil {
		of := *p
		of.Network, p = "testnet", &of
	}
	return p, err
}

func (b bound) Known(token string) *key.Principal {
	p, _ := b.Authenticate(context.Background(), token)
	return p
}

// A stream has events of all networks, so a key that is for one isn't let in.
func TestKeyForOneNetwork(t *testing.T) { carried(t, testKeyForOneNetwork) }

func testKeyForOneNetwork(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Access = bound{c.Access} })
	c := s.dial()
	c.say(`{"type":"auth","token":"` + s.newKey(s.org, event.Sandbox, time.Time{}, key.Subscribe) + `"}`)
	c.wantError("forbidden")
	c.say(`{"type":"subscribe","channels":["*"]}`)
	c.wantError("unauthorized")
}
