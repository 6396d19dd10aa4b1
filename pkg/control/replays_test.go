package control_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// A replay's times become places when it is made: nothing that is logged later is
// of it.
func TestReplayPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		c := open(t, log)
		defer c.Close()
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Pro})
		ep := do(t, c, newEndpoint("org_a")).Endpoint
		var at []time.Time
		for range 5 {
			time.Sleep(time.Minute)
			at = append(at, time.Now())
			put := eventlog.Record{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: []byte("x")}
			if _, err := log.Append(t.Context(), []eventlog.Record{put}); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]struct {
			since, until time.Time
			from, to     int64
		}{
			"all":             {time.Unix(0, 0), time.Time{}, 0, 5},
			"from the second": {at[1], time.Time{}, 1, 5},
			"a part":          {at[1], at[3], 1, 3},
			"up to tomorrow":  {at[4], at[4].Add(24 * time.Hour), 4, 5},
			"none":            {at[1].Add(1), at[1].Add(2), 2, 2},
			"upside down":     {at[4], at[1], 4, 4},
		} {
			r := do(t, c, &control.StartReplay{Endpoint: ep.ID, Since: want.since, Until: want.until}).Replay
			if r.From != want.from || r.To != want.to || r.Total != want.to-want.from || r.Environment != event.Sandbox || r.Org != "org_a" {
				t.Errorf("%s: %+v", name, r)
			}
			do(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: r.ID})
		}
	})
}

// An endpoint, an org and all together have so many replays at a time; ended ones
// are forgotten after a while, and before that if there are many.
func TestReplayLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, eventlogtest.Mem(t, topics...))
		defer c.Close()
		for i := range 40 {
			do(t, c, &control.CreateOrg{ID: fmt.Sprint("org_", i), Plan: control.Pro})
		}
		ep := do(t, c, newEndpoint("org_0")).Endpoint
		start := func(id string) *control.StartReplay { return &control.StartReplay{Endpoint: id, Since: time.Now()} }
		var first *control.Replay
		for range 4 {
			r := do(t, c, start(ep.ID)).Replay
			if first == nil {
				first = r
			}
		}
		refused(t, c, start(ep.ID), control.ErrLimit)
		end := &control.ReplayProgress{Endpoint: ep.ID, Replay: first.ID, Progress: control.Progress{Delivered: 7}, Ended: true}
		do(t, c, end)
		refused(t, c, end, control.ErrConflict)
		refused(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: first.ID}, control.ErrConflict)
		refused(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: "rpl_x"}, control.ErrNotFound)
		refused(t, c, start("wh_x"), control.ErrNotFound)
		for range 30 { // room for one more, and those that ended make room
			r := do(t, c, start(ep.ID)).Replay
			do(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: r.ID})
			do(t, c, &control.CancelReplay{Endpoint: ep.ID, Replay: r.ID})
			do(t, c, &control.ReplayProgress{Endpoint: ep.ID, Replay: r.ID, Progress: control.Progress{Delivered: 1}})
		}
		if n := len(c.Replays(ep.ID)); n != 20 || c.Replay(ep.ID, first.ID) != nil || len(c.Replaying()) != 3 {
			t.Errorf("%d are remembered, %d go on, the first is %v", n, len(c.Replaying()), c.Replay(ep.ID, first.ID))
		}

		of := func(org string) (started int) {
			for range 10 {
				more := do(t, c, newEndpoint(org)).Endpoint
				for range 4 {
					if _, err := c.Do(t.Context(), start(more.ID)); err == nil {
						started++
					}
				}
			}
			return started
		}
		if n := of("org_0"); n != 29 {
			t.Errorf("the org has %d more", n)
		}
		all := 32
		for i := 1; i < 40; i++ {
			all += of(fmt.Sprint("org_", i))
		}
		if all != 1024 {
			t.Errorf("%d in all", all)
		}
		do(t, c, &control.DeleteOrg{Org: "org_0"})
		if n := len(c.Replaying()); n != 1024-32 {
			t.Errorf("%d go on without an org", n)
		}
	})
}

func TestReplaysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, eventlogtest.Mem(t, topics...))
		defer c.Close()
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Pro})
		a, b := do(t, c, newEndpoint("org_a")).Endpoint, do(t, c, newEndpoint("org_a")).Endpoint
		r := do(t, c, &control.StartReplay{Endpoint: a.ID, Since: time.Now()}).Replay
		do(t, c, &control.StartReplay{Endpoint: a.ID, Since: time.Now()})
		do(t, c, &control.CancelReplay{Endpoint: a.ID, Replay: r.ID})
		time.Sleep(control.ReplayKept)
		if n := len(c.Replays(a.ID)); n != 1 {
			t.Errorf("%d are shown", n)
		}
		do(t, c, &control.StartReplay{Endpoint: b.ID, Since: time.Now()})
		if c.Replay(a.ID, r.ID) != nil || len(c.Replaying()) != 2 {
			t.Errorf("%v is remembered, %d go on", c.Replay(a.ID, r.ID), len(c.Replaying()))
		}
	})
}
