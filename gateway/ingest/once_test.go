package ingest

import (
	"errors"
	"strings"
	"testing"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// headers gives the header function of a request.
func headers(list map[string]string) func(string) string {
	return func(name string) string { return list[strings.ToLower(name)] }
}

// post publishes and gives status, answer and whether it was replayed.
func post(t *testing.T, in *Ingest, by *key.Principal, r *Request) (status int, answer string, replayed bool) {
	t.Helper()
	res, err := in.Post(t.Context(), by, r)
	var refused *dialect.Error
	switch {
	case errors.As(err, &refused):
		return refused.Status, string(refused.AppendJSON(nil)), false
	case err != nil:
		t.Fatal(err)
	}
	return res.Status, string(res.Body), res.Replayed
}

func TestPostOnce(t *testing.T) {
	log, in := following(t)
	keyed := func(key, body string) *Request {
		return &Request{Header: headers(map[string]string{"idempotency-key": key}), Body: []byte(body)}
	}
	const one = `{"type":"a.b","data":{"n":1}}`
	_, first, replayed := post(t, in, publisher, keyed("k", one))
	if replayed {
		t.Error("new, and replayed")
	}
	if status, answer, replayed := post(t, in, publisher, keyed("k", ` {"data":{"n":1.0}, "type":"a.b"}`)); status != 202 || answer != first || !replayed {
		t.Errorf("the same body: %d %s, %v", status, answer, replayed)
	}
	for name, body := range map[string]string{"data": `{"type":"a.b","data":{"n":2}}`, "type": `{"type":"a.c","data":{"n":1}}`,
		"key": `{"type":"a.b","data":{"n":1},"key":"x"}`, "corridor": `{"type":"a.b","data":{"n":1},"corridor":"x"}`,
		"timestamp": `{"type":"a.b","data":{"n":1},"timestamp":"2026-11-22T04:50:42Z"}`, "id": `{"type":"a.b","data":{"n":1},"id":"x"}`,
		"batch": `{"events":[` + one + `]}`} {
		if status, answer, _ := post(t, in, publisher, keyed("k", body)); status != 409 || !strings.Contains(answer, `"conflict"`) || !strings.Contains(answer, "Idempotency-Key") {
			t.Errorf("another %s: %d %s", name, status, answer)
		}
	}
	for bad, want := range map[string]int{strings.Repeat("x", 255): 202, strings.Repeat("x", 256): 400, "a\tb": 400, "é": 400} {
		if status, answer, _ := post(t, in, publisher, keyed(bad, one)); status != want {
			t.Errorf("key %q: %d %s", bad, status, answer)
		}
	}
	if got := len(log.events(t)); got != 2 {
		t.Errorf("%d events", got)
	}
}

func TestPostIDsOnce(t *testing.T) {
	log, in := following(t)
	lines := func(body string) *Request { return &Request{ContentType: "application/x-ndjson", Body: []byte(body)} }
	post(t, in, publisher, &Request{Body: []byte(`{"type":"a.b","data":{},"id":"1"}`)})
	status, answer, replayed := post(t, in, publisher, lines(`{"type":"a.b","data":{},"id":"2"}`+"\n"+`{"type":"a.b","data":{},"id":"1"}`))
	if status != 202 || answer != `{"ids":["2","1"]}` || replayed {
		t.Errorf("one known, one new: %d %s, %v", status, answer, replayed)
	}
	if status, answer, replayed := post(t, in, publisher, &Request{Body: []byte(`{"type":"a.b","data":{},"id":"2"}`)}); status != 202 || answer != `{"id":"2"}` || !replayed {
		t.Errorf("known: %d %s, %v", status, answer, replayed)
	}
	// The id that is taken is named by where it stands.
	const fresh, taken = `{"type":"a.b","data":{},"id":"3"}`, `{"type":"a.b","data":{"x":1},"id":"2"}`
	for _, c := range []struct{ contentType, body, path string }{
		{"application/x-ndjson", fresh + "\n\n \n" + taken, `["line","4","id"]`},
		{"", `{"events":[` + fresh + `,` + taken + `]}`, `["events","1","id"]`},
		{"", taken, `["id"]`},
	} {
		status, answer, _ = post(t, in, publisher, &Request{ContentType: c.contentType, Body: []byte(c.body)})
		if status != 409 || !strings.Contains(answer, `"path":`+c.path) {
			t.Errorf("another event: %d %s, not %s", status, answer, c.path)
		}
	}
	if got := len(log.events(t)); got != 2 {
		t.Errorf("%d events", got)
	}
	if got := refusals(t, in, "conflict"); got != 3 {
		t.Errorf("%v conflicts were counted", got)
	}
}

// What a provider sends again isn't published again.
func TestPublishOnce(t *testing.T) {
	log, in := following(t)
	for range 2 {
		ev := &event.Event{Environment: event.Live, Org: "org_a", ID: "pi_1", Type: "payment.succeeded", Data: []byte(`{}`)}
		if err := in.Publish(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(log.events(t)); got != 1 {
		t.Errorf("%d events", got)
	}
}

func TestNotFollowed(t *testing.T) {
	log := &kept{}
	in := newIngest(log)
	if status, answer, _ := post(t, in, publisher, &Request{Body: []byte(`{"type":"a.b","data":{},"id":"1"}`)}); status != 503 || len(log.records) > 0 {
		t.Errorf("%d %s", status, answer)
	}
	if status, _, _ := post(t, in, publisher, &Request{Body: []byte(`{"type":"a.b","data":{}}`)}); status != 202 {
		t.Errorf("what needs no claim: %d", status)
	}
}
