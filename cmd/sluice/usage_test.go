package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What an org used is known on every node about a second later, whoever counted
// it, and after a restart it is the same.
func TestUsage(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		cfg := nodeConfig{Data: filepath.Join(t.TempDir(), "data")}
		n := startStory(t, cfg)
		org := tellUsage(t, n, n)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		want := n.usage(t, org)
		if err := n.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		again := startStory(t, cfg)
		again.awaitUsage(t, org, want)
	})
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		n, other := startStory(t, cfg), startStory(t, cfg)
		org := tellUsage(t, n, other)
		want := n.usage(t, org)
		other.awaitUsage(t, org, want)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		third := startStory(t, cfg)
		third.awaitUsage(t, org, want)
	})
}

// tellUsage has an org publish here and there, and gives its id.
func tellUsage(t *testing.T, n, other *storyNode) string {
	a := n.member(t)
	there := member{&client{base: other.URL(), token: a.token}, a.org}
	b := n.member(t) // who uses nothing but one stream
	h := a.hook(t, []int{500}, "*")
	l, foreign := there.listen(t, "", "*"), b.listen(t, "", "*")
	var ids []string
	for i := range 6 {
		at := []member{a, there}[i%2]
		ids = append(ids, at.publish(t, "rfq.created", []string{a.org, b.org}))
	}
	for range 2 { // the second time it is known, and counts no more
		body := map[string]any{"type": "rfq.created", "id": "evt_known", "data": map[string]any{}}
		if _, err := a.call(t.Context(), "POST", "/v1/events", body, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range append(ids, "evt_known") {
		l.next(t, id)
	}
	for _, id := range ids {
		foreign.next(t, id)
	}
	for seen := map[string]bool{}; len(seen) < 8; { // seven, and one of them again, 5 s later
		r := <-h.requests
		seen[r.id+r.attempt] = true
	}
	var list struct{ Data []struct{ ID string } }
	if _, err := a.call(t.Context(), "GET", "/v1/webhooks", nil, &list); err != nil {
		t.Fatal(err)
	}
	if _, err := a.call(t.Context(), "POST", "/v1/webhooks/"+list.Data[0].ID+"/test", nil, nil); err != nil {
		t.Fatal(err)
	}
	<-h.requests // that isn't counted
	n.awaitUsage(t, a.org, []usageRow{{Environment: "sandbox", Published: 7, Attempts: 8, Delivered: 7, Streamed: 7}})
	n.awaitUsage(t, b.org, []usageRow{{Environment: "sandbox", Streamed: 6}})

	text, stderr, code := sluice(t, []string{"SLUICE_OPS=" + strings.TrimPrefix(n.OpsURL(), "http://"), "SLUICE_ADMIN_TOKEN=" + n.AdminToken()}, "org", "usage", a.org)
	month := time.Now().UTC().Format("2006-01")
	if code != 0 || !strings.Contains(text, "PERIOD") || strings.Count(text, month) != 2 || !strings.Contains(text, "sandbox") {
		t.Errorf("sluice org usage: %d, %s%s", code, text, stderr)
	}
	_, err := n.admin.call(t.Context(), http.MethodGet, "/admin/v1/orgs/org_nobody/usage", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "not_found") {
		t.Errorf("an org that isn't: %v", err)
	}
	return a.org
}

// usage gives what an org used in all months, without saying when.
func (n *storyNode) usage(t *testing.T, org string) []usageRow {
	t.Helper()
	var used struct {
		Org          string
		Months, Days []usageRow
	}
	if _, err := n.admin.call(t.Context(), http.MethodGet, "/admin/v1/orgs/"+org+"/usage", nil, &used); err != nil {
		t.Fatal(err)
	}
	if used.Org != org || len(used.Days) < len(used.Months) {
		t.Errorf("usage of %s: %+v", org, used)
	}
	byEnvironment := make(map[string]*usageRow)
	var rows []usageRow
	for _, u := range used.Months { // two of them, at the turn of a month
		if byEnvironment[u.Environment] == nil {
			byEnvironment[u.Environment] = &usageRow{Environment: u.Environment}
		}
		sum := byEnvironment[u.Environment]
		sum.Published, sum.Attempts = sum.Published+u.Published, sum.Attempts+u.Attempts
		sum.Delivered, sum.Streamed = sum.Delivered+u.Delivered, sum.Streamed+u.Streamed
	}
	for _, sum := range byEnvironment {
		rows = append(rows, *sum)
	}
	return rows
}

func (n *storyNode) awaitUsage(t *testing.T, org string, want []usageRow) {
	t.Helper()
	eventually(t, patience, func() error {
		if got := n.usage(t, org); !slices.Equal(got, want) {
			return fmt.Errorf("%s used %+v, not %+v", org, got, want)
		}
		return nil
	})
}

// published gives how many events of an org were counted.
func (p *process) published(t *testing.T, org, data string) (n int64) {
	t.Helper()
	text, stderr, code := sluice(t, nil, "org", "usage", org, "--json", "--ops", p.ops, "--data", data)
	var used struct{ Months []usageRow }
	if err := json.Unmarshal([]byte(text), &used); err != nil || code != 0 {
		t.Fatalf("sluice org usage: %d, %s%s", code, text, stderr)
	}
	for _, u := range used.Months {
		n += u.Published
	}
	return n
}
