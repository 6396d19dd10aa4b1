package control_test

import (
	"fmt"
	"slices"
	"testing"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

func TestMatching(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	c := open(t, log)
	var want []string
	for _, org := range []string{"org_a", "org_b", "org_c"} {
		do(t, c, &control.CreateOrg{ID: org, Plan: control.Free})
		want = append(want, do(t, c, newEndpoint(org)).Endpoint.ID)
		live := newEndpoint(org)
		live.Environment = event.Live
		do(t, c, live)
		other := newEndpoint(org)
		other.Patterns = []string{"quote.received"}
		do(t, c, other)
	}
	ev := &event.Event{Type: "rfq.created", Environment: event.Sandbox, Audience: event.Audience{All: true}, Offset: 5}
	if got := c.Matching(ev); !slices.Equal(got, want) {
		t.Errorf("all: %v", got)
	}
	ev.Audience = event.Audience{Orgs: []string{"org_a", "org_c", "org_z"}}
	if got := c.Matching(ev); !slices.Equal(got, []string{want[0], want[2]}) {
		t.Errorf("some: %v", got)
	}
	ev.Audience = event.Audience{}
	if got := c.Matching(ev); got != nil {
		t.Errorf("nobody: %v", got)
	}
	// What was logged before an endpoint was made isn't owed to it.
	put := []eventlog.Record{{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: []byte("x")}}
	for range 6 {
		if _, err := log.Append(t.Context(), put); err != nil {
			t.Fatal(err)
		}
	}
	late := do(t, c, newEndpoint("org_a")).Endpoint.ID
	ev.Audience = event.Audience{Orgs: []string{"org_a"}}
	if got := c.Matching(ev); !slices.Equal(got, []string{want[0]}) {
		t.Errorf("event 5: %v", got)
	}
	ev.Offset = 6
	if got := c.Matching(ev); !slices.Equal(got, []string{want[0], late}) {
		t.Errorf("event 6: %v", got)
	}
	// A paused or disabled endpoint is owed all the same.
	paused := endpoint.Paused
	do(t, c, &control.UpdateEndpoint{Endpoint: late, Status: &paused})
	if got := c.Matching(ev); len(got) != 2 || c.Endpoint(got[1]).Status != endpoint.Paused {
		t.Errorf("paused: %v", got)
	}
	do(t, c, &control.DeleteEndpoint{Endpoint: want[0]})
	if got := c.Matching(ev); len(got) != 1 {
		t.Errorf("deleted: %v", got)
	}
	// An event for everybody, before and after each kind of change.
	ev.Audience = event.Audience{All: true}
	others := []string{want[1], want[2], late}
	if got := c.Matching(ev); !slices.Equal(got, others) {
		t.Errorf("everybody: %v", got)
	}
	pats := []string{"quote.*"}
	do(t, c, &control.UpdateEndpoint{Endpoint: want[1], Patterns: &pats})
	if got := c.Matching(ev); !slices.Equal(got, others[1:]) {
		t.Errorf("other patterns: %v", got)
	}
	text := "x"
	do(t, c, &control.UpdateEndpoint{Endpoint: want[2], Description: &text})
	if got := c.Matching(ev); len(got) != 2 || c.Endpoint(got[0]).Description != "x" {
		t.Errorf("described: %v", got)
	}
	do(t, c, &control.DeleteOrg{Org: "org_c"})
	if got := c.Matching(ev); len(got) != 1 {
		t.Errorf("an org deleted: %v", got)
	}
	newest := do(t, c, newEndpoint("org_b")).Endpoint.ID
	if got := c.Matching(ev); len(got) != 2 || got[1] != newest {
		t.Errorf("one more: %v", got)
	}
	// Patterns that nobody had when the type was seen first.
	first := newEndpoint("org_b")
	first.Patterns = []string{"*.created"}
	only := do(t, c, first).Endpoint.ID
	if got := c.Matching(ev); len(got) != 3 || !slices.Contains(got, only) {
		t.Errorf("patterns of its own: %v", got)
	}
	do(t, c, &control.DeleteEndpoint{Endpoint: only})
	if got := c.Matching(ev); len(got) != 2 {
		t.Errorf("gone with its patterns: %v", got)
	}
	for i := range 3000 { // more types than are remembered
		ev.Type = fmt.Sprintf("rfq.t%d", i)
		if got := c.Matching(ev); len(got) != 2 {
			t.Fatalf("%s: %v", ev.Type, got)
		}
	}
	ev.Environment = 0
	if got := c.Matching(ev); got != nil {
		t.Errorf("no environment: %v", got)
	}
}

func TestListsInPages(t *testing.T) {
	c := open(t, eventlogtest.Mem(t, topics...))
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	var want []string
	for range 7 {
		want = append(want, do(t, c, newEndpoint("org_a")).Endpoint.ID)
	}
	var got []string
	after := int64(0)
	for pages := 1; ; pages++ {
		page, next := c.Endpoints("org_a", event.Sandbox, after, 3)
		for _, ep := range page {
			got = append(got, ep.ID)
		}
		if pages == 2 { // one is deleted that was already shown
			do(t, c, &control.DeleteEndpoint{Endpoint: want[1]})
		}
		if next == 0 {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		after = next
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if page, next := c.Endpoints("org_a", event.Live, 0, 3); page != nil || next != 0 {
		t.Errorf("live: %v", page)
	}
}
