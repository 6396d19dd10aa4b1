package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// followEvents is follow over server-sent events, which need no list: all that was
// missed comes. pause is what the client takes over every hundred events; with one, its
// system takes little ahead of it.
func followEvents(ctx context.Context, t *testing.T, p *process, pause time.Duration) *follower {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err == nil && pause > 0 {
			err = c.(*net.TCPConn).SetReadBuffer(8 << 10)
		}
		return c, err
	}}}
	return following(ctx, t, func(ctx context.Context, s *follower, id string, ready func()) string {
		return s.events(ctx, p, client, id, pause, ready)
	})
}

// events follows one connection to its end and returns the newest id.
func (s *follower) events(ctx context.Context, p *process, client *http.Client, id string, pause time.Duration, ready func()) string {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+p.address+"/api/events/stream?types=crash.*", nil)
	if err != nil {
		return id
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if id != "" {
		req.Header.Set("Last-Event-ID", id)
	}
	resp, err := client.Do(req)
	if err != nil {
		return id
	}
	defer resp.Body.Close()
	// An id counts once its block is whole.
	next, event, n := "", "", 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			next = value
		case "data":
			var data struct{ What string }
			json.Unmarshal([]byte(value), &data)
			event = data.What
		case "":
			id = next
			ready()
			if event == "" {
				continue
			}
			s.add(event)
			if event, n = "", n+1; n%100 == 0 {
				time.Sleep(pause)
			}
		}
	}
	return id
}

// TestEventSource has a library's EventSource, which nobody here wrote, handle the
// marketplace's events as its guide shows, over a kill.
func TestEventSource(t *testing.T) {
	clients, err := nodeClients()
	if err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	publish := func(event string) {
		t.Helper()
		p.mustCall(t, "/v1/events", event, 202, nil)
	}
	lines := runClient(t, []string{"SLUICE_KEY=" + p.key}, nil, "node", filepath.Join(clients, "events.mjs"), "http://"+p.address+"/api/events/stream?types=order.*,payment.*,dispute.*")
	awaitLine(t, lines, `"open"`)
	handled := func(name, value string) {
		t.Helper()
		var got struct {
			Name, ID string
			Value    json.RawMessage
		}
		line := awaitLine(t, lines, `"name"`)
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Name != name || string(got.Value) != value || got.ID == "" {
			t.Fatalf("the page was given %s, not %s %s", line, name, value)
		}
	}
	publish(`{"type":"order.created","data":{"nobody":"listens to this"}}`)
	publish(`{"type":"contract.message","data":{"unwanted":true}}`)
	publish(`{"type":"order.status.changed","data":{"order":{"id":"o_1","note":"naïve \u2028 \n"}}}`)
	publish(`{"type":"payment.succeeded","data":{"amount":10.50}}`)
	handled("order.status.changed", `{"order":{"id":"o_1","note":"naïve   \n"}}`)
	handled("payment.succeeded", `{"amount":10.5}`)

	p.kill()
	p.start()
	for n := range 300 {
		publish(fmt.Sprintf(`{"type":"dispute.opened","data":{"n":%d}}`, n))
	}
	awaitLine(t, lines, `"closed":false`)
	for n := range 300 {
		handled("dispute.opened", fmt.Sprintf(`{"n":%d}`, n))
	}

	t.Run("list", func(t *testing.T) {
		publish(`{"type":"contract.signed","data":{"status":"InProgress","n":1}}`)
		publish(`{"type":"contract.signed","data":{"object":{"status":"InProgress"},"n":2}}`)
		publish(`{"type":"contract.signed","data":{"status":"Done","n":3}}`)
		publish(`{"type":"escrow.released","data":{"status":"InProgress","n":4}}`)
		today := time.Now().UTC().Format(time.DateOnly)
		var got []int
		for path, next := "/api/events?limit=1&type=contract.*,order.*&status=InProgress&from="+today+"&to="+today, ""; ; {
			var page struct {
				Items []struct {
					ID, Type, Timestamp string
					Data                struct{ N int }
				}
				NextCursor *string
			}
			if err := p.call(t.Context(), "GET", path+next, "", nil, 200, &page); err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				got = append(got, item.Data.N)
				if item.ID == "" || item.Timestamp == "" || item.Type != "contract.signed" {
					t.Errorf("%+v", item)
				}
			}
			if page.NextCursor == nil {
				break
			}
			next = "&cursor=" + *page.NextCursor
		}
		if !slices.Equal(got, []int{1, 2}) {
			t.Errorf("in progress are %v", got)
		}
		var refused struct {
			Code   string
			Issues []struct{ Path []string }
		}
		for path, code := range map[string]string{"/api/events?state=x": "state", "/api/events?type=A": "type", "/api/events?limit=0": "limit", "/api/events?cursor=x": "cursor", "/api/events/stream?type=a.b": "type"} {
			if err := p.call(t.Context(), "GET", path, "", nil, 400, &refused); err != nil || refused.Code != "VALIDATION_ERROR" || len(refused.Issues) != 1 || refused.Issues[0].Path[0] != code {
				t.Errorf("%s: %+v, %v", path, refused, err)
			}
		}
		stranger := *p
		stranger.key = "sk_test_nobodys"
		for _, path := range []string{"/api/events", "/api/events/stream"} {
			if err := stranger.call(t.Context(), "GET", path, "", nil, 401, &refused); err != nil || refused.Code != "UNAUTHORIZED" || len(refused.Issues) != 0 {
				t.Errorf("%s: %+v, %v", path, refused, err)
			}
		}
	})

	t.Run("curl", func(t *testing.T) {
		lines := runClient(t, nil, nil, "curl", "-sN", "-H", "X-API-Key: "+p.key, "http://"+p.address+"/api/events/stream?types=order.*")
		first := awaitLine(t, lines, "id: ")
		publish(`{"type":"order.created","data":{"order":{"id":"o_2"}}}`)
		if id := awaitLine(t, lines, "id: "); id == first {
			t.Errorf("%s again", id)
		}
		if line := awaitLine(t, lines, "event: "); line != "event: order.created" {
			t.Error(line)
		}
		if line := awaitLine(t, lines, "data: "); line != `data: {"order":{"id":"o_2"}}` {
			t.Error(line)
		}
	})
}
