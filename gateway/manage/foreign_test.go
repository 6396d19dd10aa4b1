package manage_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"sluice/gateway/manage"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
)

// looks is a log that counts how often it is looked at.
type looks struct {
	eventlog.Log
	n atomic.Int64
}

func (l *looks) Bounds(ctx context.Context, p eventlog.Partition) (start, end int64, err error) {
	l.n.Add(1)
	return l.Log.Bounds(ctx, p)
}

// What is another's costs what there never was costs, so that no clock tells them apart.
func TestForeignIsAsMuchWorkAsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t)
		log := &looks{Log: w.log}
		here := &world{log: log}
		here.control = here.node(t)
		core := manage.NewCore(here.control, log, checkURL, dialects, nil)
		ep, err := core.CreateEndpoint(t.Context(), owner, spec())
		if err != nil {
			t.Fatal(err)
		}
		made, err := core.CreateKey(t.Context(), ownerLive, dialect.KeySpec{Brand: "acme", Environment: event.Live, Scopes: []key.Scope{key.Publish}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		for what, c := range map[string]struct {
			theirs, nobodys string
			ask             func(p *key.Principal, id string) error
		}{
			"an endpoint": {ep.ID, "wh_never", func(p *key.Principal, id string) error { _, err := core.Endpoint(ctx, p, id); return err }},
			"to delete":   {ep.ID, "wh_never", func(p *key.Principal, id string) error { return core.DeleteEndpoint(ctx, p, id) }},
			"its replay":  {ep.ID, "wh_never", func(p *key.Principal, id string) error { _, err := core.Replay(ctx, p, id, "rpl_1"); return err }},
			"a key":       {made.ID, "key_never", func(p *key.Principal, id string) error { return core.RevokeKey(ctx, p, id) }},
		} {
			for _, p := range []*key.Principal{stranger, principal("org_b", event.Live)} {
				cost := func(id string) int64 {
					before := log.n.Load()
					wantError(t, c.ask(p, id), 404, dialect.NotFound)
					return log.n.Load() - before
				}
				if theirs, nobodys := cost(c.theirs), cost(c.nobodys); theirs != nobodys || theirs == 0 {
					t.Errorf("%s: the log is looked at %d times for what is another's, and %d for what never was", what, theirs, nobodys)
				}
			}
		}
	})
}
