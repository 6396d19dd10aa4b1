package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/pkg/control"
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
			`","from":"` + strings.ToLower(tempoSender) + `","amount":"1000000",` + more + foreign + `,` + tiny + `,` + nasty[1:] + `}`)
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
	s.tempoAccount()
	s.tempoKeys()
	s.tempoUsage()
	s.tempoLimits()
}

// tempoAccount registers and logs in as the guide has it, without a key, and then has one.
func (s *snippets) tempoAccount() {
	s.t.Helper()
	nobody := &process{address: s.p.address}
	post := func(path, name string, want int, result any) {
		s.t.Helper()
		in, err := os.ReadFile(s.fill(name))
		if err == nil {
			err = nobody.call(s.t.Context(), "POST", path, "application/json", in, want, result)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	var made struct {
		User, Organization struct{ ID, Email, Name string }
		Key                tempoKey `json:"api_key"`
	}
	post("/auth/register", "tempo-register.json", 201, &made)
	if made.User.ID == "" || made.User.Email != "user@example.com" || made.Organization.ID == "" || made.Organization.Name != "My Company" ||
		!strings.HasPrefix(made.Key.Key, "tempo_live_") || made.Key.Prefix != made.Key.Key[:14] {
		s.t.Errorf("registered %+v", made)
	}
	var in struct{ Token string }
	post("/auth/login", "tempo-login.json", 200, &in)
	for _, token := range []string{made.Key.Key, in.Token} {
		as := &process{address: s.p.address, key: token}
		if err := as.call(s.t.Context(), "GET", "/api/v1/subscriptions", "", nil, 200, nil); err != nil {
			s.t.Error(err)
		}
	}
}

// tempoUsage asks what the guide asks of usage, plan and quotas: of the deliveries there
// were only those to subscriptions count. Then an org comes near a quota.
func (s *snippets) tempoUsage() {
	s.t.Helper()
	call := func(path string, out any) error {
		return s.p.call(s.t.Context(), "GET", path, "", nil, 200, out)
	}
	date := func(days int) string { return time.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly) }
	var shown struct {
		Period struct{ Start, End string }
		Usage  struct {
			Deliveries int `json:"webhook_deliveries"`
			Requests   int `json:"api_requests"`
		}
		Quota struct {
			Deliveries *int `json:"webhook_deliveries"`
			Overage    int
		}
		Plan string
	}
	eventually(s.t, 20*time.Second, func() error {
		if err := call("/api/v1/usage?start_date="+date(-1)+"&end_date="+date(1), &shown); err != nil {
			return err
		}
		if shown.Usage.Deliveries != 2 || shown.Usage.Requests == 0 || shown.Quota.Deliveries != nil || shown.Quota.Overage != 0 || shown.Plan != "enterprise" {
			return fmt.Errorf("used %+v", shown)
		}
		return nil
	})
	if err := call("/api/v1/usage?start_date=2026-02-01&end_date=2026-02-28", &shown); err != nil || shown.Period.End != "2026-02-28" || shown.Usage.Deliveries != 0 {
		s.t.Errorf("used %+v, %v", shown, err)
	}
	var now struct {
		Current struct {
			Tier, Status string
			Price        *float64 `json:"price_usd"`
		} `json:"current_plan"`
		Usage struct {
			Month  int `json:"webhook_deliveries_this_month"`
			Minute int `json:"api_requests_this_minute"`
		}
		Limits struct {
			Subscriptions *int `json:"max_subscriptions"`
			Mainnet       bool `json:"can_use_mainnet"`
		}
		Available []struct{ Tier string } `json:"available_plans"`
	}
	if err := call("/api/v1/plan", &now); err != nil || now.Current.Tier != "enterprise" || now.Current.Status != "active" || now.Current.Price != nil ||
		now.Usage.Month > 2 || // fewer at the turn of a month
		now.Usage.Minute == 0 || now.Limits.Subscriptions != nil || !now.Limits.Mainnet || len(now.Available) != 4 {
		s.t.Errorf("on %+v, %v", now, err)
	}

	admin := func(path string, in, out any) {
		s.t.Helper()
		if _, err := s.admin.call(s.t.Context(), "POST", "/admin/v1/orgs"+path, in, out); err != nil {
			s.t.Fatal(err)
		}
	}
	var made apiKey
	admin("", map[string]string{"id": "org_near", "name": "near", "plan": "free"}, nil)
	admin("/org_near/keys", map[string]any{"environment": "sandbox", "scopes": []string{"manage"}}, &made)
	near := &process{address: s.p.address, key: made.Key}
	subscription := []byte(`{"type":"MINT","network":"testnet","address":"` + tempoToken + `","webhook_url":"https://example.com/"}`)
	for range 8 {
		if err := near.call(s.t.Context(), "POST", "/api/v1/subscriptions", "application/json", subscription, 201, nil); err != nil {
			s.t.Fatal(err)
		}
	}
	lines := s.run("node", "testdata/snippets/tempo-warnings.cjs", s.fill("tempo-warnings.js"), "http://"+near.address, made.Key)
	const want = `{"status":200,"warnings":[{"warning_type":"subscriptions","message":"You're using 80% of your subscription quota","current_usage":8,"limit":10,"percentage_used":80}]}`
	if got := awaitLine(s.t, lines, "status"); got != want {
		s.t.Errorf("warned by %s, want %s", got, want)
	}
}

// tempoKey is an API key as that guide's answers show it.
type tempoKey struct {
	ID, Key, Name, Network, Environment string
	Prefix                              string    `json:"key_prefix"`
	ExpiresAt                           time.Time `json:"expires_at"`
}

// tempoKeys makes a key as the guide has it, and one for a network; what is done with
// them, the key itself is sent for.
func (s *snippets) tempoKeys() {
	s.t.Helper()
	const path = "/api/v1/api-keys"
	call := func(token, method, path, in string, want int, out any) {
		s.t.Helper()
		as := &process{address: s.p.address, key: token}
		if err := as.call(s.t.Context(), method, path, "application/json", []byte(in), want, out); err != nil {
			s.t.Error(err)
		}
	}
	var first apiKey
	spec := map[string]any{"environment": "live", "scopes": []string{"publish", "subscribe", "manage"}}
	if _, err := s.admin.call(s.t.Context(), "POST", "/admin/v1/orgs/"+control.DefaultOrg+"/keys", spec, &first); err != nil {
		s.t.Fatal(err)
	}
	live := first.Key
	create, err := os.ReadFile(s.fill("tempo-create-key.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var made, bound tempoKey
	call(live, "POST", path, string(create), 201, &made)
	if days := time.Until(made.ExpiresAt).Hours() / 24; !strings.HasPrefix(made.Key, "tempo_live_") || made.Prefix != made.Key[:14] ||
		made.Name != "Production Key" || made.Network != "both" || made.Environment != "live" || days < 364 || days > 365 {
		s.t.Errorf("made %+v", made)
	}
	call(made.Key, "POST", path, `{"name":"bound","network":"testnet","environment":"sandbox"}`, 201, &bound)
	if !strings.HasPrefix(bound.Key, "tempo_test_") || bound.Network != "testnet" || !bound.ExpiresAt.IsZero() {
		s.t.Errorf("made %+v", bound)
	}
	subscription := func(network string) string {
		return `{"type":"TRANSFER","network":"` + network + `","address":"` + tempoToken + `","webhook_url":"https://example.com/"}`
	}
	var sub, hidden tempoSubscription
	call(s.p.key, "POST", "/api/v1/subscriptions", subscription("mainnet"), 201, &hidden)
	call(bound.Key, "POST", "/api/v1/subscriptions", subscription("testnet"), 201, &sub)
	call(bound.Key, "POST", "/api/v1/subscriptions", subscription("mainnet"), 400, nil)
	call(bound.Key, "GET", "/api/v1/subscriptions/"+sub.ID, "", 200, nil)
	for _, method := range []string{"GET", "DELETE"} {
		call(bound.Key, method, "/api/v1/subscriptions/"+hidden.ID, "", 404, nil)
	}
	call(bound.Key, "POST", path, `{"network":"both"}`, 403, nil)
	call(bound.Key, "GET", "/v1/webhooks", "", 403, nil) // where networks aren't known
	call(bound.Key, "POST", "/v1/events", `{"type":"a.b","data":{}}`, 403, nil)
	call(made.Key, "POST", "/v1/events", `{"type":"a.b","data":{}}`, 202, nil)
	for _, id := range []string{sub.ID, hidden.ID} {
		call(s.p.key, "DELETE", "/api/v1/subscriptions/"+id, "", 204, nil)
	}

	var listed struct {
		Keys  []tempoKey `json:"api_keys"`
		Total int
		More  bool `json:"has_more"`
	}
	call(live, "GET", path, "", 200, &listed)
	var shown []string
	for _, k := range listed.Keys {
		if k.Key != "" {
			s.t.Errorf("the list shows %+v", k)
		}
		shown = append(shown, k.Prefix)
	}
	if listed.Total != len(shown) || listed.More || !slices.Contains(shown, made.Prefix) || !slices.Contains(shown, bound.Prefix) || !slices.Contains(shown, "sk_live_") {
		s.t.Errorf("listed %+v", listed)
	}
	call(bound.Key, "DELETE", path+"/"+made.ID, "", 404, nil) // a key for the sandbox sees none for live
	call(made.Key, "DELETE", path+"/"+made.ID, "", 204, nil)
	call(made.Key, "GET", path, "", 401, nil)
	call(live, "DELETE", path+"/"+bound.ID, "", 204, nil)
	call(live, "DELETE", path+"/"+bound.ID, "", 404, nil)
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
