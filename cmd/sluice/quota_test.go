package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
	"sluice/pkg/usage"
)

// An org on the free plan uses its month up: what is past that is held, says so
// wherever its owner or the operator may look, and goes out when the plan changes,
// whoever runs its lanes by then.
func TestQuota(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		cfg := nodeConfig{Data: filepath.Join(t.TempDir(), "data")}
		n := startStory(t, cfg)
		tellQuota(t, n, func() *storyNode { n.end(t); return startStory(t, cfg) })
	})
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		n := startStory(t, cfg)
		tellQuota(t, n, func() *storyNode { other := startStory(t, cfg); n.end(t); return other })
	})
}

// end stops a node in order.
func (n *storyNode) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func tellQuota(t *testing.T, n *storyNode, next func() *storyNode) {
	if left := time.Until(usage.NextMonth(time.Now())); left < 3*time.Minute {
		<-time.After(left) // or it would be told of two months
	}
	const quota, used = 1000, 997
	m := n.member(t)
	got := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var ev struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&ev); err != nil {
			t.Error(err)
		}
		got <- ev.ID
	}))
	t.Cleanup(receiver.Close)
	// A free plan has ten requests of the API in a minute, and there are no more here: the
	// rest is the operator's.
	do := func(c *client, method, path string, in, out any) error {
		_, err := c.call(t.Context(), method, path, in, out)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const token = "0x20c0000000000000000000000000000000000001"
	var made tempoSubscription
	must(do(m.client, "POST", "/api/v1/subscriptions", map[string]any{
		"type": "TRANSFER", "network": "testnet", "address": token, "webhook_url": receiver.URL}, &made))
	must(do(m.client, "PATCH", webhookPath(made.ID), map[string]any{"maxInFlight": 1}, nil)) // one after the other
	must(do(n.admin, "PATCH", "/admin/v1/orgs/"+m.org, map[string]any{"plan": "free"}, nil))
	// Others have counted most of the month.
	counted := fmt.Sprintf(`{"v":1,"delta":{"writer":"another","number":1,"counts":{"sandbox":{%q:[0,0,0,0,0,%d]}}}}`, m.org, used)
	if _, err := n.log.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: usage.Topic.Name}, Value: []byte(counted)}}); err != nil {
		t.Fatal(err)
	}
	cli := func(n *storyNode) string {
		t.Helper()
		text, stderr, code := sluice(t, []string{"SLUICE_OPS=" + strings.TrimPrefix(n.OpsURL(), "http://"), "SLUICE_ADMIN_TOKEN=" + n.AdminToken()}, "org", "usage", m.org)
		if code != 0 {
			t.Fatalf("sluice org usage: %d, %s%s", code, text, stderr)
		}
		return text
	}
	awaitUsed := func(n *storyNode, used int) {
		t.Helper()
		eventually(t, patience, func() error {
			var all struct{ Months []usageRow }
			if err := do(n.admin, "GET", "/admin/v1/orgs/"+m.org+"/usage", nil, &all); err != nil {
				return err
			}
			if len(all.Months) != 1 || all.Months[0].Metered != int64(used) {
				return fmt.Errorf("%+v are used, not %d", all.Months, used)
			}
			return nil
		})
	}
	awaitUsed(n, used)
	if text := cli(n); strings.Contains(text, "used up") {
		t.Errorf("sluice org usage says too early:\n%s", text)
	}
	var ids []string
	for range 5 {
		body := map[string]any{"type": "chain.transfer", "network": "testnet", "data": map[string]any{"token": token}}
		var answer struct{ ID string }
		must(do(m.client, "POST", "/v1/events", body, &answer))
		ids = append(ids, answer.ID)
	}
	arrive := func(want ...string) {
		t.Helper()
		for _, id := range want {
			select {
			case came := <-got:
				if came != id {
					t.Fatalf("%s came, not %s", came, id)
				}
			case <-time.After(patience):
				t.Fatalf("%s didn't come", id)
			}
		}
	}
	arrive(ids[:3]...)
	awaitUsed(n, quota)
	eventually(t, patience, func() error { // lanes say how they stand every five seconds
		if held := n.metric(t, fmt.Sprintf(`sluice_lane_held_quota{lane="%d"}`, delivery.Lane(made.ID))); held != 2 {
			return fmt.Errorf("%d are held", held)
		}
		return nil
	})
	turn := usage.NextMonth(time.Now()).Format(time.DateOnly)
	if text := cli(n); !strings.Contains(text, "the month's 1,000 webhooks are used up: more is held until "+turn) {
		t.Errorf("sluice org usage says:\n%s", text)
	}
	n = next()
	m.client.base = n.URL()

	var listed struct {
		Data []struct{ ID, EventID, Status, Reason string }
	}
	for _, wait := range []time.Duration{0, 2 * time.Second, 20 * time.Second} { // the list may be made anew
		<-time.After(wait)
		if err := do(m.client, "GET", webhookPath(made.ID)+"/deliveries?status=held", nil, &listed); err == nil && len(listed.Data) == 2 {
			break
		}
	}
	if len(listed.Data) != 2 {
		t.Fatalf("deliveries that are held: %+v", listed.Data)
	}
	for i, d := range listed.Data {
		if d.EventID != ids[4-i] || d.Status != "held" || !strings.HasPrefix(d.Reason, "the month's 1,000 webhooks are used up: it ") {
			t.Errorf("it is listed as %+v", d)
		}
	}
	text, stderr, _ := sluice(t, []string{"SLUICE_URL=" + n.URL(), "SLUICE_KEY=" + m.token}, "endpoint", "deliveries", made.ID, "--status", "held")
	if !strings.Contains(text, "webhooks are used up: it ") {
		t.Errorf("sluice endpoint deliveries says:\n%s%s", text, stderr)
	}
	if err := do(m.client, "POST", webhookPath(made.ID)+"/deliveries/"+listed.Data[0].ID+"/retry", nil, nil); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Errorf("an attempt by hand: %v", err)
	}
	var logs struct {
		Logs []struct {
			Status, Held string
			Attempts     int `json:"attempt_count"`
		}
	}
	must(do(m.client, "GET", "/api/v1/webhooks/logs", nil, &logs))
	if len(logs.Logs) != 5 || logs.Logs[0].Status != "pending" || logs.Logs[0].Held != listed.Data[0].Reason || logs.Logs[0].Attempts != 0 || logs.Logs[4].Held != "" {
		t.Errorf("logs are %+v", logs.Logs)
	}
	var warned []struct{ Message string }
	must(do(m.client, "GET", "/api/v1/quota/warnings", nil, &warned))
	if len(warned) != 1 || !strings.Contains(warned[0].Message, "more are held until "+turn) {
		t.Errorf("warned of %+v", warned)
	}
	var tested struct{ DeliveryID string }
	must(do(m.client, "POST", webhookPath(made.ID)+"/test", nil, &tested)) // counts for nothing, and isn't held
	select {
	case came := <-got:
		if slices.Contains(ids, came) {
			t.Errorf("%s came although it is held", came)
		}
	case <-time.After(patience):
		t.Error("the test didn't come")
	}
	must(do(n.admin, "PATCH", "/admin/v1/orgs/"+m.org, map[string]any{"plan": "starter"}, nil))
	arrive(ids[3:]...)
	awaitUsed(n, quota+2)
}
