package control_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVar); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var topics = []eventlog.Topic{
	control.Topic,
	{Name: event.Sandbox.Topic(), Partitions: 1},
	{Name: event.Live.Topic(), Partitions: 1},
}

func sealer(t testing.TB) *control.Sealer {
	t.Helper()
	s, err := control.NewSealer([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, log eventlog.Log) *control.Control {
	t.Helper()
	c, err := control.Open(t.Context(), control.Config{Log: log, Sealer: sealer(t), Lanes: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func do(t testing.TB, c *control.Control, cmd control.Command) control.Change {
	t.Helper()
	change, err := c.Do(t.Context(), cmd)
	if err != nil {
		t.Fatalf("%T: %v", cmd, err)
	}
	return change
}

func refused(t testing.TB, c *control.Control, cmd control.Command, want error) {
	t.Helper()
	if _, err := c.Do(t.Context(), cmd); !errors.Is(err, want) {
		t.Fatalf("%T: got %v, want %v", cmd, err, want)
	}
}

const secret = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"

func newEndpoint(org string) *control.CreateEndpoint {
	return &control.CreateEndpoint{
		Org: org, Environment: event.Sandbox, Dialect: "d", URL: "https://example.com/hook",
		Patterns: []string{"rfq.*", "settlement.complete"}, Secret: endpoint.Secret(secret),
	}
}

// history makes some of everything and gives back an endpoint that is left.
func history(t testing.TB, c *control.Control) *endpoint.Endpoint {
	t.Helper()
	do(t, c, &control.CreateOrg{ID: "org_a", Name: "A", Plan: control.Pro, Email: "a@example.com"})
	do(t, c, &control.CreateOrg{ID: "org_b", Plan: control.Free})
	do(t, c, &control.CreateOrg{ID: "org_c", Plan: control.Starter})
	for _, org := range []string{"org_a", "org_b", "org_c"} {
		for _, env := range event.Environments {
			tok := key.New(env)
			do(t, c, &control.CreateKey{Org: org, Environment: env, Scopes: key.Scopes, Hash: key.Hash(string(tok))})
			cmd := newEndpoint(org)
			cmd.Environment = env
			do(t, c, cmd)
		}
	}
	do(t, c, &control.DeleteOrg{Org: "org_b"})
	do(t, c, &control.RevokeKey{Org: "org_a", ID: c.Keys("org_a")[0].ID})
	ep := do(t, c, newEndpoint("org_a")).Endpoint
	url, text, paused, pats := "https://example.com/other", "described", endpoint.Paused, []string{"*"}
	do(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, URL: &url, Description: &text, Status: &paused, Patterns: &pats})
	active := endpoint.Active
	ep = do(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, Status: &active}).Endpoint
	do(t, c, &control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: "5 failures"})
	do(t, c, &control.AddMissed{Endpoint: ep.ID, Count: 3})
	gone := do(t, c, newEndpoint("org_a")).Endpoint
	start := func(endpoint string) *control.Replay {
		return do(t, c, &control.StartReplay{Endpoint: endpoint, Since: time.Now().Add(-time.Hour), Patterns: pats}).Replay
	}
	start(gone.ID)
	do(t, c, &control.DeleteEndpoint{Endpoint: gone.ID})
	done, ended := start(ep.ID), start(ep.ID)
	do(t, c, &control.ReplayProgress{Endpoint: ep.ID, Replay: done.ID, Progress: control.Progress{Done: 1, Total: 2}})
	do(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: ended.ID})
	return c.Endpoint(ep.ID)
}

func TestReopenAndConverge(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	a, b := open(t, log), open(t, log)
	ep := history(t, a)
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	reopened := open(t, log)
	for name, c := range map[string]*control.Control{"the other node": b, "a node that starts now": reopened} {
		if c.StateHash() != a.StateHash() {
			t.Errorf("%s has another state", name)
		}
		if c.Incarnation() != a.Incarnation() || c.Lanes() != 16 {
			t.Errorf("%s has another log", name)
		}
		got := c.Endpoint(ep.ID)
		if got == nil || string(got.Secret) != secret || got.Missed != 3 || got.Status != endpoint.Disabled || got.Reason != "5 failures" || got.URL != ep.URL {
			t.Errorf("%s has %+v", name, got)
		}
	}
	other := open(t, eventlogtest.Mem(t, topics...))
	if other.StateHash() == a.StateHash() || other.Incarnation() == a.Incarnation() {
		t.Error("another log has the same state or incarnation")
	}
}

func TestEndpointLife(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	c := open(t, log)
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Pro})
	if _, err := log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	ep := do(t, c, newEndpoint("org_a")).Endpoint
	if ep.Epoch != 1 || ep.Version != 1 || ep.Status != endpoint.Active || ep.From != 1 || ep.CreatedAt.IsZero() || ep.Control != c.Applied() || !strings.HasPrefix(ep.ID, "wh_") {
		t.Fatalf("made %+v", ep)
	}
	step := func(cmd control.Command) *endpoint.Endpoint {
		t.Helper()
		change := do(t, c, cmd)
		if change.Endpoint.Version != change.EndpointBefore.Version+1 || change.Endpoint.Control != change.Offset || !reflect.DeepEqual(c.Endpoint(ep.ID), change.Endpoint) {
			t.Fatalf("%T: %+v", cmd, change)
		}
		return change.Endpoint
	}
	text, same, other := "x", ep.URL, ep.URL+"2"
	paused, active := endpoint.Paused, endpoint.Active
	if got := step(&control.UpdateEndpoint{Endpoint: ep.ID, Description: &text, URL: &same}); got.Epoch != 1 || got.Description != "x" {
		t.Errorf("described: %+v", got)
	}
	if got := step(&control.UpdateEndpoint{Endpoint: ep.ID, URL: &other}); got.Epoch != 2 {
		t.Errorf("a new URL: %+v", got)
	}
	if got := step(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused}); got.Status != endpoint.Paused || got.Epoch != 2 {
		t.Errorf("paused: %+v", got)
	}
	refused(t, c, &control.DisableEndpoint{Endpoint: ep.ID, Epoch: 2}, control.ErrConflict)
	step(&control.UpdateEndpoint{Endpoint: ep.ID, Status: &active})
	refused(t, c, &control.DisableEndpoint{Endpoint: ep.ID, Epoch: 1}, control.ErrConflict)
	// A changed description doesn't keep it from being disabled.
	step(&control.UpdateEndpoint{Endpoint: ep.ID, Description: &text})
	if got := step(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: 2, Reason: "dead"}); got.Status != endpoint.Disabled || got.Reason != "dead" || got.DisabledAt.IsZero() {
		t.Errorf("disabled: %+v", got)
	}
	refused(t, c, &control.DisableEndpoint{Endpoint: ep.ID, Epoch: 2}, control.ErrConflict)
	refused(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, Status: &active}, control.ErrDisabled)
	refused(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, Status: &paused}, control.ErrDisabled)
	step(&control.AddMissed{Endpoint: ep.ID, Count: 2})
	if got := step(&control.AddMissed{Endpoint: ep.ID, Count: 3}); got.Missed != 5 {
		t.Errorf("missed: %+v", got)
	}
	if got := step(&control.EnableEndpoint{Endpoint: ep.ID, Skip: 7}); got.Status != endpoint.Active || got.Reason != "" || !got.DisabledAt.IsZero() || got.Epoch != 3 || got.Skip != 7 || got.Missed != 0 {
		t.Errorf("enabled: %+v", got)
	}
	if got := step(&control.EnableEndpoint{Endpoint: ep.ID}); got.Epoch != 4 || got.Skip != 7 {
		t.Errorf("enabled again: %+v", got)
	}
	do(t, c, &control.DeleteEndpoint{Endpoint: ep.ID})
	for _, cmd := range []control.Command{
		&control.DeleteEndpoint{Endpoint: ep.ID}, &control.EnableEndpoint{Endpoint: ep.ID}, &control.UpdateEndpoint{Endpoint: ep.ID},
		&control.DisableEndpoint{Endpoint: ep.ID, Epoch: 4}, &control.AddMissed{Endpoint: ep.ID, Count: 1},
	} {
		refused(t, c, cmd, control.ErrNotFound)
	}
}

func TestOrgs(t *testing.T) {
	c := open(t, eventlogtest.Mem(t, topics...))
	made := do(t, c, &control.CreateOrg{Name: "made", Plan: control.Free}).Org
	if !strings.HasPrefix(made.ID, "org_") || c.Org(made.ID) != made {
		t.Errorf("made %+v", made)
	}
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	refused(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free}, control.ErrExists)
	pro := control.Pro
	org := do(t, c, &control.UpdateOrg{Org: "org_a", Version: 1, Plan: &pro}).Org
	if org.Plan != control.Pro || org.Version != 2 {
		t.Errorf("updated %+v", org)
	}
	refused(t, c, &control.UpdateOrg{Org: "org_a", Version: 1, Plan: &pro}, control.ErrConflict)
	refused(t, c, &control.UpdateOrg{Org: "org_z", Plan: &pro}, control.ErrNotFound)

	ep := do(t, c, newEndpoint("org_a")).Endpoint
	tok := string(key.New(event.Sandbox))
	do(t, c, &control.CreateKey{Org: "org_a", Environment: event.Sandbox, Scopes: key.Scopes, Hash: key.Hash(tok)})
	var told []control.Change
	stop := c.Watch(func(ch control.Change) { told = append(told, ch) })
	do(t, c, &control.DeleteOrg{Org: "org_a"})
	stop()
	if len(told) != 3 || told[0].KeyBefore == nil || !reflect.DeepEqual(told[1].EndpointBefore, ep) || told[2].OrgBefore != org {
		t.Errorf("told %+v", told)
	}
	if c.Org("org_a") != nil || c.Endpoint(ep.ID) != nil || len(c.Orgs()) != 1 || len(c.Keys("org_a")) != 0 {
		t.Error("something of a deleted org is left")
	}
	if _, err := c.Authenticate(t.Context(), tok); !errors.Is(err, control.ErrUnauthorized) {
		t.Errorf("a key of a deleted org: %v", err)
	}
	refused(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free}, control.ErrExists)
	refused(t, c, &control.DeleteOrg{Org: "org_a"}, control.ErrNotFound)
	refused(t, c, newEndpoint("org_a"), control.ErrNotFound)
}

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		a, b := open(t, log), open(t, log)
		do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
		tok := string(key.New(event.Live))
		cmd := &control.CreateKey{
			Org: "org_a", Environment: event.Live, Scopes: []key.Scope{key.Publish}, Hash: key.Hash(tok),
			ExpiresAt: time.Now().Add(time.Hour),
		}
		do(t, a, cmd)
		// Made on another node a moment ago.
		p, err := b.Authenticate(t.Context(), tok)
		if err != nil || p.Org != "org_a" || p.Environment != event.Live || p.KeyID != cmd.ID || !p.Can(key.Publish) || p.Can(key.Manage) {
			t.Errorf("got %+v, %v", p, err)
		}
		refused(t, b, &control.CreateKey{Org: "org_a", Environment: event.Live, Hash: key.Hash(tok)}, control.ErrExists)
		refused(t, b, &control.CreateKey{Org: "org_z", Environment: event.Live, Hash: key.Hash("x")}, control.ErrNotFound)
		refused(t, b, &control.RevokeKey{Org: "org_z", ID: cmd.ID}, control.ErrNotFound)
		for _, bad := range []string{"", "sk_test_", tok[:len(tok)-1] + "!", string(key.New(event.Live))} {
			if p, err := b.Authenticate(t.Context(), bad); !errors.Is(err, control.ErrUnauthorized) {
				t.Errorf("%q: %+v, %v", bad, p, err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := a.Authenticate(t.Context(), tok); !errors.Is(err, control.ErrExpired) {
			t.Errorf("an hour later: %v", err)
		}
		do(t, b, &control.RevokeKey{Org: "org_a", ID: cmd.ID})
		if err := a.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(t.Context(), tok); !errors.Is(err, control.ErrUnauthorized) {
			t.Errorf("revoked: %v", err)
		}
	})
}

func TestOneOfConflictingUpdatesWins(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	nodes := []*control.Control{open(t, log), open(t, log)}
	do(t, nodes[0], &control.CreateOrg{ID: "org_a", Plan: control.Free})
	ep := do(t, nodes[0], newEndpoint("org_a")).Endpoint
	const writers, rounds = 8, 25
	for round := range rounds {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for w := range writers {
			wg.Go(func() {
				text := strings.Repeat("x", w+1)
				_, err := nodes[w%2].Do(t.Context(), &control.UpdateEndpoint{Endpoint: ep.ID, Version: uint64(round + 1), Description: &text})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, control.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("round %d: %d won", round, won)
		}
	}
	for _, c := range nodes {
		if err := c.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v := c.Endpoint(ep.ID).Version; v != rounds+1 {
			t.Errorf("version %d after %d changes", v, rounds)
		}
	}
	if nodes[0].StateHash() != nodes[1].StateHash() {
		t.Error("the nodes differ")
	}
}

func TestLimits(t *testing.T) {
	c := open(t, eventlogtest.Mem(t, topics...))
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	errs := make(chan error)
	const tries = control.MaxEndpoints + 5
	for range tries {
		go func() {
			_, err := c.Do(context.Background(), newEndpoint("org_a"))
			errs <- err
		}()
	}
	made := 0
	for range tries {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, control.ErrLimit) {
			t.Error(err)
		}
	}
	if made != control.MaxEndpoints {
		t.Errorf("made %d", made)
	}
	live := newEndpoint("org_a")
	live.Environment = event.Live
	do(t, c, live)
}

// What a plan allows of a dialect's endpoints is exact, over both environments and all
// nodes, and bounds no other dialect's.
func TestPlanLimit(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	nodes := []*control.Control{open(t, log), open(t, log)}
	do(t, nodes[0], &control.CreateOrg{ID: "org_a", Plan: control.Free})
	other := newEndpoint("org_a")
	other.Dialect = "other"
	do(t, nodes[0], other)
	errs := make(chan error)
	const limit, tries = 10, 30
	for i := range tries {
		go func() {
			cmd := newEndpoint("org_a")
			cmd.Environment, cmd.OfDialect = event.Environments[i%2], limit
			_, err := nodes[i/2%2].Do(context.Background(), cmd)
			errs <- err
		}()
	}
	made := 0
	for range tries {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, control.ErrPlan) {
			t.Error(err)
		}
	}
	if made != limit {
		t.Errorf("made %d", made)
	}
	do(t, nodes[0], newEndpoint("org_a")) // without a bound
	if text := everything(t, log); strings.Count(text, `"v":4`) != tries {
		t.Errorf("of commands with a bound the log has %d", strings.Count(text, `"v":4`))
	}
	for _, c := range nodes {
		if err := c.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if nodes[0].StateHash() != nodes[1].StateHash() {
		t.Error("the nodes differ")
	}
}

func TestBootstrap(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	nodes := []*control.Control{open(t, log), open(t, log)}
	printed := make([]string, 2)
	var wg sync.WaitGroup
	firsts := 0
	var mu sync.Mutex
	for i, c := range nodes {
		wg.Go(func() {
			p, first, err := control.Bootstrap(t.Context(), c, "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil || first != (p != "") {
				t.Errorf("%q, %v, %v", p, first, err)
			}
			if printed[i] = p; first {
				firsts++
			}
		})
	}
	wg.Wait()
	if firsts != 1 {
		t.Fatalf("%d first starts", firsts)
	}
	c := nodes[0]
	p, err := c.Authenticate(t.Context(), printed[0]+printed[1])
	if err != nil || p.Org != control.DefaultOrg || p.Environment != event.Sandbox || len(p.Scopes) != 4 {
		t.Fatalf("%+v, %v", p, err)
	}
	if c.Org(control.DefaultOrg).Plan != control.Enterprise {
		t.Error("not on the enterprise plan")
	}
	// A later start prints nothing and writes nothing, unless it brings a key.
	if err := c.Fresh(t.Context()); err != nil { // the other nodes tried, too
		t.Fatal(err)
	}
	at := c.Applied()
	if p, first, err := control.Bootstrap(t.Context(), c, ""); p != "" || first || err != nil || c.Applied() != at {
		t.Errorf("again: %q, %v, %v", p, first, err)
	}
	given := string(key.New(event.Live))
	for range 2 {
		if p, first, err := control.Bootstrap(t.Context(), c, given); p != "" || first || err != nil {
			t.Errorf("given: %q, %v, %v", p, first, err)
		}
	}
	if p, err := c.Authenticate(t.Context(), given); err != nil || p.Environment != event.Live || len(c.Keys(control.DefaultOrg)) != 2 {
		t.Errorf("given: %+v, %v", p, err)
	}
	if _, _, err := control.Bootstrap(t.Context(), c, "sk_test_mistyped"); err == nil {
		t.Error("took a mistyped key")
	}

	fresh := open(t, eventlogtest.Mem(t, topics...))
	if p, first, err := control.Bootstrap(t.Context(), fresh, given); p != "" || !first || err != nil {
		t.Errorf("given first: %q, %v, %v", p, first, err)
	}
	if _, err := fresh.Authenticate(t.Context(), given); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	a, b := open(t, log), open(t, log)
	do(t, a, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	var order []int64
	stop := b.Watch(func(ch control.Change) { order = append(order, ch.Offset) })
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			c := []*control.Control{a, b}[w%2]
			for range 20 {
				ep := do(t, c, newEndpoint("org_a")).Endpoint
				c.Matching(&event.Event{Type: "rfq.created", Environment: event.Sandbox, Audience: event.Audience{All: true}, Offset: 1})
				do(t, c, &control.EnableEndpoint{Endpoint: ep.ID})
				c.Endpoints("org_a", event.Sandbox, 0, 10)
				if err := c.Fresh(t.Context()); err != nil {
					t.Error(err)
				}
				do(t, c, &control.DeleteEndpoint{Endpoint: ep.ID})
			}
		})
	}
	wg.Wait()
	if err := b.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := a.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(order) || len(order) != 8*20*3 {
		t.Errorf("told of %d changes, in order: %v", len(order), slices.IsSorted(order))
	}
	if a.StateHash() != b.StateHash() {
		t.Error("the nodes differ")
	}
}
