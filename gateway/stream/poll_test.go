package stream_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// slowAccess has whoever isn't known wait until it is let go.
type slowAccess struct {
	stream.Access
	asked, free chan struct{}
}

func (a slowAccess) Authenticate(ctx context.Context, token string) (*key.Principal, error) {
	a.asked <- struct{}{}
	<-a.free
	return a.Access.Authenticate(ctx, token)
}

// TestSlowLookUp: while a key is looked up, everybody else of the shard is heard.
func TestSlowLookUp(t *testing.T) { carried(t, testSlowLookUp) }

func testSlowLookUp(t *testing.T) {
	access := slowAccess{asked: make(chan struct{}, 1), free: make(chan struct{})}
	s := open(t, func(c *stream.Config) {
		c.Shards = 1
		access.Access = c.Access
		c.Access = access
	})
	other := s.join(`"*"`)
	free := sync.OnceFunc(func() { close(access.free) })
	defer free()
	slow := s.dial()
	slow.say(`{"type":"auth","token":"` + string(key.New(event.Sandbox)) + `"}`)
	select {
	case <-access.asked:
	case <-time.After(10 * time.Second):
		t.Fatal("no key is looked up")
	}
	other.say(`{"type":"ping"}`)
	other.want("pong")
	newcomer := s.join(`"rfq.*"`)
	s.publish("rfq.created")
	for _, c := range []*client{other, newcomer} {
		c.want("rfq.created")
	}
	free()
	slow.wantError("unauthorized")
	slow.wantClose(4401)
}

// TestLongInput: who sends more than the poller reads in a row is heard to the end, and
// so is everybody else.
func TestLongInput(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Shards = 1 })
	long, other := s.join(`"*"`), s.join(`"*"`)
	for range 3 {
		long.say(`{"type":"ping","pad":"` + strings.Repeat("x", 60<<10) + `"}`)
		other.say(`{"type":"ping"}`)
		long.want("pong")
		other.want("pong")
	}
}
