package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tempoSubscription is one as that guide's answers show it.
type tempoSubscription struct {
	ID, Type, Network, Address string
	WebhookURL                 string `json:"webhook_url"`
	WebhookSecret              string `json:"webhook_secret"`
	Active                     bool
	Filters                    []struct{ Type, Value string }
}

type tempoLogs struct {
	Logs []struct {
		ID             string
		SubscriptionID string `json:"subscription_id"`
		Status         string
		HTTP           int    `json:"http_status_code"`
		Attempts       int    `json:"attempt_count"`
		DeliveredAt    string `json:"delivered_at"`
	}
	Total int
	More  bool `json:"has_more"`
}

const (
	tempoSender = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	tempoToken  = "0x20c0000000000000000000000000000000000001"
)

func tempoSnippets(s *snippets) {
	t := s.t
	call := func(method, path, body string, want int, result any) {
		t.Helper()
		if err := s.p.call(t.Context(), method, path, "application/json", []byte(body), want, result); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	receiver := s.run("node", "testdata/snippets/tempo-receiver.cjs", s.fill("tempo-verify.js"), s.fill("tempo-idempotency.js"), secret)
	at := fmt.Sprintf("http://127.0.0.1:%d", s.port(receiver))
	create, err := os.ReadFile(s.fill("tempo-create.json", "https://myapp.com/webhooks", at+"/webhooks/tempo", "0x...", tempoSender))
	if err != nil {
		t.Fatal(err)
	}
	var made, other tempoSubscription
	call("POST", "/api/v1/subscriptions", string(create), 201, &made)
	if !strings.HasPrefix(made.ID, "sub_") || made.Type != "TRANSFER" || made.Network != "mainnet" || !made.Active || len(made.Filters) != 2 {
		t.Fatalf("made %+v", made)
	}
	if err := os.WriteFile(secret, []byte(made.WebhookSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	// One that nothing is sent to: nobody publishes on its network.
	call("POST", "/api/v1/subscriptions", strings.Replace(string(create), `"mainnet"`, `"testnet"`, 1), 201, &other)

	transfer := func(id, network, hash, more string) {
		s.publish(`{"id":"` + id + `","type":"chain.transfer","network":"` + network + `","data":{"transactionHash":"` + hash + `","token":"` + tempoToken +
			`","from":"` + strings.ToLower(tempoSender) + `","amount":"1000000",` + more + nasty[1:] + `}`)
	}
	s.publish(`{"id":"evt_small","type":"chain.transfer","network":"mainnet","data":{"token":"` + tempoToken + `","from":"` + tempoSender + `","amount":"999999"}}`)
	s.publish(`{"id":"evt_mint","type":"chain.mint","network":"mainnet","data":{"token":"` + tempoToken + `","from":"` + tempoSender + `","amount":"1000000"}}`)
	transfer("evt_first", "mainnet", "0xabc", "")
	expect := func(id string, again bool) {
		t.Helper()
		var got struct {
			Genuine, Again bool
			Event          struct {
				ID, Type, Network string
				Subscription      string `json:"subscription_id"`
			}
		}
		if err := json.Unmarshal([]byte(awaitLine(t, receiver, "genuine")), &got); err != nil || !got.Genuine || got.Again != again ||
			got.Event.ID != id || got.Event.Type != "TRANSFER" || got.Event.Network != "mainnet" || got.Event.Subscription != made.ID {
			t.Errorf("the receiver got %+v, %v; want %s", got, err, id)
		}
	}
	expect("evt_first", false)
	transfer("evt_again", "mainnet", "0xabc", `"type":"of data","subscription_id":7,`)
	expect("evt_again", true)

	s.tempoLogs(made.ID)
	var listed struct {
		Subscriptions []tempoSubscription
		Total         int
		More          bool `json:"has_more"`
	}
	call("GET", "/api/v1/subscriptions?limit=50&offset=0", "", 200, &listed)
	if listed.Total != 2 || listed.More || len(listed.Subscriptions) != 2 || listed.Subscriptions[0].WebhookSecret != "" || listed.Subscriptions[1].ID != other.ID {
		t.Errorf("listed %+v", listed)
	}
	var changed tempoSubscription
	call("PATCH", "/api/v1/subscriptions/"+made.ID, `{"active": false}`, 200, &changed)
	if changed.Active || len(changed.Filters) != 2 {
		t.Errorf("changed to %+v", changed)
	}
	call("PATCH", "/api/v1/subscriptions/"+made.ID, `{"active":true,"filters":[{"type":"amount_max","value":"7"}]}`, 200, nil)
	call("GET", "/api/v1/subscriptions/"+made.ID, "", 200, &changed)
	if !changed.Active || len(changed.Filters) != 1 || changed.Filters[0].Value != "7" || changed.Address != made.Address {
		t.Errorf("changed to %+v", changed)
	}
	for _, sub := range []tempoSubscription{made, other} {
		call("DELETE", "/api/v1/subscriptions/"+sub.ID, "", 204, nil)
	}
	call("GET", "/api/v1/webhooks/logs", "", 200, &tempoLogs{})
	s.tempoLimits()
}

// tempoLogs waits for the logs of the two deliveries that there were.
func (s *snippets) tempoLogs(id string) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, func() error {
		for _, query := range []string{"?subscription_id=" + id + "&limit=100", ""} {
			var logged tempoLogs
			if err := s.p.call(s.t.Context(), "GET", "/api/v1/webhooks/logs"+query, "", nil, 200, &logged); err != nil {
				return err
			}
			if logged.Total != 2 || logged.More || len(logged.Logs) != 2 {
				return fmt.Errorf("logged %+v", logged)
			}
			for _, l := range logged.Logs {
				if l.SubscriptionID != id || l.Status != "delivered" || l.HTTP != 200 || l.Attempts != 1 || l.DeliveredAt == "" {
					return fmt.Errorf("logged %+v", l)
				}
			}
			var first, second, behind tempoLogs
			for query, into := range map[string]*tempoLogs{"limit=1": &first, "limit=1&offset=1": &second, "offset=2": &behind} {
				if err := s.p.call(s.t.Context(), "GET", "/api/v1/webhooks/logs?"+query, "", nil, 200, into); err != nil {
					return err
				}
			}
			if !first.More || second.More || behind.More || len(behind.Logs) != 0 || behind.Total != 2 || !slices.Equal(append(first.Logs, second.Logs...), logged.Logs) {
				return fmt.Errorf("by pages: %+v, %+v, %+v", first, second, behind)
			}
		}
		return nil
	})
}

// tempoLimits has the guide's client meet the limit of the smallest plan, in an org
// whose minute begins here.
func (s *snippets) tempoLimits() {
	admin := func(method, path string, in, out any) {
		s.t.Helper()
		if _, err := s.admin.call(s.t.Context(), method, "/admin/v1/orgs"+path, in, out); err != nil {
			s.t.Fatal(err)
		}
	}
	var made apiKey
	admin("POST", "", map[string]string{"id": "org_limited", "name": "limited", "plan": "free"}, nil)
	admin("POST", "/org_limited/keys", map[string]any{"environment": "sandbox", "scopes": []string{"manage"}}, &made)
	path := "/api/v1/subscriptions"
	limited := &client{base: "http://" + s.p.address, token: made.Key}
	for range 10 {
		if _, err := limited.call(s.t.Context(), "GET", path, nil, nil); err != nil {
			s.t.Fatal(err)
		}
	}
	lines := s.run("node", "testdata/snippets/tempo-limits.cjs", s.fill("tempo-limits.js"), limited.base+path, made.Key)
	var waits struct{ Waits float64 }
	if err := json.Unmarshal([]byte(awaitLine(s.t, lines, "waits")), &waits); err != nil || waits.Waits <= 0 || waits.Waits > 61_000 {
		s.t.Errorf("it waits %v ms, %v", waits.Waits, err)
	}
	admin("PATCH", "/org_limited", map[string]string{"plan": "enterprise"}, nil)
	if line := awaitLine(s.t, lines, "status"); line != `{"status":200,"limit":"10000"}` {
		s.t.Errorf("then it is answered %s", line)
	}
}
