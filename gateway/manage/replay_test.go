package manage_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/gateway/manage"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
)

func TestReplayChecksWhatItIsGiven(t *testing.T) {
	w := openWorld(t)
	ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	for body, path := range map[string]string{
		`{"from":"2026-11-22T03:10:00Z"}`:                                              "",
		`{"from":"2020-01-01","to":"2020-01-01","events":["rfq.*"],"failedOnly":true}`: "",
		`{"from":"2026-11-22T03:10:00+02:00","to":"` + tomorrow + `"}`:                 "",
		`{}`:                          "from",
		`{"from":"yesterday"}`:        "from",
		`{"from":"` + tomorrow + `"}`: "from",
		`{"from":"2020-01-02","to":"2020-01-01"}`:                     "to",
		`{"from":"2020-01-01T00:00:00Z","to":"2020-01-01T00:00:00Z"}`: "to",
		`{"from":"2020-01-01","to":"later"}`:                          "to",
		`{"from":"2020-01-01","events":[]}`:                           "events",
		`{"from":"2020-01-01","events":["a.b","**"]}`:                 "events.1",
		`{"from":"2020-01-01","failedonly":true}`:                     "failedonly",
		`{"from":7}`: "from",
	} {
		r, err := w.core.StartReplay(t.Context(), owner, ep.ID, []byte(body))
		if path == "" {
			if err != nil {
				t.Errorf("%s: %v", body, err)
			} else if _, err := w.core.CancelReplay(t.Context(), owner, ep.ID, r.ID); err != nil {
				t.Error(err)
			}
			continue
		}
		e := wantError(t, err, 400, dialect.BadRequest)
		if len(e.Issues) != 1 || strings.Join(e.Issues[0].Path, ".") != path {
			t.Errorf("%s: %+v", body, e.Issues)
		}
	}
}

// narrow is a log that has little room.
type narrow struct{ eventlog.Log }

func (narrow) Scarce() bool { return true }

// While the log has little room nobody begins what can wait.
func TestReplayIsRefusedWithoutRoom(t *testing.T) {
	w := openWorld(t)
	ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	core := manage.NewCore(w.control, narrow{w.log}, checkURL, dialects, nil)
	_, err = core.StartReplay(t.Context(), owner, ep.ID, []byte(`{"from":"2026-11-22"}`))
	if e := wantError(t, err, 503, dialect.Unavailable); e.RetryAfter == 0 {
		t.Errorf("%+v doesn't say when to try again", e)
	}
	if n := len(w.control.Replays(ep.ID)); n != 0 {
		t.Errorf("%d were begun", n)
	}
}

func TestReplaysAreTheirOwners(t *testing.T) {
	w := openWorld(t)
	ep, err := w.core.CreateEndpoint(t.Context(), owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"from":"2026-11-22","events":["rfq.*"]}`)
	for _, who := range []*key.Principal{stranger, ownerLive} {
		_, err := w.core.StartReplay(t.Context(), who, ep.ID, body)
		wantError(t, err, 404, dialect.NotFound)
	}
	first, err := w.core.StartReplay(t.Context(), owner, ep.ID, body)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.core.StartReplay(t.Context(), owner, ep.ID, body); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.core.StartReplay(t.Context(), owner, ep.ID, body)
	wantError(t, err, 409, dialect.Conflict)
	_, err = w.core.Replay(t.Context(), stranger, ep.ID, first.ID)
	wantError(t, err, 404, dialect.NotFound)
	_, err = w.core.CancelReplay(t.Context(), stranger, ep.ID, first.ID)
	wantError(t, err, 404, dialect.NotFound)
	_, err = w.core.Replays(t.Context(), stranger, ep.ID)
	wantError(t, err, 404, dialect.NotFound)
	_, err = w.core.Replay(t.Context(), owner, ep.ID, "rpl_none")
	wantError(t, err, 404, dialect.NotFound)

	statuses := func() string {
		t.Helper()
		answer, err := w.core.Replays(t.Context(), owner, ep.ID)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Data []struct {
				ReplayID, WebhookID, Status string
				Events                      []string
			}
		}
		if err := json.Unmarshal(answer, &list); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		var out []string
		for _, r := range list.Data {
			if r.WebhookID != ep.ID || len(r.Events) != 1 {
				t.Errorf("listed as %+v", r)
			}
			out = append(out, r.Status)
		}
		if n := len(list.Data); n == 0 || list.Data[n-1].ReplayID != first.ID {
			t.Errorf("the first isn't listed last: %s", answer)
		}
		return strings.Join(out, " ")
	}
	if got := statuses(); got != "pending pending pending running" {
		t.Errorf("four are %s", got)
	}
	if _, err := w.core.CancelReplay(t.Context(), owner, ep.ID, first.ID); err != nil {
		t.Fatal(err)
	}
	if got := statuses(); got != "pending pending running cancelled" {
		t.Errorf("without the first they are %s", got)
	}
	paused := endpoint.Paused
	if _, err := w.core.PatchEndpoint(t.Context(), owner, ep.ID, dialect.EndpointPatch{Status: &paused}); err != nil {
		t.Fatal(err)
	}
	if got := statuses(); got != "waiting waiting waiting cancelled" {
		t.Errorf("paused they are %s", got)
	}
	next := w.control.Replays(ep.ID)[1]
	if _, err := w.control.Do(t.Context(), &control.ReplayProgress{Endpoint: ep.ID, Replay: next.ID, Ended: true}); err != nil {
		t.Fatal(err)
	}
	_, err = w.core.CancelReplay(t.Context(), owner, ep.ID, next.ID)
	wantError(t, err, 409, dialect.Conflict)
	if got := statuses(); got != "waiting waiting completed cancelled" {
		t.Errorf("in the end they are %s", got)
	}
	// On another node, which has just begun.
	if r := w.node(t).Replay(ep.ID, next.ID); r == nil || !r.Ended() {
		t.Errorf("another node has %+v", r)
	}
}
