package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/manage"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
)

// isolation is a node with eight parties: two orgs that have keys, and two whose users
// have logged in, each in both environments. Each has one of all that there is, and what it
// publishes, names and describes has its word.
type isolation struct {
	*storyNode
	t        *testing.T
	log      *lockedBuffer // all that the node says
	parties  []*party
	sessions map[string]session // those among the tokens
	visits   []*visitor
	client   *http.Client
}

func newIsolation(t *testing.T) *isolation {
	w := &isolation{t: t, log: new(lockedBuffer), sessions: make(map[string]session), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	t.Cleanup(w.client.CloseIdleConnections)
	w.storyNode = startStory(t, nodeConfig{Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	receiver := httptest.NewServer(w)
	t.Cleanup(receiver.Close)
	w.withKeys("org_one")
	w.withKeys("org_two")
	w.withSessions("three", event.Sandbox)
	end := w.withSessions("four", event.Live)
	for _, p := range w.parties {
		w.asAdmin("PUT", "/admin/v1/orgs/"+p.org+"/providers/stripe", map[string]string{"secret": "a secret of " + p.org}, nil)
		p.word, p.ids = "canary_"+p.org+"_"+p.env, map[string]string{"receiver": receiver.URL + p.path()}
		w.furnish(p)
	}
	<-time.After(time.Until(end))
	return w
}

// deliveredBy are the dialects of which each party has an endpoint.
var deliveredBy = []string{"tetrafi", "tenzro", "quub", "tempo", "standardwebhooks"}

// ServeHTTP is every party's receiver.
func (w *isolation) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	for _, p := range w.parties {
		if strings.HasPrefix(r.URL.Path, p.path()+"/") {
			fmt.Fprintf(&p.heard, "delivered to %s: %v %s\n", r.URL.Path, r.Header, body)
		}
	}
}

func (w *isolation) asAdmin(method, path string, in, out any) {
	w.t.Helper()
	if _, err := w.admin.call(w.t.Context(), method, path, in, out); err != nil {
		w.t.Fatal(err)
	}
}

// furnish makes a party all that calls are about, by the calls that make it.
func (w *isolation) furnish(p *party) {
	made := regexp.MustCompile(`"(?:id|webhookId|replayId)":"((?:wh|sub|key|evt|rpl)_\w+)"`)
	secret := regexp.MustCompile(`"(?:secret|webhook_secret|key)":"([^"]+)"`)
	do := func(label string) {
		w.t.Helper()
		a := w.ask(w.call(label, p, p, p), p.token, p.org)
		if !slices.Contains(publicCalls[label].own, a.status) {
			w.t.Fatalf("%s of %s: %s", label, p.name(), a)
		}
		if m := made.FindStringSubmatch(a.body); m != nil {
			p.ids[publicCalls[label].makes] = m[1]
		}
		if m := secret.FindStringSubmatch(a.body); m != nil {
			p.secrets = append(p.secrets, m[1])
		}
	}
	for _, r := range w.server.Routes() {
		label := labelOf(&r)
		if publicCalls[label].makes != "" && !strings.Contains(label, "{") {
			do(label)
		}
	}
	// Both orgs, in both environments, have an event of this id.
	w.eventually(p, "to publish", func() error {
		in := `{"id":"evt_shared","type":"chain.transfer","network":"mainnet","data":` + transferOf(p) + `}`
		a := w.ask(request{method: "POST", path: "/v1/events", body: in}, p.token, p.org)
		if a.status != http.StatusAccepted {
			return fmt.Errorf("published: %s", a)
		}
		return nil
	})
	w.eventually(p, "all to be delivered", func() error {
		for _, what := range deliveredBy {
			a := w.ask(request{method: "GET", path: "/v1/webhooks/" + p.ids[what] + "/deliveries?status=delivered"}, p.token, p.org)
			found := regexp.MustCompile(`"(dlv_\w+)"`).FindAllStringSubmatch(a.body, -1)
			if len(found) == 0 {
				return fmt.Errorf("%s: %s", what, a)
			}
			p.ids["delivery of "+what] = found[0][1]
		}
		return nil
	})
	do("POST /v1/webhooks/{id}/replay")
	w.eventually(p, "a replay to end", func() error {
		a := w.ask(w.call("GET /v1/webhooks/{id}/replays/{replayId}", p, p, p), p.token, p.org)
		if !strings.Contains(a.body, `"status":"completed"`) {
			return fmt.Errorf("replay: %s", a)
		}
		return nil
	})
}

// settle waits until all that the party published is delivered, and shown to be: what it
// sees changes by nobody's call but by itself as long as it isn't.
func (w *isolation) settle(p *party) {
	w.t.Helper()
	w.eventually(p, "all that it published to be shown as delivered", func() error {
		for _, what := range deliveredBy {
			minted := p.minted
			if what == "tempo" { // whose subscription is to transfers
				minted = 0
			}
			a := w.ask(request{method: "GET", path: "/v1/webhooks/" + p.ids[what] + "/deliveries?limit=100"}, p.token, p.org)
			count := func(member string) int { return strings.Count(a.body, member) }
			if count(`"eventType":"chain.transfer"`) == 0 || count(`"eventType":"chain.mint"`) != minted || count(`"eventType":`) != count(`"status":"delivered"`) {
				return fmt.Errorf("%s, of %d minted: %s", what, minted, a.body)
			}
		}
		return nil
	})
}

func (w *isolation) eventually(p *party, what string, try func() error) {
	w.t.Helper()
	eventually(w.t, time.Minute, func() error {
		if err := try(); err != nil {
			return fmt.Errorf("%s waits for %s: %w", p.name(), what, err)
		}
		return nil
	})
}

// transferOf is data that every endpoint of the party's wants, Tempo's too.
func transferOf(p *party) string {
	return `{"token":"` + tempoToken + `","from":"` + tempoToken + `","amount":"5","status":"` + p.word + `"}`
}

// id gives what stands for a parameter of a call: the party's own; of nobody: one of the
// same form that there never was.
func (w *isolation) id(label, param string, p *party) string {
	what := param
	switch param {
	case "id":
		what = "event"
		if !strings.Contains(label, " /v1/events/") {
			what = dialectOf(label)
		}
	case "deliveryId":
		what = "delivery of " + dialectOf(label)
	case "replayId":
		what = "replay"
	case "org":
		if p == nil {
			return "org_six"
		}
		return p.org
	case "provider":
		return "stripe"
	case "lane":
		return "0"
	case "env":
		return p.env
	case "word":
		return p.word
	case "status":
		if p == nil {
			return never(w.parties[0].word)
		}
		return p.word
	}
	if p == nil {
		return never(w.id(label, param, w.parties[0]))
	}
	id, found := p.ids[what]
	if !found {
		w.t.Errorf("%s: the test has nothing that stands for {%s}", label, param)
	}
	return id
}

// never gives an id of the same form.
func never(id string) string {
	turned := []byte(id)
	for i := max(len(id)-8, 4); i < len(id); i++ {
		switch c := id[i]; {
		case c >= '0' && c <= '9':
			turned[i] = '0' + (c-'0'+3)%10
		case c >= 'a' && c <= 'f':
			turned[i] = 'a' + (c-'a'+3)%6
		case c > 'f' && c <= 'z':
			turned[i] = 'g' + (c-'g'+3)%20
		case c >= 'A' && c <= 'Z':
			turned[i] = 'A' + (c-'A'+3)%26
		}
	}
	return string(turned)
}

// dialectServing gives the dialect whose call that is; nil: it isn't of any.
func dialectServing(label string) *dialect.Dialect {
	for _, d := range all.Dialects {
		for _, r := range d.Routes {
			if r.Method+" "+r.Path == label {
				return d
			}
		}
	}
	return nil
}

// dialectOf names the dialect whose endpoints a call is about.
func dialectOf(label string) string {
	if d := dialectServing(label); d != nil {
		return d.Name
	}
	return all.Dialects[0].Name
}

// request is a call, filled in.
type request struct{ method, path, body string }

// answer is all that a caller sees, but for the time and how many calls are left to it.
type answer struct {
	status int
	header string
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %s%.300s", a.status, a.header, a.body) }

func (w *isolation) ask(r request, token, org string) answer {
	return w.askAt(w.URL(), r, token, org)
}

// askAt may be called from any goroutine. An answer that didn't come has no status.
func (w *isolation) askAt(base string, r request, token, org string) answer {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		return answer{body: err.Error()}
	}
	w.bring(req, token)
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("X-Tenant-ID", org)
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	for _, name := range []string{"Date", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
		resp.Header.Del(name)
	}
	var header strings.Builder
	resp.Header.Write(&header)
	return answer{resp.StatusCode, header.String(), string(body)}
}

// adminCalls lists the admin API.
func (w *isolation) adminCalls() []string { return (*w.ops.admin.Load()).(*manage.Admin).Calls() }
