package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// again is a receiver that notes which deliveries it got of each event.
type again struct {
	mu         sync.Mutex
	deliveries map[string]map[string]bool // by event
	slow       time.Duration
}

func (a *again) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ev struct{ ID string }
	json.Unmarshal(body, &ev)
	a.mu.Lock()
	if a.deliveries[ev.ID] == nil {
		a.deliveries[ev.ID] = make(map[string]bool)
	}
	a.deliveries[ev.ID][r.Header.Get("X-TetraFi-DeliveryId")] = true
	slow := a.slow
	a.mu.Unlock()
	time.Sleep(slow)
}

// with tells how many events came in so many deliveries.
func (a *again) with(deliveries int) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ids := range a.deliveries {
		if len(ids) == deliveries {
			n++
		}
	}
	return n
}

// A replay goes on over a kill of its process, and sends each event under one new
// delivery id.
func TestReplayOverAKill(t *testing.T) {
	t.Parallel()
	onBothLogs(t, func(t *testing.T, args []string) {
		t.Parallel()
		const events = 300
		got := &again{deliveries: make(map[string]map[string]bool)}
		receiver := httptest.NewServer(got)
		defer receiver.Close()
		p := startProcess(t, args)
		var lines strings.Builder
		for i := range events {
			fmt.Fprintf(&lines, `{"id":"again-%d","type":"rfq.created","data":{"n":%d}}`+"\n", i, i)
		}
		call := func(method, path, body string, want int, result any) {
			t.Helper()
			contentType := "application/json"
			if strings.Count(body, "\n") > 1 {
				contentType = "application/x-ndjson"
			}
			if err := p.call(t.Context(), method, path, contentType, []byte(body), want, result); err != nil {
				t.Fatal(err)
			}
		}
		since := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
		call("POST", "/v1/events", lines.String(), 202, nil) // before the endpoint is made
		var ep struct{ ID string }
		call("POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q,"events":["rfq.*"]}`, receiver.URL), 201, &ep)
		type replay struct {
			ReplayID, Status string
			Progress         struct{ Done, Total, Delivered, Failed, Expired int }
		}
		start := func() (r replay) {
			call("POST", "/v1/webhooks/"+ep.ID+"/replay", fmt.Sprintf(`{"from":%q}`, since), 202, &r)
			return r
		}
		look := func(r *replay) {
			call("GET", "/v1/webhooks/"+ep.ID+"/replays/"+r.ReplayID, "", 200, r)
		}
		completed := func(r *replay) {
			t.Helper()
			eventually(t, time.Minute, func() error {
				if look(r); r.Status != "completed" {
					return fmt.Errorf("it is %+v", *r)
				}
				return nil
			})
			if r.Progress.Delivered != events || r.Progress.Done != r.Progress.Total || r.Progress.Failed != 0 {
				t.Errorf("it ended as %+v", *r)
			}
		}
		first := start()
		completed(&first)
		if n := got.with(1); n != events {
			t.Fatalf("%d of %d events came", n, events)
		}

		slow := func(d time.Duration) {
			got.mu.Lock()
			defer got.mu.Unlock()
			got.slow = d
		}
		slow(100 * time.Millisecond)
		second := start()
		eventually(t, time.Minute, func() error {
			if n := got.with(2); n < events/6 {
				return fmt.Errorf("%d came again", n)
			}
			return nil
		})
		p.kill()
		p.start()
		completed(&second)
		if n := got.with(2); n != events {
			t.Errorf("%d of %d events came under one new id", n, events)
		}
		var list struct{ Data []replay }
		call("GET", "/v1/webhooks/"+ep.ID+"/replays", "", 200, &list)
		if len(list.Data) != 2 || list.Data[0] != second || list.Data[1] != first {
			t.Errorf("listed are %+v", list.Data)
		}
		slow(2 * time.Second) // so that it takes longer than we do to cancel it
		third := start()
		call("POST", "/v1/webhooks/"+ep.ID+"/replays/"+third.ReplayID+"/cancel", "", 200, &third)
		if third.Status != "cancelled" {
			t.Errorf("cancelled it is %+v", third)
		}
		call("POST", "/v1/webhooks/"+ep.ID+"/replays/"+second.ReplayID+"/cancel", "", 409, nil)
		call("DELETE", "/v1/webhooks/"+ep.ID, "", 204, nil)
		call("GET", "/v1/webhooks/"+ep.ID+"/replays/"+second.ReplayID, "", 404, nil)
	})
}
