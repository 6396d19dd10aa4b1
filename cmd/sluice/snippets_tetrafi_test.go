package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// tetrafiSnippets leaves out the calls of an SDK. The verifier's template is given back the
// $ that it lost in print: no signature could satisfy it as it is.
func tetrafiSnippets(s *snippets) {
	t := s.t
	call := func(method, path, body string, want int, result any) {
		t.Helper()
		if err := s.p.call(t.Context(), method, path, "application/json", []byte(body), want, result); err != nil {
			t.Fatal(err)
		}
	}
	stream := s.run("node", "testdata/snippets/tetrafi-handlers.cjs", s.fill("tetrafi-stream.js", "wss://api.tetrafi.io", "ws://"+s.p.address))
	awaitLine(t, stream, "auth.ok")
	awaitLine(t, stream, "subscribe.ok")
	verifying := s.run("node", "testdata/snippets/tetrafi-receiver.cjs", s.fill("tetrafi-verify.ts", "{timestamp}.{body}", "${timestamp}.${body}"))
	at := func(lines <-chan string) string {
		return fmt.Sprintf("http://127.0.0.1:%d/webhook/tetrafi", s.port(lines))
	}
	to := at(verifying)
	var verified, once struct{ ID string }
	call("POST", "/v1/webhooks", `{"url":"`+to+`","events":["settlement.*","audit.recorded"],"secret":"your-webhook-secret"}`, 201, &verified)
	remembering := s.run("node", "testdata/snippets/tetrafi-receiver.cjs", s.fill("tetrafi-once.ts"))
	call("POST", "/v1/webhooks", `{"url":"`+at(remembering)+`","events":["settlement.complete"]}`, 201, &once)

	s.publish(`{"type":"rfq.created","corridor":"base-arbitrum","data":{"rfq":{"id":"rfq_elsewhere"}}}`)
	s.publish(`{"type":"rfq.created","corridor":"ethereum-optimism","data":{"rfq":{"id":"rfq_xyz789"}}}`)
	s.publish(`{"type":"quote.received","data":{"quote":{"id":"qt_unwanted"}}}`)
	s.publish(`{"type":"settlement.complete","data":{"settlement":{"id":"stl_jkl345"},` + foreign + `,` + tiny + `,` + nasty[1:] + `}`)
	for _, want := range []string{`{"what":"rfq","value":{"id":"rfq_xyz789"}}`, `{"what":"settlement","value":{"id":"stl_jkl345"}}`} {
		if got := awaitLine(t, stream, `{"what":"`); got != want {
			t.Errorf("the handlers were given %s, not %s", got, want)
		}
	}
	awaitLine(t, verifying, `"stl_jkl345"`)
	forged, err := http.NewRequestWithContext(t.Context(), "POST", to, strings.NewReader(`{"type":"settlement.complete"}`))
	if err != nil {
		t.Fatal(err)
	}
	forged.Header.Set("X-TetraFi-Timestamp", fmt.Sprint(time.Now().Unix()))
	forged.Header.Set("X-TetraFi-Signature", strings.Repeat("0", 64))
	resp, err := httpClient.Do(forged)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("what was forged is answered with %s", resp.Status)
	}

	// What is sent again by hand is the same delivery, and a duplicate; another isn't.
	s.publish(`{"type":"settlement.complete","data":{"settlement":{"id":"stl_other"}}}`)
	path := "/v1/webhooks/" + once.ID + "/deliveries"
	var list struct{ Data []struct{ ID, Status string } }
	eventually(t, patience, func() error {
		if call("GET", path+"?status=delivered", "", 200, &list); len(list.Data) != 2 {
			return fmt.Errorf("delivered %+v", list)
		}
		return nil
	})
	answered := func(id string, want ...string) {
		t.Helper()
		eventually(t, patience, func() error {
			var shown struct {
				History []struct{ Response struct{ Body string } }
			}
			call("GET", path+"/"+id, "", 200, &shown)
			var got []string
			for _, attempt := range shown.History {
				got = append(got, attempt.Response.Body)
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s is answered with %q, not %q", id, got, want)
			}
			return nil
		})
	}
	first, other := list.Data[0].ID, list.Data[1].ID
	call("POST", path+"/"+first+"/retry", "", 202, nil)
	answered(first, `{"received":true}`, `{"received":true,"duplicate":true}`)
	answered(other, `{"received":true}`)
	for _, hook := range []string{verified.ID, once.ID} {
		call("DELETE", "/v1/webhooks/"+hook, "", 204, nil)
	}
}

// marketplaceSnippets has the guide's page listen for who has logged in.
func marketplaceSnippets(s *snippets) {
	t := s.t
	call := func(as *process, path string, in any, want int, result any) {
		t.Helper()
		body, err := json.Marshal(in)
		if err == nil {
			err = as.call(t.Context(), "POST", path, "application/json", body, want, result)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	credentials := map[string]string{"email": "page@example.com", "password": "securepass123"}
	var made, in account
	guest := &process{address: s.p.address}
	call(guest, "/auth/register", map[string]string{"email": credentials["email"], "password": credentials["password"], "full_name": "John Doe", "organization_name": "My Company"}, 201, &made)
	call(guest, "/auth/login", credentials, 200, &in)
	page := s.run("node", "testdata/snippets/marketplace-page.cjs", s.fill("marketplace-events.js"), "http://"+s.p.address, in.Token)
	awaitLine(t, page, "open")
	org := &process{address: s.p.address, key: made.Key.Key}
	call(org, "/v1/events", map[string]any{"type": "order.created", "data": map[string]any{"nobody": "listens"}}, 202, nil)
	call(org, "/v1/events", map[string]any{"type": "payment.succeeded", "data": map[string]any{"amount": 10.5}}, 202, nil)
	if line := awaitLine(t, page, "{"); line != "payment.succeeded { amount: 10.5 }" {
		t.Errorf("the page prints %q", line)
	}
}
