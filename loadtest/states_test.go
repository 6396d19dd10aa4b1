package loadtest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/loadtest/fleet"
	"sluice/loadtest/ledger"
)

// TestStates: while events come, one endpoint wants them in order and refuses some,
// one is paused for a while, and one says that it is gone. Each gets what it should,
// and nothing else; what is shown of deliveries meanwhile never goes back; and in the
// end what is shown and counted is what came.
func TestStates(t *testing.T) {
	t.Parallel()
	f := startFleet(t, nil, t.TempDir(), "all")
	l := newLoad(t, f, 2)
	all := []string{"*.created", "*.received", "*.done", "*.pending"} // of publishers, not endpoint.disabled
	paused := l.receive(t, l.orgs[0], manners{name: "paused", patterns: all})
	gone := l.receive(t, l.orgs[0], manners{name: "gone", patterns: all, answer: func(string, int) int { return http.StatusGone }})
	receivers := []*receiver{paused, gone,
		l.receive(t, l.orgs[0], manners{name: "ordered", patterns: all, ordered: true, answer: refusesSome(40, 1<<60)}),
		l.receive(t, l.orgs[1], manners{name: "other", patterns: all, answer: refusesSome(40, 1<<60)})}
	unwatch := l.watch(t, receivers)
	quit := l.publish(1, 1)

	for l.endpoint(t, gone).Status != "disabled" {
		time.Sleep(50 * time.Millisecond)
	}
	l.ledger.Closed(gone.id, "disabled", time.Now(), time.Time{})
	l.patch(t, paused, map[string]any{"status": "paused"})
	from := time.Now()
	time.Sleep(8 * time.Second) // more than Rules.Slack
	until := time.Now()
	l.patch(t, paused, map[string]any{"status": "active"})
	l.ledger.Closed(paused.id, "paused", from, until)
	quit()

	held := l.admit(t, gone)
	l.settle(t, time.Minute)
	unwatch()
	l.count(t)
	if n := l.metric(t, `sluice_held{org="`+l.orgs[0].id+`"}`, float64(held)); n != float64(held) {
		t.Errorf("%d are listed as held, and %v are counted", held, n)
	}
	r := l.ledger.Check()
	l.verdict(t, r, testLog{t})
	if r.Failed < 2 || r.Admitted != held || held < 10 || r.Repeats > 0 {
		t.Errorf("%d attempts failed, %d came again, %d deliveries are admitted, and %d held", r.Failed, r.Repeats, r.Admitted, held)
	}
}

// shownEndpoint and shownDelivery are what the API gives of them.
type (
	shownEndpoint struct{ Status string }
	shownDelivery struct {
		ID, EventID, Status string
		Attempts            int
	}
)

func (l *load) path(r *receiver) string { return "/v1/webhooks/" + r.id }

func (l *load) endpoint(t *testing.T, r *receiver) (ep shownEndpoint) {
	t.Helper()
	l.call(t, l.fleet.with("api")[0].Address, "GET", l.path(r), r.org.key, nil, &ep)
	return ep
}

func (l *load) patch(t *testing.T, r *receiver, change any) {
	t.Helper()
	l.call(t, l.fleet.with("api")[0].Address, "PATCH", l.path(r), r.org.key, change, nil)
}

// deliveries gives a page of what became of an endpoint's deliveries.
func (l *load) deliveries(t *testing.T, r *receiver, query string) (page []shownDelivery, next string) {
	t.Helper()
	var in struct {
		Data       []shownDelivery
		NextCursor *string
	}
	l.call(t, l.fleet.with("api")[0].Address, "GET", l.path(r)+"/deliveries?"+query, r.org.key, nil, &in)
	if in.NextCursor != nil {
		next = *in.NextCursor
	}
	return in.Data, next
}

// watch looks at the newest deliveries again and again, and writes down where they
// stand, until unwatch.
func (l *load) watch(t *testing.T, receivers []*receiver) (unwatch func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			for _, r := range receivers {
				page, _ := l.deliveries(t, r, "limit=100")
				for _, d := range page {
					l.ledger.Stood(ledger.Standing{Delivery: d.ID, Event: d.EventID, Endpoint: r.id, Status: d.Status, Attempts: d.Attempts, At: time.Now()})
				}
			}
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return func() { close(done); watching.Wait() }
}

// admit writes down what is held for an endpoint, once nothing is missing that isn't,
// of any.
func (l *load) admit(t *testing.T, r *receiver) (held int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		held = 0
		for cursor := ""; ; {
			page, next := l.deliveries(t, r, "status=held&limit=100&cursor="+cursor)
			for _, d := range page {
				l.ledger.Owed(d.EventID, r.id, "held")
			}
			held += len(page)
			if cursor = next; next == "" {
				break
			}
		}
		missing := l.ledger.Check().Count[ledger.Lost]
		if missing == 0 {
			l.ledger.Counted(r.id, "held", held)
			return held
		}
		if time.Now().After(end) {
			t.Fatalf("%d are held for %s, and %d deliveries are missing", held, r.name, missing)
		}
	}
}

// count writes down what the deployment has counted of each org, once it is all that
// came, or has had its time.
func (l *load) count(t *testing.T) {
	t.Helper()
	came := l.ledger.Check().Attempts
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		sum := 0
		type used struct{ Attempts, Delivered int }
		of := make(map[string]used)
		for _, o := range l.orgs {
			var in struct{ Months []used }
			l.call(t, l.fleet.with("api")[0].Ops, "GET", "/admin/v1/orgs/"+o.id+"/usage", fleet.AdminToken, nil, &in)
			for _, m := range in.Months { // two, around midnight
				u := of[o.id]
				of[o.id] = used{u.Attempts + m.Attempts, u.Delivered + m.Delivered}
				sum += m.Attempts
			}
		}
		if sum != came && time.Now().Before(end) {
			continue
		}
		for org, u := range of {
			l.ledger.Counted(org, ledger.Attempts, u.Attempts)
			l.ledger.Counted(org, ledger.Delivered, u.Delivered)
		}
		return
	}
}

// metric gives what a process shows under a name, labels included, once that is what
// is wanted, or has had its time.
func (l *load) metric(t *testing.T, name string, want float64) (value float64) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		text, err := scrape(l.fleet.with("dispatcher")[0].Ops)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			if rest, found := strings.CutPrefix(lines.Text(), name+" "); found {
				if value, err = strconv.ParseFloat(rest, 64); err != nil {
					t.Fatal(err)
				}
			}
		}
		if value == want || time.Now().After(end) {
			return value
		}
	}
}

func scrape(ops string) (string, error) {
	resp, err := http.Get("http://" + ops + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("metrics: %s", resp.Status)
	}
	return string(text), err
}
