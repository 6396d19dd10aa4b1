package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pkg/attempts/attemptstest"
)

// listedDelivery is a delivery as the API gives it.
type listedDelivery struct {
	ID, EventID, EventType, Status, Outcome string
	Test                                    bool
	Attempts                                int
	HTTPStatus                              *int
	NextAttemptAt                           *time.Time
	History                                 []shownAttempt
}

type shownAttempt struct {
	Attempt int
	ByHand  bool
	Outcome string
	Timing  map[string]any
	Request struct {
		Headers []struct{ Name, Value string }
	}
	Response      *struct{ Body string }
	NextAttemptAt *time.Time
}

type listOfDeliveries struct {
	Data       []listedDelivery
	NextCursor *string
}

// watched asks for deliveries and holds that no status ever goes back.
type watched struct {
	member
	t    *testing.T
	seen map[string]int
}

var forward = []string{"pending", "retrying", "held", "dead", "failed", "delivered"}

func (w *watched) see(d *listedDelivery) {
	w.t.Helper()
	rank := slices.Index(forward, d.Status) + 10*d.Attempts
	if d.Status == "delivered" {
		rank = 1000
	}
	if rank < w.seen[d.ID] {
		w.t.Errorf("%s went back to %s after %d attempts", d.ID, d.Status, d.Attempts)
	}
	w.seen[d.ID] = rank
}

func (w *watched) list(endpoint, query string) (listOfDeliveries, error) {
	var l listOfDeliveries
	_, err := w.call(w.t.Context(), "GET", webhookPath(endpoint)+"/deliveries?"+query, nil, &l)
	for i := range l.Data {
		w.see(&l.Data[i])
	}
	return l, err
}

func (w *watched) one(endpoint, id string) (listedDelivery, error) {
	var d listedDelivery
	_, err := w.call(w.t.Context(), "GET", webhookPath(endpoint)+"/deliveries/"+id, nil, &d)
	if err == nil {
		w.see(&d)
	}
	return d, err
}

// until waits until the newest delivery of an endpoint is as it should be.
func (w *watched) until(endpoint, what string, is func(*listedDelivery) bool) listedDelivery {
	w.t.Helper()
	var d listedDelivery
	eventually(w.t, 30*time.Second, func() error {
		l, err := w.list(endpoint, "limit=1")
		if err != nil {
			return err
		}
		if len(l.Data) == 0 || !is(&l.Data[0]) {
			return fmt.Errorf("not %s: %+v", what, l.Data)
		}
		d, err = w.one(endpoint, l.Data[0].ID)
		return err
	})
	return d
}

// TestDeliveries: what became of deliveries is told to who owns the endpoint, and
// of an event to who published it, over a kill and without the index; and one more
// attempt is made at a word.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	onBothLogs(t, tellDeliveries)
	// The same from a database, which is emptied instead.
	t.Run("postgres", func(t *testing.T) {
		args := append(kafkaArgs(t), "--attempts-db", attemptstest.Postgres(t))
		t.Cleanup(func() { dropTables(t, args) }) // when all processes have ended
		tellDeliveries(t, args)
	})
}

func tellDeliveries(t *testing.T, args []string) {
	var well atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/bad" && !well.Load() {
			http.Error(rw, "no \x00 database", http.StatusInternalServerError)
			return
		}
		io.WriteString(rw, "thanks")
	}))
	defer receiver.Close()
	shared := args
	if !slices.Contains(args, "--data") {
		args = append(args, "--data", filepath.Join(t.TempDir(), "data"))
	}
	p := startProcess(t, args)
	w := &watched{member: onOrg(p, p.key), t: t, seen: make(map[string]int)}
	make := func(path string) string {
		var made webhook
		if _, err := w.call(t.Context(), "POST", webhooksPath, map[string]any{"url": receiver.URL + path, "events": []string{"rfq.*"}}, &made); err != nil {
			t.Fatal(err)
		}
		if _, err := w.call(t.Context(), "PATCH", webhookPath(made.ID), map[string]any{"headers": map[string]string{"X-Password": "hidden"}}, nil); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	good, bad := make("/good"), make("/bad")
	event := w.publish(t, "rfq.created", nil)

	d := w.until(good, "delivered", func(d *listedDelivery) bool { return d.Status == "delivered" })
	if d.EventID != event || d.EventType != "rfq.created" || d.Attempts != 1 || d.NextAttemptAt != nil || len(d.History) != 1 ||
		d.History[0].Response.Body != "thanks" || d.History[0].Outcome != "delivered" {
		t.Errorf("delivered: %+v", d)
	}
	d = w.until(bad, "retrying", func(d *listedDelivery) bool { return d.Status == "retrying" })
	first := d.History[0]
	if *d.HTTPStatus != 500 || d.Outcome != "http_500" || first.Outcome != "http_500" || d.NextAttemptAt == nil || first.NextAttemptAt == nil || time.Until(*first.NextAttemptAt) > 6*time.Second ||
		!strings.HasPrefix(first.Response.Body, "no \x00 database") || first.Timing["reusedConnection"] == nil {
		t.Errorf("refused: %+v", d)
	}
	sent := map[string]string{}
	for _, h := range first.Request.Headers {
		sent[h.Name] = h.Value
	}
	if sent["X-TetraFi-DeliveryId"] != d.ID || sent["X-TetraFi-Attempt"] != "1" || len(sent["X-TetraFi-Signature"]) != 64 ||
		sent["X-Password"] != "[redacted]" {
		t.Errorf("headers %v", sent)
	}

	// Once more, at a word: it fails, and the schedule goes on.
	if _, err := w.call(t.Context(), "POST", webhookPath(bad)+"/deliveries/"+d.ID+"/retry", nil, nil); err != nil {
		t.Fatal(err)
	}
	byHand := func(a shownAttempt) bool { return a.ByHand && a.Attempt >= 2 && a.NextAttemptAt == nil }
	eventually(t, patience, func() (err error) {
		if d, err = w.one(bad, d.ID); err == nil && !slices.ContainsFunc(d.History, byHand) {
			err = fmt.Errorf("not by hand: %+v", d)
		}
		return err
	})
	if d.Status != "retrying" {
		t.Errorf("by hand: %+v", d)
	}

	// All of it is there after a kill, and without the index.
	p.kill()
	if slices.Contains(args, "--attempts-db") {
		dropTables(t, args)
	} else if err := os.RemoveAll(filepath.Join(args[slices.Index(args, "--data")+1], attemptsDir)); err != nil {
		t.Fatal(err)
	}
	p.start()
	again := w.until(bad, "as it was", func(d *listedDelivery) bool { return d.Attempts >= 2 })
	if again.ID != d.ID || again.EventID != event || len(again.History) < 2 {
		t.Errorf("after a kill: %+v, before %+v", again, d)
	}
	well.Store(true)
	eventually(t, patience, func() error {
		_, err := w.call(t.Context(), "POST", webhookPath(bad)+"/deliveries/"+d.ID+"/retry", nil, nil)
		return err
	})
	w.until(bad, "delivered", func(d *listedDelivery) bool { return d.Status == "delivered" })

	// Lists: by status, time, and page.
	second := w.publish(t, "rfq.created", nil)
	w.until(good, "delivered", func(d *listedDelivery) bool { return d.EventID == second && d.Status == "delivered" })
	var pages []string
	for query := "limit=1&status=delivered"; ; {
		l, err := w.list(good, query)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range l.Data {
			pages = append(pages, d.EventID)
		}
		if l.NextCursor == nil {
			break
		}
		query = "limit=1&status=delivered&cursor=" + *l.NextCursor
	}
	if want := []string{second, event}; !slices.Equal(pages, want) {
		t.Errorf("pages of events %v, want %v", pages, want)
	}
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	for query, want := range map[string]int{"status=dead": 0, "status=cancelled": 0, "to=2020-01-01": 0, "from=" + tomorrow: 0, "from=2020-01-01&to=" + tomorrow: 2, "": 2} {
		if l, err := w.list(good, query); err != nil || len(l.Data) != want {
			t.Errorf("%q: %d deliveries, want %d, %v", query, len(l.Data), want, err)
		}
	}
	for _, query := range []string{"status=lost", "limit=0", "limit=101", "cursor=x", "from=then", "stauts=dead"} {
		if _, err := w.list(good, query); err == nil || !strings.Contains(err.Error(), "400") {
			t.Errorf("%q: %v", query, err)
		}
	}
	// A test is among them.
	if _, err := w.call(t.Context(), "POST", webhookPath(good)+"/test", nil, nil); err != nil {
		t.Fatal(err)
	}
	tested := w.until(good, "a test", func(d *listedDelivery) bool { return d.Test && d.Status == "delivered" })
	if _, err := w.call(t.Context(), "POST", webhookPath(good)+"/deliveries/"+tested.ID+"/retry", nil, nil); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a test sent again: %v", err)
	}

	// Another process tells the same from a database that both share, though one of
	// them keeps it up.
	if slices.Contains(args, "--attempts-db") {
		other := *w
		other.member = onOrg(startProcess(t, shared), p.key)
		other.publish(t, "rfq.created", nil) // it shares its place with the test
		third := other.publish(t, "rfq.created", nil)
		other.until(good, "delivered", func(d *listedDelivery) bool { return d.EventID == third && d.Status == "delivered" })
		w.until(good, "delivered", func(d *listedDelivery) bool { return d.EventID == third && d.Status == "delivered" })
	}

	// The same at a terminal.
	env := []string{"SLUICE_URL=http://" + p.address, "SLUICE_KEY=" + p.key}
	if out, said, code := sluice(t, env, "endpoint", "deliveries", good, "--status", "delivered", "--limit", "1"); code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, "dlv_") {
		t.Errorf("at a terminal: %d, %s%s", code, out, said)
	}
	if out, said, code := sluice(t, env, "endpoint", "retry", bad, d.ID); code != 0 || !strings.HasPrefix(out, "1 to be attempted") {
		t.Errorf("at a terminal: %d, %s%s", code, out, said)
	}
	if out, said, code := sluice(t, env, "endpoint", "retry", bad, "--dead"); code != 0 || !strings.HasPrefix(out, "0 to be attempted") {
		t.Errorf("at a terminal: %d, %s%s", code, out, said)
	}

	// Who published is told of endpoints and statuses; nobody else of anything.
	var of struct{ Data []map[string]string }
	if _, err := w.call(t.Context(), "GET", "/v1/events/"+event+"/deliveries", nil, &of); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(of.Data, func(a, b map[string]string) int { return strings.Compare(a["endpointId"], b["endpointId"]) })
	want := []map[string]string{{"endpointId": good, "status": "delivered"}, {"endpointId": bad, "status": "delivered"}}
	slices.SortFunc(want, func(a, b map[string]string) int { return strings.Compare(a["endpointId"], b["endpointId"]) })
	if got, _ := json.Marshal(of.Data); string(got) != mustJSON(want) {
		t.Errorf("of the event: %s, want %s", got, mustJSON(want))
	}
	stranger := stranger(t, p, args)
	for _, path := range []string{webhookPath(good) + "/deliveries", webhookPath(good) + "/deliveries/" + tested.ID, "/v1/events/" + event + "/deliveries"} {
		if _, err := stranger.call(t.Context(), "GET", path, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("a stranger asks for %s: %v", path, err)
		}
	}
	if _, err := stranger.call(t.Context(), "POST", webhookPath(bad)+"/deliveries/"+d.ID+"/retry", nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a stranger asks for another attempt: %v", err)
	}

	// With its endpoint a delivery goes.
	if _, err := w.call(t.Context(), "DELETE", webhookPath(bad), nil, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		if _, err := w.call(t.Context(), "GET", "/v1/events/"+event+"/deliveries", nil, &of); err != nil || len(of.Data) != 1 {
			return fmt.Errorf("%v, %v", of.Data, err)
		}
		return nil
	})
}

// dropTables has a database forget a deployment.
func dropTables(t *testing.T, args []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, args[slices.Index(args, "--attempts-db")+1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	name := strings.TrimSuffix(args[slices.Index(args, "--prefix")+1], ".")
	rows, err := conn.Query(ctx, "SELECT tablename FROM pg_tables WHERE tablename LIKE $1", name+`\_%`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 4 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	if _, err := conn.Exec(ctx, "DROP TABLE "+strings.Join(tables, ", ")); err != nil {
		t.Fatal(err)
	}
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// stranger makes another org, and a key of its own.
func stranger(t *testing.T, p *process, args []string) member {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(args[slices.Index(args, "--data")+1], "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	admin := &client{base: "http://" + p.ops, token: strings.TrimSpace(string(token))}
	org := "org_stranger"
	if _, err := admin.call(t.Context(), "POST", "/admin/v1/orgs", map[string]string{"id": org, "name": org}, nil); err != nil {
		t.Fatal(err)
	}
	var made apiKey
	in := map[string]any{"environment": "sandbox", "scopes": []string{"subscribe", "manage"}}
	if _, err := admin.call(t.Context(), "POST", "/admin/v1/orgs/"+org+"/keys", in, &made); err != nil {
		t.Fatal(err)
	}
	return member{&client{base: "http://" + p.address, token: made.Key}, org}
}
